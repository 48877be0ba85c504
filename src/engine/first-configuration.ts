/** Whether there is a configuration at all, found out with so little that the start of the console can wait for it. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { choosePlaces } from '../config/places.ts';

export interface ConfigurationFound {
  /** Path of phd.yaml. */
  file: string;
  /** False if there is no such file or it names no target. One that cannot be read or is broken counts as there. */
  hasTargets: boolean;
}

/** A target's number, however the list of targets is written. */
const TARGET = /^[^#\n]*\bnumber["']?\s*:\s*\d/m;

/** Throws USAGE if PHD_HOME is not an absolute path. */
export async function findConfiguration(env: NodeJS.ProcessEnv): Promise<ConfigurationFound> {
  const file = path.join(choosePlaces(env, process.getuid?.() === 0).configDir, 'phd.yaml');
  try {
    const text = await readFile(file, 'utf8');
    return { file, hasTargets: TARGET.test(text) };
  } catch (error) {
    return { file, hasTargets: (error as NodeJS.ErrnoException).code !== 'ENOENT' };
  }
}

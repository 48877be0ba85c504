/** Our side: the built program as a process of its own, in a home of its own. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command, ProcessRun } from './measure.ts';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export class PhdHome {
  readonly root: string;

  /** `targets`: lines of phd.yaml below `targets:`. */
  constructor(root: string, targets: readonly string[], datastore: string) {
    this.root = root;
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const lines = [
      'targets:',
      ...targets.map((line) => `  ${line}`),
      `datastores: [ ${JSON.stringify(datastore)} ]`,
    ];
    writeFileSync(path.join(root, 'phd.yaml'), `${lines.join('\n')}\n`, { mode: 0o600 });
  }

  command(...words: string[]): Command {
    return {
      program: process.execPath,
      args: [MAIN, ...words],
      env: { ...process.env, PHD_HOME: this.root },
    };
  }

  /** Writes a secret (0600); returns its path. */
  secret(name: string, content: string): string {
    const file = path.join(this.root, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  }
}

/** The last `done` line of a run with --json. Throws if there is none. */
export function doneLine(run: ProcessRun): Record<string, unknown> {
  const lines = run.stdout.split('\n').filter((line) => line.startsWith('{'));
  const done = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((one) => one.event === 'done');
  const last = done.at(-1);
  if (last === undefined) throw new Error(`phd printed no result: ${run.stderr.trim().split('\n').at(-1)}`);
  return last;
}

/** What one backup wrote: references `N:folder/file` and the files themselves on a local target. */
export interface WrittenArchive {
  mode: 'full' | 'delta';
  deltaRef: string;
  fullRef: string;
  deltaPath: string;
  fullPath: string;
  archiveBytes: number;
}

/**
 * Reads it out of the result of `phd backup --json` onto a local target whose folder is `targetFolder`. For a DELTA
 * `fullRef` names its own folder, where the FULL does not lie: take that of the FULL.
 */
export function writtenArchive(run: ProcessRun, targetFolder: string): WrittenArchive {
  const done = doneLine(run);
  const pathOf = (ref: string): string => path.join(targetFolder, ref.replace(/^\d+:/, ''));
  const deltaRef = String(done.archive);
  const fullRef = String(done.full);
  return {
    mode: done.mode === 'full' ? 'full' : 'delta',
    deltaRef,
    fullRef,
    deltaPath: pathOf(deltaRef),
    fullPath: pathOf(fullRef),
    archiveBytes: Number(done.archiveBytes),
  };
}

/** The DELTA as a program, against the plain unpacking of its FULL. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import type { ArchivePair, RoundInput } from './archive-round.ts';
import { type Contender, requireSameFile, runJob } from './measure.ts';

/**
 * `sh DELTA autorun restore` under dash with the tools of the system and under busybox with nothing else in its PATH;
 * both prove the finished disk. `zcat FULL` unpacks the same FULL and proves no more than gzip's CRC.
 */
export async function selfExtractorJob(
  input: RoundInput & { job: string },
  pair: ArchivePair,
): Promise<void> {
  const { folder, peers, round, samples, job } = input;
  const out = path.join(folder, 'out');
  const prepare = (): void => {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
  };
  const shell = (program: string, file: string, words: string[], env: NodeJS.ProcessEnv): Contender => ({
    program,
    isOurs: true,
    prepare,
    command: () => ({
      program: file,
      args: [...words, pair.deltaPath, 'autorun', 'restore'],
      env: { ...env, USE_RPATH: out },
      cwd: folder,
    }),
    syncPath: () => out,
    prove: () => requireSameFile(input.afterImage, path.join(out, 'bench-flat.vmdk')),
    ignoresPeak: true,
  });
  const contenders: Contender[] = [];
  const dash = peers.get('dash');
  if (dash !== undefined) contenders.push(shell('dash DELTA', dash.path, [], process.env));
  const busybox = peers.get('busybox');
  if (busybox !== undefined) {
    const applets = path.join(folder, 'busybox');
    linkApplets(busybox.path, applets);
    contenders.push(shell('busybox sh DELTA', busybox.path, ['sh'], { PATH: applets, TMPDIR: folder }));
  }
  const gzip = peers.get('gzip');
  if (gzip !== undefined) {
    const file = path.join(out, 'disk');
    contenders.push({
      program: 'zcat FULL',
      isOurs: false,
      prepare,
      command: () => ({ program: gzip.path, args: ['-dc', pair.fullPath], stdoutFile: file, env: gzip.env }),
      syncPath: () => out,
      prove: () => requireSameFile(input.beforeImage, file),
      ignoresPeak: true,
    });
  }
  await runJob(job, contenders, round, samples);
  rmSync(out, { recursive: true, force: true });
}

function linkApplets(busybox: string, folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  const applets = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n');
  for (const applet of applets) symlinkSync(busybox, path.join(folder, applet));
}

/** Indexing of a local, an FTP and an SSH target: cold, and when nothing has changed. */
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startVsftpd } from '../support/servers/ftpd.ts';
import type { RunningServer } from '../support/servers/own-namespace.ts';
import { startSshServer } from '../support/servers/sshd.ts';
import { runsOfVm } from './archive-names.ts';
import { type Contender, type ProcessRun, runJob, runOrThrow } from './measure.ts';
import { PhdHome } from './phd.ts';
import type { Samples } from './samples.ts';
import { accessFiles } from './transport.ts';

const RUNS_OF_A_VM = 49;
const ARCHIVES_OF_A_VM = 2 * RUNS_OF_A_VM + 2;
/** Before the day within which a folder is listed again. */
const FOLDER_TIME = new Date('2025-03-01T00:00:00Z');

export const INDEX_COLD = 'index, cold';
export const INDEX_UNCHANGED = 'index, unchanged';

/**
 * Makes the archives once, serves them three ways, and lists each target, and all at once, `runs` times. Returns a
 * line for each kind of which folders had to be listed again although nothing had changed.
 */
export async function measureIndexing(
  folder: string,
  archiveCount: number,
  runs: number,
  samples: Samples,
): Promise<string[]> {
  const work = path.join(folder, 'index');
  const listedAgain = new Map<string, string>();
  const local = path.join(work, 'archives');
  mkdirSync(local, { recursive: true });
  const count = makeArchives(local, archiveCount);
  const servers: RunningServer[] = [];
  try {
    const ftp = await startVsftpd();
    servers.push(ftp);
    const ssh = await startSshServer();
    servers.push(ssh);
    for (const server of servers) {
      await runOrThrow({ program: 'cp', args: ['-a', local, path.join(server.folder, 'archives')] });
    }
    const access = accessFiles(work, 0, ssh);
    const password = path.join(work, 'password');
    writeFileSync(password, `${ftp.password}\n`, { mode: 0o600 });
    const targets = [
      `- { number: 1, name: local, transport: vmfs, path: ${JSON.stringify(local)} }`,
      `- { number: 2, name: ftp, transport: ftp, host: ${ftp.host}, port: ${ftp.port}, user: ${ftp.user}, passwordFile: ${JSON.stringify(password)}, path: /archives }`,
      `- { number: 3, name: ssh, transport: ssh, host: ${ssh.host}, port: ${ssh.port}, user: ${ssh.user}, privateKeyFile: ${JSON.stringify(access.key)}, knownHostsFile: ${JSON.stringify(access.known)}, path: ${JSON.stringify(path.join(ssh.folder, 'archives'))} }`,
    ];
    for (let round = 0; round < runs; round++) {
      const kinds = [
        { program: `local, ${count} archives`, lines: targets.slice(0, 1) },
        { program: `FTP, ${count} archives`, lines: targets.slice(1, 2) },
        { program: `SSH, ${count} archives`, lines: targets.slice(2, 3) },
        { program: `all three at once, ${3 * count} archives`, lines: targets },
      ].map((kind, at) => ({
        ...kind,
        home: new PhdHome(path.join(work, `home-${round}-${at}`), kind.lines, work),
      }));
      const contender = (
        { program, home, lines }: (typeof kinds)[number],
        check: (result: Record<string, unknown>) => void,
      ): Contender => ({
        program,
        isOurs: true,
        command: () => home.command('index', '--json'),
        prove: (run) => requireComplete(run, lines.length, count, check),
      });
      await runJob(
        INDEX_COLD,
        kinds.map((kind) => contender(kind, () => {})),
        2 * round,
        samples,
      );
      const noteListed = (result: Record<string, unknown>): void => {
        const listed = Number(result.folderCount) - Number(result.unchangedFolders);
        const target = String(result.targetName);
        listedAgain.set(
          target,
          `${INDEX_UNCHANGED}: ${target}: ${listed} of ${result.folderCount} folders listed again`,
        );
      };
      await runJob(
        INDEX_UNCHANGED,
        kinds.map((kind) => contender(kind, noteListed)),
        2 * round,
        samples,
      );
    }
    return [...listedAgain.values()];
  } finally {
    for (const server of servers) await server.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/** Folders and tiny files with names as real; returns how many archives were made. */
function makeArchives(target: string, wanted: number): number {
  let count = 0;
  for (let vm = 0; vm * ARCHIVES_OF_A_VM < wanted; vm++) {
    for (const run of runsOfVm(vm, RUNS_OF_A_VM)) {
      const folder = path.join(target, run.folder);
      mkdirSync(folder, { mode: 0o755 });
      for (const { file } of run.archives)
        writeFileSync(path.join(folder, file), 'archive\n', { mode: 0o644 });
      count += run.archives.length;
      utimesSync(folder, FOLDER_TIME, FOLDER_TIME);
    }
  }
  return count;
}

function requireComplete(
  run: ProcessRun,
  targetCount: number,
  archiveCount: number,
  check: (result: Record<string, unknown>) => void,
): void {
  const results = run.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  if (results.length !== targetCount) throw new Error(`${results.length} targets instead of ${targetCount}`);
  for (const result of results) {
    if (result.outcome !== 'complete' || result.archiveCount !== archiveCount) {
      throw new Error(`target ${result.targetName}: ${result.outcome}, ${result.archiveCount} archives`);
    }
    check(result);
  }
}

/**
 * The pass that has nothing to do: a target of many archives on an FTP server, lines for a thousand of its disks, each
 * restored already. The server's own log tells whether an archive was opened.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { TEST_UID } from '../support/servers/own-namespace.ts';
import { runsOfVm } from './archive-names.ts';
import { type ProcessRun, runJob, runOrThrow } from './measure.ts';
import { PhdHome } from './phd.ts';
import type { Samples } from './samples.ts';

const RUNS_OF_A_VM = 49;
const ARCHIVES_OF_A_VM = 2 * RUNS_OF_A_VM + 2;
const MOST_LINES = 1_000;
/** Before the day within which a folder is listed again. */
const FOLDER_TIME = new Date('2025-06-01T00:00:00Z');

export const IDLE_PASS = 'replication pass, nothing to do';
export const IDLE_PASS_PROGRAM = 'phd replicate run';

export interface IdlePassResult {
  archiveCount: number;
  lineCount: number;
  /** Archives that the server was asked for by all measured passes. */
  archivesRead: number;
}

/** Makes the archives, lists them once, and runs the pass `runs` times. */
export async function measureIdlePass(
  folder: string,
  wanted: number,
  runs: number,
  samples: Samples,
): Promise<IdlePassResult> {
  const work = path.join(folder, 'replication');
  mkdirSync(work, { recursive: true });
  const serverLog = path.join(work, 'ftp.log');
  const server = await startVsftpd({
    lines: [
      'xferlog_enable=YES',
      'xferlog_std_format=NO',
      'log_ftp_protocol=YES',
      `vsftpd_log_file=${serverLog}`,
    ],
  });
  try {
    const standby = path.join(work, 'vmfs');
    mkdirSync(standby);
    const { archiveCount, lines, log } = makeSite(path.join(server.folder, 'archives'), standby, wanted);
    await runOrThrow({
      program: 'chown',
      args: ['-R', String(TEST_UID), path.join(server.folder, 'archives')],
    });
    const home = new PhdHome(
      path.join(work, 'home'),
      [
        `- { number: 2, name: ftp, transport: ftp, host: ${server.host}, port: ${server.port}, user: ${server.user}, passwordFile: password, path: /archives }`,
      ],
      standby,
    );
    home.secret('password', `${server.password}\n`);
    home.secret('vmdks.auto', lines.join(''));
    process.stderr.write(`listing ${archiveCount} archives ... `);
    const { seconds } = await runOrThrow(home.command('index', '--json'));
    process.stderr.write(`${seconds.toFixed(0)} s\n`);
    mkdirSync(path.join(home.root, 'state'), { recursive: true });
    home.secret('state/restored.log', log.join(''));
    const before = archivesRead(serverLog);
    for (let round = 0; round < runs; round++) {
      const contender = {
        program: IDLE_PASS_PROGRAM,
        isOurs: true,
        command: () => home.command('replicate', 'run', '--json'),
        prove: (run: ProcessRun) => requireIdle(run, lines.length),
      };
      await runJob(IDLE_PASS, [contender], round, samples);
    }
    return { archiveCount, lineCount: lines.length, archivesRead: archivesRead(serverLog) - before };
  } finally {
    await server.stop();
    rmSync(work, { recursive: true, force: true });
  }
}

/** Folders with archives of names as real; a line for the first disk of each VM, and a log that has it restored. */
function makeSite(
  target: string,
  standby: string,
  wanted: number,
): { archiveCount: number; lines: string[]; log: string[] } {
  mkdirSync(target);
  const lines: string[] = [];
  const log: string[] = [];
  let archiveCount = 0;
  for (let n = 0; n * ARCHIVES_OF_A_VM < wanted; n++) {
    let newest = '';
    let fields = '';
    const goal = path.join(standby, `vm${n}`, 'disk.vmdk');
    for (const run of runsOfVm(n, RUNS_OF_A_VM)) {
      const folder = path.join(target, run.folder);
      mkdirSync(folder);
      for (const { file, name } of run.archives) {
        writeFileSync(path.join(folder, file), 'archive\n');
        if (name.kind !== 'delta' || name.scsiId !== '00') continue;
        newest = `2:${run.folder}/${file}`;
        fields = `${run.vm}|${run.uuid}|00|${name.disk}|${goal}`;
      }
      archiveCount += run.archives.length;
      utimesSync(folder, FOLDER_TIME, FOLDER_TIME);
    }
    if (lines.length === MOST_LINES) continue;
    lines.push(`RESTORE:${fields}\n`);
    log.push(`2026-01-01T00:00:00.000Z\t${newest}\t${goal}\t1\trestored\n`);
  }
  return { archiveCount, lines, log };
}

/** How often the server was asked for the content of a file. */
export function archivesRead(serverLog: string): number {
  if (!existsSync(serverLog)) throw new Error('the server keeps no log');
  return readFileSync(serverLog, 'utf8').match(/FTP command: .*"RETR /g)?.length ?? 0;
}

function requireIdle(run: ProcessRun, lineCount: number): void {
  const last = JSON.parse(run.stdout.trimEnd().split('\n').at(-1) ?? '{}') as {
    counts?: Record<string, number>;
  };
  if (last.counts?.['already restored'] !== lineCount)
    throw new Error(`not every line had nothing to do: ${JSON.stringify(last.counts)}`);
}

/** A pass with nothing to do asks the target for names alone: the log of a real FTP server tells what it was asked. */
import { chownSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { runsOfVm } from '../bench/archive-names.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { TEST_UID } from '../support/servers/own-namespace.ts';
import { linesOf, Tale } from '../tales/tale.ts';

const VMS = 20;
const RUNS = 4;
const LONG_AGO = new Date('2025-06-01T00:00:00Z');

it('fetches no header where all is restored, lists no folder that cannot have changed, and opens the one archive it needs', async () => {
  const tale = new Tale();
  const log = tale.path('ftp.log');
  const server = await startVsftpd({
    lines: ['xferlog_enable=YES', 'xferlog_std_format=NO', 'log_ftp_protocol=YES', `vsftpd_log_file=${log}`],
  });
  try {
    const root = path.join(server.folder, 'backups');
    mkdirSync(root);
    const lines: string[] = [];
    const restored: string[] = [];
    for (let n = 0; n < VMS; n++) {
      let newest = '';
      const goal = tale.path('vmfs', `vm${n}`, 'disk.vmdk');
      for (const { vm, uuid, folder, archives } of runsOfVm(n, RUNS)) {
        mkdirSync(path.join(root, folder));
        for (const { file, name } of archives) {
          writeFileSync(path.join(root, folder, file), 'no archive at all\n'.repeat(100));
          if (name.kind !== 'delta' || name.scsiId !== '00') continue;
          newest = `2:${folder}/${file}`;
          lines[n] = `RESTORE:${vm}|${uuid}|00|${name.disk}|${goal}\n`;
        }
        utimesSync(path.join(root, folder), LONG_AGO, LONG_AGO);
      }
      restored.push(`2026-01-01T00:00:00.000Z\t${newest}\t${goal}\t1\trestored\n`);
    }
    chownSync(root, TEST_UID, TEST_UID);
    const { host, port, user, password } = server;
    tale.home.write('secrets/ftp', `${password}\n`);
    tale.home.writeConfig(
      `targets: [{ number: 2, name: ftp1, transport: ftp, host: ${host}, port: ${port}, user: ${user}, passwordFile: secrets/ftp, path: /backups }]\ndatastores: [vmfs]\n`,
    );
    tale.home.write('vmdks.auto', lines.join(''));
    tale.home.write('state/restored.log', restored.join(''));
    const asked = (): { lists: number; reads: number } => {
      const text = readFileSync(log, 'utf8');
      return {
        lists: text.match(/FTP command: .*"(LIST|MLSD|NLST)/g)?.length ?? 0,
        reads: text.match(/FTP command: .*"RETR /g)?.length ?? 0,
      };
    };
    const pass = async (): Promise<{ counts: unknown; lists: number; reads: number }> => {
      const before = asked();
      const run = await tale.phd(['replicate', 'run', '--json', '--assume-off']);
      const [{ counts } = {}] = linesOf(run, 'pass');
      const after = asked();
      return { counts, lists: after.lists - before.lists, reads: after.reads - before.reads };
    };
    const first = await pass();
    expect(first).toMatchObject({ counts: { 'already restored': VMS }, reads: 0 });
    expect(first.lists).toBeGreaterThan(VMS * RUNS);
    expect(await pass()).toEqual({ counts: { 'already restored': VMS }, lists: 1, reads: 0 });
    // A server that shows no zone: a day and a half is too young to be sure that nothing was added since.
    const young = new Date(Date.now() - 36 * 3_600_000);
    const [folder = ''] = readdirSync(root);
    utimesSync(path.join(root, folder), young, young);
    for (const _ of [1, 2]) expect((await pass()).lists).toBe(2);
    // What the log does not name has to be opened: so the count above was able to be another one.
    tale.home.write('state/restored.log', restored.slice(1).join(''));
    const last = await pass();
    expect(last.counts).toMatchObject({ 'already restored': VMS - 1, 'no match': 1 });
    expect(last.reads).toBeGreaterThan(0);
  } finally {
    await server.stop();
    tale.remove();
  }
});

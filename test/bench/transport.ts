/** Restore over SFTP from a real OpenSSH server, against `scp` of the FULL. */
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startSshServer } from '../support/servers/sshd.ts';
import type { ArchivePair } from './archive-round.ts';
import { type Contender, requireSameFile, runJob, runOrThrow } from './measure.ts';
import type { PeerPrograms } from './peer-programs.ts';
import { PhdHome } from './phd.ts';
import type { Samples } from './samples.ts';

export const TRANSPORT_JOB = 'restore over SSH, synced';

export interface TransportInput {
  folder: string;
  afterImage: string;
  datastore: string;
  peers: PeerPrograms;
  samples: Samples;
  round: number;
}

/** One round; accounts with SFTP alone and with a shell, on loopback. */
export async function transportRound(input: TransportInput, pair: ArchivePair): Promise<void> {
  const { peers, samples, round } = input;
  const folder = path.join(input.folder, 'transport');
  const out = path.join(folder, 'out');
  mkdirSync(folder);
  const servers = [
    { program: 'phd, SFTP only', server: await startSshServer({ sftpOnly: true }) },
    { program: 'phd, account with a shell', server: await startSshServer() },
  ];
  const prepare = (): void => {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
  };
  try {
    const contenders: Contender[] = [];
    for (const [at, { program, server }] of servers.entries()) {
      const archives = path.join(server.folder, 'archives');
      cpSync(pair.targetFolder, archives, { recursive: true });
      await runOrThrow({ program: 'chmod', args: ['-R', 'a+rX', archives] });
      const access = accessFiles(folder, at, server);
      const target = `- { number: 2, name: ssh, transport: ssh, host: ${server.host}, port: ${server.port}, user: ${server.user}, privateKeyFile: ${access.key}, knownHostsFile: ${access.known}, path: ${archives} }`;
      const home = new PhdHome(path.join(folder, `home-${at}`), [target], input.datastore);
      const ref = pair.deltaRef.replace(/^\d+:/, '2:');
      contenders.push({
        program,
        isOurs: true,
        prepare,
        command: () => home.command('restore', ref, '--to', out, '--json'),
        syncPath: () => out,
        prove: () => requireSameFile(input.afterImage, path.join(out, 'bench-flat.vmdk')),
      });
      const scp = peers.get('scp');
      if (at > 0 || scp === undefined) continue;
      const remote = path.join(archives, path.relative(pair.targetFolder, pair.fullPath));
      const options = ['UserKnownHostsFile=' + access.known, 'StrictHostKeyChecking=yes', 'BatchMode=yes'];
      contenders.push({
        program: 'scp of the FULL',
        isOurs: false,
        prepare,
        command: () => ({
          program: scp.path,
          args: [
            '-q',
            ...options.flatMap((option) => ['-o', option]),
            ...['-i', access.key, '-P', String(server.port)],
            `${server.user}@${server.host}:${remote}`,
            path.join(out, 'full'),
          ],
          env: scp.env,
        }),
        syncPath: () => out,
        prove: () => requireSameFile(pair.fullPath, path.join(out, 'full')),
        ignoresPeak: true,
      });
    }
    await runJob(TRANSPORT_JOB, contenders, round, samples);
  } finally {
    for (const { server } of servers) await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes the key of the account and the key of the host where both programs find them. */
export function accessFiles(
  folder: string,
  at: number,
  server: { host: string; port: number; privateKey: string; hostKey: string },
): { key: string; known: string } {
  const key = path.join(folder, `key-${at}`);
  const known = path.join(folder, `known-hosts-${at}`);
  writeFileSync(key, server.privateKey, { mode: 0o600 });
  writeFileSync(known, `[${server.host}]:${server.port} ${server.hostKey}\n`, { mode: 0o600 });
  return { key, known };
}

/** A real OpenSSH server with host keys, user and authorized_keys of its own. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requirePeer } from '../peers.ts';
import {
  freePort,
  makeServerFolders,
  type RunningServer,
  startServer,
  TEST_UID,
  TEST_USER,
} from './own-namespace.ts';
import { generateSshKey } from './ssh-key.ts';

export interface SshServer extends RunningServer {
  /** OpenSSH private key of the test user, under the passphrase that was asked for. */
  privateKey: string;
  /** `ssh-ed25519 AAAA...` */
  hostKey: string;
}

export interface SshServerOptions {
  /** SFTP only, as storage boxes give: no command runs. */
  sftpOnly?: boolean;
  port?: number;
  /** `sftp-server` flags, e.g. a list of refused requests. */
  sftpArguments?: string;
  /** Of the private key; default: none. */
  passphrase?: string;
}

export async function startSshServer(options: SshServerOptions = {}): Promise<SshServer> {
  const program = await requirePeer('sshd');
  const folders = await makeServerFolders('sshd');
  const hostKey = generateSshKey();
  const { passphrase } = options;
  const userKey = generateSshKey(passphrase);
  const hostKeyFile = path.join(folders.base, 'host_key');
  writeFileSync(hostKeyFile, hostKey.private, { mode: 0o600 });
  const keysFolder = path.join(folders.base, 'keys');
  mkdirSync(keysFolder);
  chmodSync(keysFolder, 0o755);
  const keysFile = path.join(keysFolder, TEST_USER);
  writeFileSync(keysFile, `${userKey.public}\n`, { mode: 0o644 });
  execFileSync('chown', [`${TEST_UID}:${TEST_UID}`, keysFile]);
  const port = options.port ?? (await freePort());
  const config = path.join(folders.base, 'sshd_config');
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${hostKeyFile}`,
    `AuthorizedKeysFile ${keysFile}`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication yes',
    'PidFile none',
    'MaxStartups 100',
    `Subsystem sftp internal-sftp ${options.sftpArguments ?? ''}`,
    ...(options.sftpOnly ? [`ForceCommand internal-sftp ${options.sftpArguments ?? ''}`] : []),
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  const running = await startServer(folders, program, ['-D', '-e', '-f', config], port);
  return {
    ...running,
    privateKey: userKey.private,
    hostKey: hostKey.public.split(' ').slice(0, 2).join(' '),
  };
}

/** Real FTP servers: vsftpd, ProFTPD and Pure-FTPd, each with one account that sees its home as `/`. */
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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

export interface FtpServerOptions {
  port?: number;
  /** Further lines of the server's own configuration (vsftpd and ProFTPD). */
  lines?: readonly string[];
}

export async function startVsftpd(options: FtpServerOptions = {}): Promise<RunningServer> {
  const program = await requirePeer('vsftpd');
  const folders = await makeServerFolders('vsftpd');
  const empty = path.join(folders.base, 'empty');
  mkdirSync(empty);
  const port = options.port ?? (await freePort());
  const config = path.join(folders.base, 'vsftpd.conf');
  const lines = [
    'listen=YES',
    'background=NO',
    'listen_address=127.0.0.1',
    `listen_port=${port}`,
    'anonymous_enable=NO',
    'local_enable=YES',
    'write_enable=YES',
    'local_umask=022',
    'chroot_local_user=YES',
    'allow_writeable_chroot=YES',
    `secure_chroot_dir=${empty}`,
    'pam_service_name=vsftpd',
    'seccomp_sandbox=NO',
    'isolate=NO',
    'isolate_network=NO',
    ...(options.lines ?? []),
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  return startServer(folders, program, [config], port);
}

export interface FtpsServer extends RunningServer {
  /** SHA-256 of the certificate, hex. */
  certificateSha256: string;
  certificateFile: string;
}

/** vsftpd that takes logins and data under TLS only, and only from a resumed session. */
export async function startVsftpdWithTls(): Promise<FtpsServer> {
  const openssl = await requirePeer('openssl');
  const holder = await makeServerFolders('certificate');
  const keyFile = path.join(holder.base, 'key.pem');
  const certificateFile = path.join(holder.base, 'certificate.pem');
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=ftp.test'];
  request.push('-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certificateFile);
  execFileSync(openssl.path, request, { env: openssl.env, stdio: 'ignore' });
  const running = await startVsftpd({
    lines: [
      'ssl_enable=YES',
      'force_local_data_ssl=YES',
      'force_local_logins_ssl=YES',
      'require_ssl_reuse=YES',
      `rsa_cert_file=${certificateFile}`,
      `rsa_private_key_file=${keyFile}`,
    ],
  });
  const certificate = new X509Certificate(readFileSync(certificateFile));
  return {
    ...running,
    certificateFile,
    certificateSha256: createHash('sha256').update(certificate.raw).digest('hex'),
    stop: async () => {
      await running.stop();
      execFileSync('rm', ['-rf', holder.base]);
    },
  };
}

export async function startProftpd(options: FtpServerOptions = {}): Promise<RunningServer> {
  const program = await requirePeer('proftpd');
  const folders = await makeServerFolders('proftpd');
  const users = path.join(folders.base, 'users');
  writeFileSync(
    users,
    `${TEST_USER}:${folders.passwordHash}:${TEST_UID}:${TEST_UID}::${folders.home}:/bin/sh\n`,
    {
      mode: 0o600,
    },
  );
  const port = options.port ?? (await freePort());
  const config = path.join(folders.base, 'proftpd.conf');
  const lines = [
    'ServerName test',
    'ServerType standalone',
    'DefaultAddress 127.0.0.1',
    'SocketBindTight on',
    'UseIPv6 off',
    'UseReverseDNS off',
    `Port ${port}`,
    'User nobody',
    'Group nogroup',
    `AuthUserFile ${users}`,
    'AuthOrder mod_auth_file.c',
    'RequireValidShell off',
    'DefaultRoot ~',
    `PidFile ${folders.base}/pid`,
    `ScoreboardFile ${folders.base}/scoreboard`,
    `DelayTable ${folders.base}/delay`,
    `SystemLog ${folders.base}/system.log`,
    'TransferLog none',
    'WtmpLog off',
    'AllowOverwrite on',
    ...(options.lines ?? []),
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  return startServer(folders, program, ['--nodaemon', '--quiet', '--config', config], port);
}

/** With its default limit of 10,000 names in a listing. */
export async function startPureFtpd(
  options: { port?: number; arguments?: readonly string[] } = {},
): Promise<RunningServer> {
  const program = await requirePeer('pure-ftpd');
  const passwordProgram = await requirePeer('pure-pw');
  const folders = await makeServerFolders('pure-ftpd');
  const users = path.join(folders.base, 'users');
  const database = path.join(folders.base, 'users.pdb');
  // Written by hand: `pure-pw useradd` takes a hash that costs seconds at every login.
  const account = [
    TEST_USER,
    folders.passwordHash,
    TEST_UID,
    TEST_UID,
    '',
    folders.home,
    ...Array(12).fill(''),
  ];
  writeFileSync(users, `${account.join(':')}\n`, { mode: 0o600 });
  execFileSync(passwordProgram.path, ['mkdb', database, '-f', users], { env: passwordProgram.env });
  const port = options.port ?? (await freePort());
  const args = [
    '-S',
    `127.0.0.1,${port}`,
    '-l',
    `puredb:${database}`,
    '-A',
    '-E',
    '-H',
    '-g',
    `${folders.base}/pid`,
  ];
  return startServer(folders, program, [...args, '-C', '50', ...(options.arguments ?? [])], port);
}

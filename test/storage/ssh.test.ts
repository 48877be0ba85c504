import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startSshServer } from '../support/servers/sshd.ts';
import { describeContract, type TargetUnderTest } from './contract.ts';

async function sshTarget(options: { sftpOnly?: boolean; withPassword?: boolean }): Promise<TargetUnderTest> {
  const server = await startSshServer({ sftpOnly: options.sftpOnly ?? false });
  const knownHostsFile = path.join(server.folder, '..', 'known', 'hosts');
  mkdirSync(path.dirname(knownHostsFile));
  writeFileSync(knownHostsFile, `[127.0.0.1]:${server.port} ${server.hostKey}\n`);
  return {
    settings: {
      transport: 'ssh',
      path: server.folder,
      host: server.host,
      port: server.port,
      user: server.user,
      knownHostsFile,
    },
    folder: server.folder,
    ...(options.withPassword ? { password: server.password } : { privateKey: server.privateKey }),
    askHostKey: async () => false,
    stop: () => server.stop(),
  };
}

describeContract('OpenSSH, with a shell, by key', () => sshTarget({}));
describeContract('OpenSSH, SFTP only, by password', () => sshTarget({ sftpOnly: true, withPassword: true }));

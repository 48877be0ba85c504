import { startProftpd, startPureFtpd, startVsftpd, startVsftpdWithTls } from '../support/servers/ftpd.ts';
import type { RunningServer } from '../support/servers/own-namespace.ts';
import { describeContract, type TargetUnderTest } from './contract.ts';

function targetOn(server: RunningServer, tlsPin: string | null = null): TargetUnderTest {
  const { host, port, user, password, folder } = server;
  return {
    settings: {
      transport: 'ftp',
      path: '/',
      host,
      port,
      user,
      tls: tlsPin === null ? 'none' : 'explicit',
      tlsPin,
    },
    folder,
    password,
    stop: () => server.stop(),
  };
}

describeContract('vsftpd', async () => targetOn(await startVsftpd()));
describeContract('ProFTPD', async () => ({
  ...targetOn(await startProftpd()),
  refusedNames: ['[a-z]*?'],
}));
describeContract('Pure-FTPd', async () => ({
  ...targetOn(await startPureFtpd()),
  refusedNames: ['back\\slash'],
}));
describeContract('vsftpd with TLS, certificate pinned', async () => {
  const server = await startVsftpdWithTls();
  return targetOn(server, server.certificateSha256);
});

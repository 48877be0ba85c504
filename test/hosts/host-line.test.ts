/** Commands on another machine, through a real OpenSSH server. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HostLine } from '../../src/hosts/host-line.ts';
import type { HostAccess } from '../../src/hosts/open-host.ts';
import type { HostConfig } from '../../src/model/config.ts';
import { shellQuoted } from '../../src/storage/shell-word.ts';
import { startCutProxy } from '../support/servers/cut-proxy.ts';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';

let server: SshServer;

const access: HostAccess = {
  password: async () => null,
  privateKey: async () => server.privateKey,
  privateKeyPassphrase: async () => null,
  askHostKey: async () => true,
  log: () => undefined,
  home: '/home/of/phd',
  scratch: () => Promise.reject(new Error('none is needed here')),
};

function config(port: number, timeoutMs = 20_000): HostConfig {
  return {
    name: 'box',
    type: 'device',
    host: '127.0.0.1',
    port,
    user: server.user,
    password: null,
    privateKeyFile: '/key',
    privateKeyPassphrase: null,
    knownHostsFile: null,
    tlsPin: null,
    memberTlsPins: [],
    legacyAlgorithms: false,
    timeoutMs,
    devices: ['/dev/sda'],
  };
}

beforeAll(async () => {
  server = await startSshServer();
});
afterAll(() => server.stop());

describe('A line to a host', () => {
  it('runs commands with input, and tells output, errors and status', async () => {
    const line = await HostLine.open(config(server.port), access);
    try {
      const word = `it's "so" $(id) \n-n`;
      const said = await line.run(`printf %s ${shellQuoted(word)}; cat; echo wrong >&2; exit 3`, {
        stdin: Buffer.from(' and more'),
      });
      expect(said.stdout.toString()).toBe(`${word} and more`);
      expect(said.stderr).toBe('wrong\n');
      expect(said.status).toBe(3);
      const large = await line.run('head -c 3000000 /dev/zero');
      expect(large.stdout.equals(Buffer.alloc(3_000_000))).toBe(true);
      await expect(line.run('cat /dev/zero', { maxBytes: 1000 })).rejects.toMatchObject({
        code: 'TARGET_REFUSED',
      });
      expect((await line.run('echo alive')).stdout.toString()).toBe('alive\n');
    } finally {
      line.close();
    }
    await expect(line.run('true')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
  });

  it('ends a command that says a little again and again, and takes that for a dead line', async () => {
    const line = await HostLine.open(config(server.port, 400), access);
    const drip = line.run('while :; do echo x; sleep 0.02; done');
    await expect(drip).rejects.toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringContaining('a command did not end within 12000 ms'),
    });
    line.close();
  });

  it('streams both ways, and ends a command that is given up', async () => {
    const line = await HostLine.open(config(server.port), access);
    try {
      const sum = await line.stream('sha256sum');
      for (let at = 0; at < 64; at++) sum.stdin.write(Buffer.alloc(65_536));
      sum.stdin.end();
      let text = '';
      for await (const part of sum.stdout) text += part;
      expect(text).toBe('bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8  -\n');
      expect(await sum.ended).toEqual({ status: 0, stderr: '' });
      const abort = new AbortController();
      const endless = await line.stream('cat /dev/zero', { signal: abort.signal });
      abort.abort();
      await expect(endless.ended).rejects.toMatchObject({ code: 'CANCELLED' });
    } finally {
      line.close();
    }
  });

  it('takes silence and a cut for what they are', async () => {
    const line = await HostLine.open(config(server.port, 500), access);
    await expect(line.run('sleep 20')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    await expect(line.run('sleep 20', { timeoutMs: 300 })).rejects.toMatchObject({
      message: expect.stringContaining('did not end within 300 ms'),
    });
    line.close();
    const proxy = await startCutProxy(server.port);
    const cut = await HostLine.open(config(proxy.port), access);
    const running = cut.run('sleep 20');
    proxy.cut();
    await expect(running).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(cut.usable).toBe(false);
    cut.close();
    await proxy.stop();
  });
});

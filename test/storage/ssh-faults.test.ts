import { execFileSync } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PhdError } from '../../src/errors.ts';
import type { TargetSettings } from '../../src/model/target.ts';
import type { HostKeyQuestion } from '../../src/storage/open-storage.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { startCutProxy } from '../support/servers/cut-proxy.ts';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { bytesOf, chunks, codeOf, settingsWith } from './contract.ts';

let server: SshServer;
let home: TempHome;
beforeAll(async () => {
  server = await startSshServer();
  home = makeTempHome();
});
afterAll(async () => {
  await server.stop();
  home.remove();
});

const otherKey = ssh2.utils.generateKeyPairSync('ed25519').public.split(' ').slice(0, 2).join(' ');
const questions: HostKeyQuestion[] = [];

function open(
  overrides: Partial<TargetSettings> = {},
  answer = true,
  password: string | null = null,
): Promise<Storage> {
  const { host, port, user, folder } = server;
  const settings = settingsWith({
    transport: 'ssh',
    path: folder,
    host,
    port,
    user,
    timeoutMs: 3000,
    ...overrides,
  });
  return openStorage(settings, {
    password: async () => password,
    privateKey: async () => (password === null ? server.privateKey : null),
    askHostKey: async (question) => {
      questions.push(question);
      return answer;
    },
    log: () => undefined,
  });
}

async function messageOf(work: Promise<unknown>): Promise<PhdError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(PhdError);
  return error as PhdError;
}

describe('host keys', () => {
  const name = (): string => `[127.0.0.1]:${server.port}`;

  it('an unknown key is asked for once, with its fingerprint, and kept', async () => {
    const file = path.join(home.root, 'new', 'known_hosts');
    questions.length = 0;
    const storage = await open({ knownHostsFile: file });
    await Promise.all([storage.list(''), storage.stat('x'), storage.freeSpaceBytes()]);
    await storage.close();
    const again = await open({ knownHostsFile: file });
    await again.list('');
    await again.close();
    expect(questions).toHaveLength(1);
    const printed = execFileSync('ssh-keygen', ['-l', '-f', '-'], {
      input: server.hostKey,
      encoding: 'utf8',
    });
    expect(printed).toContain(questions[0]?.fingerprint);
    expect(readFileSync(file, 'utf8')).toBe(`${name()} ${server.hostKey}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('a key that is not accepted is refused and not kept', async () => {
    const file = path.join(home.root, 'declined');
    const failure = await messageOf((await open({ knownHostsFile: file }, false)).list(''));
    expect(failure.code).toBe('HOST_KEY_REFUSED');
    expect(failure.message).toContain('SHA256:');
    expect(() => statSync(file)).toThrow();
  });

  it('a changed key is refused without asking; the message names the file', async () => {
    const file = home.write('changed', `${name()} ${otherKey}\n`);
    questions.length = 0;
    const failure = await messageOf((await open({ knownHostsFile: file })).list(''));
    expect(failure.code).toBe('HOST_KEY_REFUSED');
    expect(failure.message).toContain(file);
    expect(questions).toHaveLength(0);
  });

  it('a revoked key is refused', async () => {
    const file = home.write('revoked', `${name()} ${server.hostKey}\n@revoked * ${server.hostKey}\n`);
    expect((await messageOf((await open({ knownHostsFile: file })).list(''))).message).toContain('revoked');
  });

  it('a file that cannot be read is refused, not taken for empty', async () => {
    const failure = await messageOf((await open({ knownHostsFile: home.folder('a-folder') })).list(''));
    expect(failure.code).toBe('HOST_KEY_REFUSED');
  });

  it('a hashed name is known', async () => {
    const salt = randomBytes(20);
    const hash = createHmac('sha1', salt).update(name()).digest('base64');
    const file = home.write(
      'hashed',
      `# comment\nbroken line\n|1|${salt.toString('base64')}|${hash} ${server.hostKey}\n`,
    );
    const storage = await open({ knownHostsFile: file }, false);
    expect((await storage.list('')).complete).toBe(true);
    await storage.close();
  });
});

describe('a line that fails', () => {
  const data = randomBytes(12_000_000);

  it.each([4_000_000, 11_000_000])(
    'cut after %i bytes of a download is not seen by the caller',
    async (cutAt) => {
      const proxy = await startCutProxy(server.port);
      const direct = await open();
      const file = `down-${cutAt}`;
      await direct.write(file, chunks(data));
      const storage = await open({ port: proxy.port });
      const parts: Buffer[] = [];
      let bytes = 0;
      let cuts = 0;
      for await (const part of storage.read(file, { offsetBytes: 0 })) {
        parts.push(part);
        bytes += part.length;
        if (bytes > cutAt && cuts === 0) {
          cuts += 1;
          proxy.cut();
        }
      }
      expect(Buffer.concat(parts).equals(data)).toBe(true);
      expect(cuts).toBe(1);
      await Promise.all([storage.close(), direct.close(), proxy.stop()]);
    },
  );

  it('cut in mid-upload goes on by offset', async () => {
    const proxy = await startCutProxy(server.port);
    const storage = await open({ port: proxy.port });
    const source = async function* (): AsyncGenerator<Buffer> {
      yield data.subarray(0, 7_000_000);
      proxy.cut();
      yield data.subarray(7_000_000);
    };
    const result = await storage.write('up.part', source(), { readBack: 'all' });
    expect(result.sizeBytes).toBe(data.length);
    expect(readFileSync(path.join(server.folder, 'up.part')).equals(data)).toBe(true);
    await Promise.all([storage.close(), proxy.stop()]);
  });

  it('that is silent is noticed within its time-out', async () => {
    const proxy = await startCutProxy(server.port);
    const storage = await open({ port: proxy.port, timeoutMs: 600 });
    await storage.list('');
    proxy.hold();
    const begin = performance.now();
    const source = storage.read('up.part', { offsetBytes: 0, lengthBytes: 10 });
    const read = await bytesOf(source);
    expect(read.equals(data.subarray(0, 10))).toBe(true);
    expect(performance.now() - begin).toBeLessThan(5600);
    await Promise.all([storage.close(), proxy.stop()]);
  });

  it('to nobody, or with a wrong password, says which', async () => {
    expect(await codeOf((await open({ port: 1 })).list(''))).toBe('TARGET_UNREACHABLE');
    const failure = await messageOf((await open({}, true, 'wrong-password-9')).list(''));
    expect(failure.code).toBe('TARGET_REFUSED');
    expect(`${failure.message}${failure.stack}`).not.toContain('wrong-password-9');
  });
});

describe('a full or forbidden target', () => {
  it('says that it is full and keeps nothing half', async () => {
    const small = mkdtempSync(path.join(tmpdir(), 'phd-small-'));
    // Before the server starts: it sees the mounts of that moment.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=777', 'tmpfs', small]);
    const full = await startSshServer();
    try {
      const { host, port, user } = full;
      const storage = await openStorage(settingsWith({ transport: 'ssh', path: small, host, port, user }), {
        password: async () => full.password,
        privateKey: async () => null,
        askHostKey: async () => true,
        log: () => undefined,
      });
      expect(await codeOf(storage.write('big.part', chunks(Buffer.alloc(9_000_000))))).toBe('NO_SPACE');
      expect(readdirSync(small)).toEqual([]);
      await storage.close();
    } finally {
      await full.stop();
      execFileSync('umount', [small]);
      rmSync(small, { recursive: true });
    }
  });

  it('names the clean-up owed where the account may not remove', async () => {
    const strict = await startSshServer({ sftpOnly: true, sftpArguments: '-P remove,rename,posix-rename' });
    const { host, port, user, folder } = strict;
    const storage = await openStorage(settingsWith({ transport: 'ssh', path: folder, host, port, user }), {
      password: async () => strict.password,
      privateKey: async () => null,
      askHostKey: async () => true,
      log: () => undefined,
    });
    expect((await storage.write('good.part', chunks(Buffer.from('abc')))).sizeBytes).toBe(3);
    expect(await codeOf(storage.rename('good.part', 'good'))).toBe('TARGET_REFUSED');
    const failing = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.from('abc');
      throw new PhdError('SOURCE_CHANGED', 'the disk changed');
    };
    const failure = await messageOf(storage.write('bad.part', failing()));
    expect(failure.code).toBe('SOURCE_CHANGED');
    expect(failure.message).toMatch(/clean-up owed: .*bad\.part/);
    await storage.close();
    await strict.stop();
  });
});

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { PhdError } from '../../src/errors.ts';
import type { TargetSettings } from '../../src/model/target.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { testTarget } from '../../src/storage/target-test.ts';
import { startProftpd, startPureFtpd, startVsftpd, startVsftpdWithTls } from '../support/servers/ftpd.ts';
import { type Lie, type LyingServer, startLyingServer } from '../support/servers/lying-ftpd.ts';
import { bytesOf, chunks, codeOf, settingsWith, storageOf } from './contract.ts';

const cleanUps: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function lyingTarget(
  lie: Lie,
  overrides: Partial<TargetSettings> = {},
  log: string[] = [],
): Promise<{ server: LyingServer; storage: Storage }> {
  const server = await startLyingServer(lie);
  const settings = { transport: 'ftp' as const, path: '/', host: '127.0.0.1', port: server.port, user: 'u' };
  const target = { settings, folder: '', password: 'hunter2-secret', stop: () => server.stop() };
  const storage = await storageOf(target, { timeoutMs: 1500, ...overrides }, log);
  cleanUps.push(
    () => server.stop(),
    () => storage.close(),
  );
  return { server, storage };
}

async function failureOf(work: Promise<unknown>): Promise<PhdError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(PhdError);
  return error as PhdError;
}

const data = randomBytes(2_000_000);

describe('a server that lies', () => {
  it('is believed when it does not', async () => {
    const { server, storage } = await lyingTarget('none');
    await storage.write('a.part', chunks(data));
    expect(server.files.get('/a.part')?.equals(data)).toBe(true);
    expect((await bytesOf(storage.read('a.part', { offsetBytes: 5 }))).equals(data.subarray(5))).toBe(true);
  });

  it.each(['short store', 'changed store', 'wrong size'] as const)('is found out: %s', async (lie) => {
    const { server, storage } = await lyingTarget(lie);
    const failure = await failureOf(storage.write('a.part', chunks(data)));
    expect(failure.code).toBe('TARGET_LIED');
    expect(failure.message).toContain('a.part');
    expect(server.files.size).toBe(0);
  });

  it('is found out when it ends a download early with 226', async () => {
    const { server, storage } = await lyingTarget('short read');
    server.files.set('/a', data);
    const parts: Buffer[] = [];
    const readAll = async (): Promise<void> => {
      for await (const part of storage.read('a', { offsetBytes: 0 })) parts.push(part);
    };
    const failure = await failureOf(readAll());
    expect(failure.code).toBe('TARGET_LIED');
    expect(failure.message).toContain('too early');
    const got = Buffer.concat(parts);
    expect(got.equals(data.subarray(0, got.length))).toBe(true);
  });

  it('costs a clean-up that is named where the account may not delete', async () => {
    const { storage } = await lyingTarget('no delete');
    const failure = await failureOf(storage.write('a.part', chunks(data)));
    expect(failure.code).toBe('TARGET_LIED');
    expect(failure.message).toMatch(/clean-up owed: .*a\.part could not be removed/);
  });

  it('with a cut list leaves absent names unknown', async () => {
    const { server, storage } = await lyingTarget('cut list');
    for (const name of ['a', 'b', 'c']) server.files.set(`/${name}`, Buffer.from(name));
    const { entries, complete } = await storage.list('');
    expect(entries.map((entry) => entry.name)).toEqual(['a', 'b']);
    expect(complete).toBe(false);
    expect((await storage.stat('c'))?.sizeBytes).toBe(1);
  });

  it('with hostile names costs those rows only, and says that the list is not whole', async () => {
    const { server, storage } = await lyingTarget('hostile names');
    server.files.set('/good', Buffer.from('good'));
    const { entries, complete } = await storage.list('');
    const names = entries.map((entry) => entry.name);
    expect(names).toContain('good');
    expect(names.some((name) => name.includes('/') || name === '..' || name.includes('\n'))).toBe(false);
    expect(names).not.toContain('huge');
    expect(complete).toBe(false);
    expect(await codeOf(bytesOf(storage.read('a\u001b[2Jb', { offsetBytes: 0 })))).toBe('USAGE');
    expect(server.files.has('/good')).toBe(true);
  });

  it('with an endless reply is left', async () => {
    const { storage } = await lyingTarget('endless reply');
    expect(await codeOf(storage.list(''))).toBe('TARGET_UNREACHABLE');
  });

  it('never gets the password into a message, a log or a stack', async () => {
    const log: string[] = [];
    const { storage } = await lyingTarget('echoed password', {}, log);
    const failure = await failureOf(storage.list(''));
    expect(failure.code).toBe('TARGET_REFUSED');
    expect(log.length).toBeGreaterThan(0);
    const everything = [failure.message, failure.stack, JSON.stringify(failure.cause), ...log].join('\n');
    expect(everything).not.toContain('hunter2-secret');
  });

  it('that says it is IIS is warned about', async () => {
    const { storage } = await lyingTarget('iis');
    const settings = settingsWith({ transport: 'ftp', path: '', user: 'Domain\\User' });
    const { warnings, ok } = await testTarget(storage, { settings });
    expect(ok).toBe(false);
    expect(warnings).toHaveLength(3);
    expect(warnings[0]).toContain('IIS');
  });
});

describe('a line that fails', () => {
  it('421 means wait', async () => {
    const { server, storage } = await lyingTarget('busy');
    expect((await storage.list('')).complete).toBe(true);
    expect(server.connections()).toBe(3);
  });

  it.each(['stalled read', 'stalled write'] as const)('is noticed within its time-out: %s', async (lie) => {
    const { server, storage } = await lyingTarget(lie, { timeoutMs: 300 });
    if (lie === 'stalled read') server.files.set('/a', data);
    const big = Buffer.alloc(30_000_000, 3);
    const work =
      lie === 'stalled read'
        ? bytesOf(storage.read('a', { offsetBytes: 0 }))
        : storage.write('a.part', chunks(big));
    const failure = await failureOf(work);
    expect(failure.code).toBe('TARGET_UNREACHABLE');
    expect(failure.message).toMatch(/within 300 ms|thrown away/);
  });

  it('cut in mid-download is not seen by the caller', async () => {
    const { server, storage } = await lyingTarget('cut read');
    server.files.set('/a', data);
    const read = await bytesOf(storage.read('a', { offsetBytes: 1000, lengthBytes: 1_500_000 }));
    expect(read.equals(data.subarray(1000, 1_501_000))).toBe(true);
    expect(server.connections()).toBeGreaterThan(3);
  });

  it('cut in mid-upload goes on where the server allows it', async () => {
    const { server, storage } = await lyingTarget('cut write');
    const result = await storage.write('a.part', chunks(data), { readBack: 'all' });
    expect(result.sizeBytes).toBe(data.length);
    expect(server.files.get('/a.part')?.equals(data)).toBe(true);
  });

  it('cut in mid-upload throws the upload away where it does not, and says so', async () => {
    const { server, storage } = await lyingTarget('cut write for good');
    const failure = await failureOf(storage.write('a.part', chunks(data)));
    expect(failure.message).toMatch(/thrown away/);
    expect(server.files.size).toBe(0);
  });
});

describe('real servers', () => {
  it('Pure-FTPd cuts a list at 10,000 names: it is not complete, and an absent name is asked for', async () => {
    const server = await startPureFtpd();
    const settings = {
      transport: 'ftp' as const,
      path: '/',
      host: server.host,
      port: server.port,
      user: server.user,
    };
    const storage = await storageOf({
      settings,
      folder: server.folder,
      password: server.password,
      stop: server.stop,
    });
    cleanUps.push(server.stop, () => storage.close());
    mkdirSync(path.join(server.folder, 'many'));
    for (let at = 0; at < 10_500; at += 1) writeFileSync(path.join(server.folder, 'many', `f${at}`), '');
    const { entries, complete } = await storage.list('many');
    expect(entries.length).toBeLessThan(10_500);
    expect(complete).toBe(false);
    for (const name of ['f0', 'f5000', 'f10499'])
      expect((await storage.stat(`many/${name}`))?.kind).toBe('file');
  });

  it.each([
    ['vsftpd', startVsftpd],
    ['ProFTPD', startProftpd],
    ['Pure-FTPd', startPureFtpd],
  ] as const)(
    '%s killed in mid-upload and back again: the upload goes on or says why not',
    async (_, start) => {
      const first = await start();
      const settings = {
        transport: 'ftp' as const,
        path: '/',
        host: first.host,
        port: first.port,
        user: first.user,
      };
      const storage = await storageOf({
        settings,
        folder: first.folder,
        password: first.password,
        stop: first.stop,
      });
      cleanUps.push(first.stop, () => storage.close());
      const big = randomBytes(6_000_000);
      const source = async function* (): AsyncGenerator<Buffer> {
        yield big.subarray(0, 3_000_000);
        await first.kill();
        yield big.subarray(3_000_000);
      };
      const failure = await failureOf(storage.write('a.part', source()));
      expect(failure.code).toBe('TARGET_UNREACHABLE');
      expect(failure.message).toContain('a.part');
      expect(existsSync(path.join(first.folder, 'a'))).toBe(false);
    },
  );

  it('a wrong pin or an unknown issuer stops before the password is sent', async () => {
    const server = await startVsftpdWithTls();
    const settings = {
      transport: 'ftp' as const,
      path: '/',
      host: server.host,
      port: server.port,
      user: server.user,
    };
    const target = { settings, folder: server.folder, password: server.password, stop: server.stop };
    cleanUps.push(server.stop);
    for (const tlsPin of [null, 'ab'.repeat(32)]) {
      const log: string[] = [];
      const storage = await storageOf(target, { tls: 'explicit', tlsPin }, log);
      const failure = await failureOf(storage.list(''));
      expect(failure.code).toBe('HOST_KEY_REFUSED');
      expect(failure.message).toContain(server.certificateSha256);
      expect(log.some((line) => line.includes('331'))).toBe(false);
      await storage.close();
    }
    const clear = await storageOf(target, { tls: 'none' });
    expect(await codeOf(clear.write('a', chunks(data)))).toBe('TARGET_REFUSED');
    expect(readdirSync(server.folder)).toEqual([]);
    await clear.close();
  });

  it('explicit TLS never falls back to clear text', async () => {
    const server = await startVsftpd();
    const settings = {
      transport: 'ftp' as const,
      path: '/',
      host: server.host,
      port: server.port,
      user: server.user,
    };
    const target = { settings, folder: server.folder, password: server.password, stop: server.stop };
    const storage = await storageOf(target, { tls: 'explicit' });
    cleanUps.push(server.stop, () => storage.close());
    expect(await codeOf(storage.list(''))).toBe('TARGET_REFUSED');
  });

  it('a wrong password is refused, and nobody listening is unreachable', async () => {
    const server = await startVsftpd();
    const settings = {
      transport: 'ftp' as const,
      path: '/',
      host: server.host,
      port: server.port,
      user: server.user,
    };
    const wrong = await storageOf({ settings, folder: '', password: 'wrong', stop: server.stop });
    const gone = await storageOf({ settings: { ...settings, port: 1 }, folder: '', stop: server.stop });
    cleanUps.push(server.stop);
    expect(await codeOf(wrong.list(''))).toBe('TARGET_REFUSED');
    expect(await codeOf(gone.list(''))).toBe('TARGET_UNREACHABLE');
  });
});

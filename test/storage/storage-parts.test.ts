import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PhdError } from '../../src/errors.ts';
import { judgeHostKey, keysInText } from '../../src/storage/known-hosts.ts';
import { type Line, LinePool, NoMoreLines } from '../../src/storage/line-pool.ts';
import { RecentBytes } from '../../src/storage/recent-bytes.ts';
import { joinPath, shownPath } from '../../src/storage/remote-path.ts';
import { adviceFor, speedTest } from '../../src/storage/speed-test.ts';
import { Throttle } from '../../src/storage/throttle.ts';
import { VmfsStorage } from '../../src/storage/vmfs.ts';
import { makeTempHome } from '../support/temp-home.ts';
import { chunks, settingsWith } from './contract.ts';

describe('paths on a target', () => {
  it('either stay below the root and free of controls, or are refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', '.', '/', '\n', '\0', ' ', '-') }), (path) => {
        let joined: string;
        try {
          joined = joinPath('/root', path);
        } catch (error) {
          expect((error as PhdError).code).toBe('USAGE');
          return;
        }
        expect(joined === '/root' || joined.startsWith('/root/')).toBe(true);
        expect(joined.split('/')).not.toContain('..');
        expect(joined).not.toMatch(/[\0\n]/);
      }),
      { numRuns: 2000 },
    );
  });

  it('are shown without control characters', () => {
    expect(shownPath('a\u001b[2J\r\n\u009b\u202eb')).toBe('a\\x1b[2J\\x0d\\x0a\\x9b\\u{202e}b');
  });
});

describe('the bandwidth limit', () => {
  it('is kept over all lines together', async () => {
    let now = 0;
    const time = {
      nowMs: () => now,
      waitMs: async (milliseconds: number) => {
        now += milliseconds;
      },
    };
    const throttle = new Throttle(1_000_000, time);
    for (let at = 0; at < 100; at += 1) await throttle.take(100_000);
    expect(now).toBeGreaterThan(9_800);
    expect(now).toBeLessThan(10_001);
  });
});

describe('the lines of a target', () => {
  const lineOf = (): Line & { usable: boolean } => ({ usable: true, close: () => undefined });

  it('are never more than allowed, and used again', async () => {
    let opened = 0;
    const open = async (): Promise<Line> => {
      opened += 1;
      return lineOf();
    };
    const pool = new LinePool({ open, maxLines: 2, waitMs: 1000 });
    let now = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((resolve) => setImmediate(resolve));
      now -= 1;
    };
    await Promise.all(Array.from({ length: 10 }, () => pool.use(work)));
    expect({ opened, most }).toEqual({ opened: 2, most: 2 });
    pool.close();
  });

  it('fewer than asked for are enough if the server has no room for more', async () => {
    let opened = 0;
    const open = async (): Promise<Line> => {
      if (opened === 1) throw new NoMoreLines('421');
      opened += 1;
      return lineOf();
    };
    const pool = new LinePool({ open, maxLines: 4, waitMs: 1000 });
    const first = await pool.acquire();
    const second = pool.acquire();
    pool.release(first.line);
    expect((await second).line).toBe(first.line);
    pool.close();
  });
});

describe('the recent bytes of an upload', () => {
  it('come again from any kept offset, then the rest follows', async () => {
    const data = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 251));
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 50 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (taken, share) => {
          const recent = new RecentBytes(chunks(data, 100));
          let sent = 0;
          for await (const chunk of recent.from(0)) {
            sent += chunk.length;
            if (sent >= taken * 100) break;
          }
          const offset = Math.floor(sent * share);
          const parts: Uint8Array[] = [];
          for await (const chunk of recent.from(offset)) parts.push(chunk);
          expect(Buffer.concat(parts).equals(data.subarray(offset))).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('known hosts', () => {
  const key = (text: string): string => {
    const type = Buffer.from('ssh-ed25519');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(type.length);
    return Buffer.concat([length, type, Buffer.from(text)]).toString('base64');
  };

  it('match by name, port and pattern, with exceptions', () => {
    const text = `*.lan,!bad.lan ssh-ed25519 ${key('one')}\n[box]:2222 ssh-ed25519 ${key('two')}\n`;
    expect(keysInText(text, 'good.lan', 22)).toHaveLength(1);
    expect(keysInText(text, 'bad.lan', 22)).toHaveLength(0);
    expect(keysInText(text, 'box', 22)).toHaveLength(0);
    expect(keysInText(text, 'BOX', 2222)).toHaveLength(1);
    expect(judgeHostKey(keysInText(text, 'box', 2222), Buffer.from(key('two'), 'base64'))).toBe('known');
    expect(judgeHostKey(keysInText(text, 'box', 2222), Buffer.from(key('one'), 'base64'))).toBe('changed');
    expect(judgeHostKey([], Buffer.from(key('one'), 'base64'))).toBe('unknown');
  });
});

describe('the speed test', () => {
  it('measures both ways and leaves nothing behind', async () => {
    const home = makeTempHome();
    const storage = new VmfsStorage(settingsWith({ transport: 'vmfs', path: home.root }));
    const seen = new Set<string>();
    const result = await speedTest(storage, {
      bytes: 3_000_000,
      progress: (direction) => seen.add(direction),
    });
    expect([...seen]).toEqual(['up', 'down']);
    expect(result.upBytesPerSecond).toBeGreaterThan(0);
    expect(result.downBytesPerSecond).toBeGreaterThan(0);
    expect(await storage.list('')).toEqual({ entries: [], complete: true });
    home.remove();
  });

  it('advises only where it is slow', () => {
    expect(adviceFor({ transport: 'ftp' }, 100e6, 100e6)).toEqual([]);
    expect(adviceFor({ transport: 'ftp' }, 11e6, 11e6)).toHaveLength(1);
    expect(adviceFor({ transport: 'ftp' }, 1e6, 11e6).join(' ')).toMatch(/out of space.*duplex.*address/);
  });
});

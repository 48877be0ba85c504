/** The demo as a program, built: what it says, what it leaves, what it answers when something is wrong. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseContent } from '../../src/demo/disk-content.ts';
import { digestOfFile, firstDifference } from '../../src/demo/same-bytes.ts';

const MAIN = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const LONG_MS = 400_000;

let scratch: string;

beforeEach(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'phd-demo-test-'));
});

afterEach(() => rmSync(scratch, { recursive: true, force: true }));

interface Outcome {
  status: number;
  out: string;
  err: string;
}

/** Runs `phd demo` without a terminal, its temporary folder inside `scratch`. */
function demo(
  words: string[],
  env: NodeJS.ProcessEnv = {},
  onStart?: (pid: number) => void,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, TMPDIR: scratch, ...env } };
    const child = execFile(process.execPath, [MAIN, 'demo', ...words], options, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code), out, err });
    });
    child.stderr?.once('data', () => onStart?.(child.pid as number));
  });
}

describe('phd demo', () => {
  it(
    'brings a deleted VM back, says what was proved and in which time, and leaves nothing',
    async () => {
      const { status, out, err } = await demo([]);
      expect({ status, err }).toMatchObject({ status: 0 });
      const steps = ['make a farm', 'back up as FULL', 'change files inside', 'back up as DELTA'];
      const more = [
        'delete VM database',
        'index the targets',
        'list',
        'restore VM database',
        'prove bit for bit',
      ];
      for (const step of [...steps, ...more])
        expect(out).toMatch(new RegExp(`^${step} .* \\d+\\.\\d\\d$`, 'm'));
      expect(out.match(/^20\S+ \d\d:\d\d .* [12]:\S+\.phd$/gm)).toHaveLength(12);
      expect(out).toContain('a second run within a minute bears the next free one');
      expect(out.match(/^database(_1)?\.vmdk, .*SHA-256 [0-9a-f]{64} before and after/gm)).toHaveLength(2);
      expect(out.trimEnd().split('\n').at(-1)).toMatch(/^PROVED: /);
      expect(readdirSync(scratch)).toEqual([]);
    },
    LONG_MS,
  );

  it(
    '--keep leaves a home that the other commands go on with',
    async () => {
      const kept = await demo(['--keep']);
      expect(kept.status).toBe(0);
      const home = /^The home is (\S+) and is kept/.exec(kept.out)?.[1] as string;
      expect(path.dirname(home)).toBe(scratch);
      expect(existsSync(path.join(home, 'datastore/database/database_1-flat.vmdk'))).toBe(true);
      const listed = await new Promise<string>((resolve, reject) => {
        const env = { ...process.env, PHD_HOME: home };
        execFile(process.execPath, [MAIN, 'list', '--json'], { env }, (error, out) =>
          error ? reject(error) : resolve(out),
        );
      });
      expect(listed.trim().split('\n')).toHaveLength(12);
    },
    LONG_MS,
  );

  it(
    'a failure on the way is one line and a status other than 0',
    async () => {
      const programs = path.join(scratch, 'bin');
      mkdirSync(programs);
      writeFileSync(path.join(programs, 'mkfs.ext4'), '#!/bin/sh\necho no >&2\nexit 1\n', { mode: 0o755 });
      for (const name of ['debugfs', 'e2fsck']) symlinkSync('/bin/true', path.join(programs, name));
      const { status, out, err } = await demo([], { PATH: programs });
      expect(status).toBe(1);
      expect(err).toMatch(/^phd: mkfs\.ext4 failed: [^\n]+/m);
      expect(out).not.toContain('PROVED');
      expect(readdirSync(scratch)).toEqual(['bin']);
    },
    LONG_MS,
  );

  it(
    'a cancel ends with 130 and cleans up',
    async () => {
      const { status, out } = await demo([], {}, (pid) => process.kill(pid, 'SIGINT'));
      expect(status).toBe(130);
      expect(out).not.toContain('PROVED');
      expect(readdirSync(scratch)).toEqual([]);
    },
    LONG_MS,
  );
});

describe('what the demo proves with', () => {
  function file(name: string, content: string | Buffer): string {
    const place = path.join(scratch, name);
    writeFileSync(place, content);
    return place;
  }

  it('files of the same bytes do not differ; others do at their first differing byte', async () => {
    const large = Buffer.alloc(9_000_000, 'abc');
    const flipped = Buffer.from(large);
    flipped[8_999_999] = 0;
    const one = file('one', large);
    expect(await firstDifference(one, file('same', large))).toBeNull();
    expect(await firstDifference(one, file('flipped', flipped))).toBe(8_999_999);
    expect(await firstDifference(one, file('cut', large.subarray(0, 8_388_608)))).toBe(8_388_608);
    expect(await firstDifference(file('cut too', large.subarray(0, 5)), one)).toBe(5);
    expect(await firstDifference(file('empty', ''), file('empty too', ''))).toBeNull();
  });

  it('the digest of a file is the SHA-256 of all its bytes', async () => {
    expect(await digestOfFile(file('abc', 'abc'))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });

  it('the file system check fails on a damaged ext4, and a debugfs that fails is noticed', async () => {
    const content = chooseContent(process.env);
    expect(content.description).toContain('ext4');
    const tree = path.join(scratch, 'tree');
    mkdirSync(tree);
    file('tree/a.txt', 'a');
    const flat = path.join(scratch, 'disk.img');
    await content.fill(flat, 8 << 20, tree);
    expect(await content.check(flat)).toContain('clean');
    await content.change(flat, file('b.txt', 'b'), 'a.txt');
    expect(await content.check(flat)).toContain('clean');
    await expect(content.change(flat, file('c.txt', 'c'), 'not-there')).rejects.toThrow(
      /debugfs could not change/,
    );
    const { open } = await import('node:fs/promises');
    const damaged = await open(flat, 'r+');
    await damaged.write(Buffer.alloc(4096, 0xff), 0, 4096, 1024);
    await damaged.close();
    await expect(content.check(flat)).rejects.toThrow(/e2fsck failed/);
  });
});

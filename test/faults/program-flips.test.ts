/**
 * Random flips and cuts under the `sh` program of the DELTA: status 0 comes with the right disk and never without,
 * no other disk bears the final name. `PHD_CAMPAIGN=60` runs some thousands.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noise, Place, type ShellName } from '../archive/delta-program/place.ts';
import { type ReadOnlyWorld, startReadOnlyWorld } from '../support/read-only-world.ts';
import { MemoryDisk, type ReferenceCodec } from '../support/reference-writer.ts';
import { CAMPAIGN, randomOf, seedOf } from './farm.ts';

const BLOCK = 65_536;
const SHELLS: ShellName[] = ['dash', 'busybox ash'];
/** A bit of the program's text may make a loop that has no end. */
const LIMIT_MS = 60_000;
const seed = seedOf('program flips');

interface Trial {
  /** Which of the archives is damaged; the DELTA is run, or the empty DELTA if that is the damaged one. */
  damaged: 'DELTA' | 'FULL' | 'empty DELTA';
  what: string;
  bytes: Buffer;
  shell: ShellName;
}

interface Ended {
  status: number | null;
  stderr: string;
  endless: boolean;
}

/** A disk of 2 MiB: 33 blocks, the last one short, some zero. */
function disks(): { before: MemoryDisk; after: MemoryDisk } {
  const before = new MemoryDisk(32 * BLOCK + 512, BLOCK);
  for (let block = 0; block < before.blockCount; block += 1)
    if (block % 3 !== 1) before.set(block, noise(block % 2 === 0 ? BLOCK : 900, block));
  const after = before.copy();
  after.set(0, noise(BLOCK, 91)).set(1, noise(700, 92)).set(9, null).set(20, noise(BLOCK, 93));
  after.set(32, noise(512, 94));
  return { before, after };
}

class Campaign {
  readonly counts = new Map<string, number>();
  readonly wrong: string[] = [];
  readonly #place: Place;
  readonly #world: ReadOnlyWorld;

  constructor(place: Place, world: ReadOnlyWorld) {
    this.#place = place;
    this.#world = world;
  }

  async run(trial: Trial): Promise<void> {
    const place = this.#place;
    const paths = { DELTA: place.deltaPath, FULL: place.fullPath, 'empty DELTA': place.emptyPath };
    place.put();
    writeFileSync(paths[trial.damaged], trial.bytes);
    place.emptyOut();
    const isEmpty = trial.damaged === 'empty DELTA';
    const ended = await this.#start(trial.shell, isEmpty ? place.emptyPath : place.deltaPath);
    this.#judge(trial, ended, isEmpty ? place.before : place.after);
  }

  #judge(trial: Trial, ended: Ended, disk: MemoryDisk): void {
    const place = this.#place;
    const flat = path.basename(place.flat);
    const isThere = place.outNames().includes(flat);
    const isRight = isThere && place.isRestored(disk);
    const outcome = ended.endless ? 'endless' : `status ${ended.status}`;
    const key = `${outcome}${isRight ? ', disk restored' : ''}`;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    const tell = (why: string): void =>
      void this.wrong.push(
        `${trial.shell}, ${trial.damaged}, ${trial.what}: ${why}: ${ended.stderr.slice(0, 300)}`,
      );
    if (ended.status === 0 && !isRight) tell(isThere ? 'status 0 with wrong bytes' : 'status 0 and no disk');
    else if (isThere && !isRight) tell(`${outcome}, and wrong bytes under the final name`);
    else if (ended.status !== 0 && !ended.endless && ended.stderr === '') tell(`${outcome} without a word`);
  }

  #start(shell: ShellName, archive: string): Promise<Ended> {
    const place = this.#place;
    const [program = '', ...words] = [...this.#world.words, ...place.command(shell), archive];
    const env = { PATH: place.path(shell), HOME: place.root, TMPDIR: place.tmp, USE_RPATH: place.out };
    const child = spawn(program, [...words, 'autorun', 'restore'], {
      cwd: place.out,
      env: { ...env, USE_SPASS: 'system' },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    let stderr = '';
    child.stderr.on('data', (chunk) => {
      if (stderr.length < 100_000) stderr += chunk;
    });
    let endless = false;
    const timer = setTimeout(() => {
      endless = true;
      process.kill(-(child.pid as number), 'SIGKILL');
    }, LIMIT_MS);
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => {
        clearTimeout(timer);
        resolve({ status, stderr, endless });
      });
    });
  }

  report(name: string): void {
    const counts = [...this.counts].sort().map(([key, count]) => `${key}: ${count}`);
    process.stdout.write(`${name}: ${counts.join('; ')}\n`);
    expect(this.wrong).toEqual([]);
  }
}

/** Bit turned at a random place of a stretch, or the file cut there. */
function damage(
  bytes: Buffer,
  from: number,
  to: number,
  isCut: boolean,
  random: () => number,
): [string, Buffer] {
  const at = from + Math.floor(random() * (to - from));
  if (isCut) return [`cut to ${at}`, bytes.subarray(0, at)];
  const bit = Math.floor(random() * 8);
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ (1 << bit);
  return [`bit ${bit} of byte ${at}`, copy];
}

/** What is left of a file cut sooner is a comment, which any shell takes for a program that did nothing. */
const FIRST_LINE_BYTES = '#!/bin/sh\n'.length + 1;

const KINDS: [string, ReferenceCodec, string[], number][] = [
  ['gzip', 'gzip', [], 6],
  ['zstd', 'zstd', [], 1],
  ['encrypted gzip', 'gzip', ['system'], 1],
];

describe.each(KINDS)('the program of a DELTA of %s archives', (kind, codec, passphrases, share) => {
  let place: Place;
  let world: ReadOnlyWorld;
  const random = randomOf(seed + kind.length);
  beforeAll(async () => {
    place = await Place.make({ codec, passphrases, ...disks() });
    world = await startReadOnlyWorld(place.root);
  });
  afterAll(async () => {
    await world.stop();
    place.remove();
  });

  it('restores undamaged archives, where nothing but its folder can be written', async () => {
    const campaign = new Campaign(place, world);
    for (const shell of SHELLS) {
      await campaign.run({ damaged: 'DELTA', what: 'as it is', bytes: place.delta.bytes, shell });
      await campaign.run({ damaged: 'empty DELTA', what: 'as it is', bytes: place.empty.bytes, shell });
    }
    campaign.report(`${kind}, undamaged`);
    expect([...campaign.counts]).toEqual([['status 0, disk restored', 4]]);
  });

  it.each(['text of the program', 'data of the DELTA', 'FULL', 'empty DELTA'])(
    'flips and cuts: %s',
    async (stretch) => {
      const campaign = new Campaign(place, world);
      const rounds = Math.ceil(share * CAMPAIGN);
      for (let round = 0; round < rounds; round += 1) {
        const shell = SHELLS[(round + Math.floor(round / 6)) % 2] as ShellName;
        const isCut = round % 6 === 5;
        const archive =
          stretch === 'FULL' ? place.full : stretch === 'empty DELTA' ? place.empty : place.delta;
        const { bytes } = archive;
        const first = isCut ? FIRST_LINE_BYTES : 0;
        const from = stretch !== 'text of the program' && 'headBytes' in archive ? archive.headBytes : first;
        const to = stretch === 'text of the program' ? place.delta.headBytes : bytes.length;
        const [what, spoilt] = damage(bytes, from, to, isCut, random);
        const damaged = archive === place.full ? 'FULL' : archive === place.empty ? 'empty DELTA' : 'DELTA';
        await campaign.run({ damaged, what, bytes: spoilt, shell });
      }
      campaign.report(`${kind}, ${stretch}, ${rounds} trials`);
    },
    3_600_000,
  );
});

describe('the text of the program', () => {
  it('cut between any two of its functions, or in its first lines, never ends with status 0', async () => {
    const place = await Place.make({ ...disks() });
    const text = place.delta.bytes.subarray(0, place.delta.headBytes).toString('latin1').trimEnd();
    const cuts = [...text.matchAll(/\n(?=\n)/g)].map(({ index }) => index + 1);
    expect(cuts.length).toBeGreaterThan(100);
    for (let cut = FIRST_LINE_BYTES; cut < 400; cut += 13) cuts.push(cut);
    const silent: number[] = [];
    for (const [at, cut] of cuts.entries()) {
      writeFileSync(place.deltaPath, place.delta.bytes.subarray(0, cut));
      const run = await place.run(SHELLS[at % 2] as ShellName, place.deltaPath, ['autorun', 'restore']);
      if (run.status === 0) silent.push(cut);
    }
    expect(silent).toEqual([]);
    expect(place.outNames()).toEqual([]);
    place.remove();
  });
});

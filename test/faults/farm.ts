/** Archives of one small VM, made by the product itself, and restores of what tests have done to them. */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

type Engine = typeof Library;

/** Built, since worker threads cannot run TypeScript. */
export const loadEngine = (): Promise<Engine> =>
  import(new URL('../../dist/src/engine/index.js', import.meta.url).pathname) as Promise<Engine>;

export const PHD = new URL('../../dist/src/main.js', import.meta.url).pathname;

/** Campaigns grow by this factor. */
export const CAMPAIGN = Number(process.env.PHD_CAMPAIGN ?? '0.3');

/** Prints the seed of a campaign, so that what it finds can be found again with PHD_SEED. */
export function seedOf(name: string): number {
  const seed = Number(
    process.env.PHD_SEED ?? createHash('sha256').update(`${Math.random()}`).digest().readUInt32LE(0),
  );
  process.stdout.write(`${name}: PHD_SEED=${seed} PHD_CAMPAIGN=${CAMPAIGN}\n`);
  return seed;
}

/** mulberry32: numbers 0 .. 1 that follow from the seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export interface Archive {
  /** On the target. */
  path: string;
  folder: string;
  file: string;
  bytes: Buffer;
  /** What it restores to. */
  disk: Buffer;
}

export interface FarmRequest {
  codec?: 'gzip' | 'zstd';
  encrypt?: boolean;
  diskBytes?: number;
  seed?: string;
  diskName?: string;
}

export const SYSTEM_PASSPHRASE = 'canary system passphrase';
const CONFIG = `targets:
  - { number: 1, name: local, transport: vmfs, path: one }
datastores: [ store ]
`;
const ENCRYPTION = 'encryption: { systemPassphraseFile: secrets/system }\n';

/** A home with one target and one VM; FULL, empty DELTA and DELTA are made by the product. */
export class Farm {
  readonly home: TempHome;
  readonly request: Required<FarmRequest>;
  vm!: TestVm;
  full!: Archive;
  empty!: Archive;
  delta!: Archive;

  private constructor(request: FarmRequest) {
    this.home = makeTempHome();
    this.request = {
      codec: 'gzip',
      encrypt: false,
      diskBytes: 2_096_640,
      seed: 'farm',
      diskName: 'farm.vmdk',
      ...request,
    };
    this.home.writeConfig(CONFIG + ENCRYPTION);
    this.home.write('secrets/system', `${SYSTEM_PASSPHRASE}\n`);
    this.home.folder('one');
  }

  static async make(request: FarmRequest = {}): Promise<Farm> {
    const farm = new Farm(request);
    const { seed, diskBytes, diskName } = farm.request;
    farm.vm = await makeVmFolder(farm.home.folder('store'), {
      vmName: `vm-${seed}`,
      disks: [{ name: diskName, sizeBytes: diskBytes }],
      seed,
    });
    const before = await farm.backup();
    farm.full = farm.archive(before, /\.(gz|zst)(\.gpg)?-/);
    farm.empty = farm.archive(before, /\.delta/);
    await changeImage(farm.flat, 2, seed);
    const after = await farm.backup();
    expect(after).toHaveLength(1);
    farm.delta = farm.archive(after, /\.delta/);
    return farm;
  }

  get flat(): string {
    return this.vm.disks[0]!.flatPath;
  }

  get target(): string {
    return path.join(this.home.root, 'one');
  }

  /** Names, relative to the target, of the archives that one backup adds. */
  private async backup(): Promise<string[]> {
    const engine = await loadEngine();
    const known = new Set(archivesUnder(this.target));
    const context = await engine.openContext({ env: this.home.env });
    try {
      const { codec, encrypt } = this.request;
      const result = await engine.backup(context, { folder: this.vm.folder, codec, encrypt });
      expect(result.failed).toEqual([]);
    } finally {
      await context.close();
    }
    return archivesUnder(this.target).filter((name) => !known.has(name));
  }

  private archive(names: string[], pattern: RegExp): Archive {
    const name = names.find((one) => pattern.test(path.basename(one)));
    if (!name) throw new Error(`no archive ${pattern} among ${names.join(', ')}`);
    const file = path.join(this.target, name);
    return {
      path: file,
      folder: path.dirname(name),
      file: path.basename(name),
      bytes: readFileSync(file),
      disk: readFileSync(this.flat),
    };
  }

  /** Writes all three archives as they were made. */
  put(): void {
    for (const archive of [this.full, this.empty, this.delta]) writeFileSync(archive.path, archive.bytes);
  }

  remove(): void {
    this.home.remove();
  }
}

/** All files below a folder, relative, sorted; without the copies of the configuration on a target. */
export function archivesUnder(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => lstatSync(path.join(folder, name)).isFile())
    .filter((name) => !name.startsWith('phd-configuration/'))
    .sort();
}

export type Outcome =
  | { kind: 'equal' }
  | { kind: 'wrong'; why: string }
  | { kind: 'error'; code: string; message: string };

/** A reader that has never seen the archives written: no digest it kept helps it. */
export class Reader {
  readonly #home: TempHome;
  readonly #engine: Engine;
  readonly #context: Library.EngineContext;
  /** Of the last restore. */
  warnings: string[] = [];

  private constructor(home: TempHome, engine: Engine, context: Library.EngineContext) {
    this.#home = home;
    this.#engine = engine;
    this.#context = context;
  }

  static async open(farm: Farm): Promise<Reader> {
    const home = makeTempHome();
    const config = CONFIG.replace('path: one', `path: ${farm.target}`);
    home.writeConfig(config + ENCRYPTION);
    home.write('secrets/system', `${SYSTEM_PASSPHRASE}\n`);
    const engine = await loadEngine();
    return new Reader(home, engine, await engine.openContext({ env: home.env }));
  }

  get #out(): string {
    return path.join(this.#home.root, 'out');
  }

  /** Restores an archive and compares. An error with anything under a final name counts as wrong. */
  async restore(archive: Archive): Promise<Outcome> {
    rmSync(this.#out, { recursive: true, force: true });
    let flat: string;
    try {
      const storage = await this.#context.storage(1);
      const ref = { storage, folder: archive.folder, file: archive.file };
      this.warnings = [];
      const hooks = { onWarning: (message: string) => void this.warnings.push(message) };
      flat = (await this.#engine.restore(this.#context, { archive: ref, to: this.#out }, hooks)).flatPath;
    } catch (error) {
      const outcome = this.#failure(error);
      const left = archivesUnder(this.#out).filter((name) => !name.endsWith('.part'));
      if (left.length > 0 && outcome.kind === 'error') {
        return { kind: 'wrong', why: `${outcome.message}, but ${left.join(', ')} is there` };
      }
      return outcome;
    }
    return readFileSync(flat).equals(archive.disk)
      ? { kind: 'equal' }
      : { kind: 'wrong', why: 'restored with success, other bytes' };
  }

  async verify(archive: Archive): Promise<Outcome> {
    try {
      const storage = await this.#context.storage(1);
      const ref = { storage, folder: archive.folder, file: archive.file };
      await this.#engine.verifyArchive(this.#context, ref);
      return { kind: 'equal' };
    } catch (error) {
      return this.#failure(error);
    }
  }

  #failure(error: unknown): Outcome {
    if (!(error instanceof this.#engine.PhdError)) {
      return { kind: 'wrong', why: `a foreign error: ${(error as Error).stack ?? String(error)}` };
    }
    const isOneLine = !/[\p{Cc}]/u.test(error.message);
    if (!isOneLine)
      return { kind: 'wrong', why: `a message with control characters: ${JSON.stringify(error.message)}` };
    return { kind: 'error', code: error.code, message: error.message };
  }

  async close(): Promise<void> {
    await this.#context.close();
    this.#home.remove();
  }
}

/** Copies a folder; for homes that are to be used up. */
export function copyFolder(from: string, to: string): void {
  mkdirSync(path.dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true });
}

/**
 * A home that can be put back as it was: one VM, a FULL with its empty DELTA, and a disk changed since. The FULL bears
 * a stamp of the future, so that the stamp, and with it every name, of the next run is known beforehand.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { EngineContext } from '../../src/engine/context.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { archivesUnder, loadEngine } from './farm.ts';

const FULL_TIME = new Date(2031, 4, 5, 12, 0);
const DISK_BYTES = 2 ** 21 + 512;

export class FrozenHome {
  readonly home: TempHome = makeTempHome();
  readonly #kept = mkdtempSync(path.join(tmpdir(), 'phd-kept-'));
  vm!: TestVm;
  /** Relative to the target, as made; the next run is a minute later. */
  full = '';
  empty = '';

  static async make(config = ''): Promise<FrozenHome> {
    const frozen = new FrozenHome();
    const { home } = frozen;
    home.writeConfig(
      `targets:\n  - { number: 1, name: local, transport: vmfs, path: one }\ndatastores: [ store, out ]\n${config}`,
    );
    home.folder('one');
    frozen.vm = await makeVmFolder(home.folder('store'), {
      vmName: 'vm',
      disks: [{ name: 'd.vmdk', sizeBytes: DISK_BYTES }],
    });
    const engine = await loadEngine();
    const context = await engine.openContext({ env: home.env, clock: { now: () => FULL_TIME } });
    const result = await engine.backup(context, { folder: frozen.vm.folder, mode: 'full' });
    await context.close();
    const [disk] = result.disks;
    if (disk === undefined) throw new Error(`no FULL was made: ${result.failed[0]?.error.message}`);
    frozen.full = `${disk.folder}/${disk.fullFile}`;
    frozen.empty = `${disk.folder}/${disk.deltaFile}`;
    await changeImage(frozen.flat, 3, 'since the FULL');
    execFileSync('cp', ['-a', `${home.root}/.`, frozen.#kept]);
    return frozen;
  }

  get root(): string {
    return this.home.root;
  }

  get target(): string {
    return path.join(this.root, 'one');
  }

  get flat(): string {
    return (this.vm.disks[0] as TestVm['disks'][number]).flatPath;
  }

  get out(): string {
    return path.join(this.root, 'out');
  }

  /** Everything as it was when it was made. */
  thaw(): void {
    for (const name of readdirSync(this.root)) rmSync(path.join(this.root, name), { recursive: true });
    execFileSync('cp', ['-a', `${this.#kept}/.`, this.root]);
  }

  /** Where the next run of a mode writes, `.part` names included. */
  placesOfNext(mode: 'full' | 'delta'): string[] {
    const [folder = '', file = ''] = this.full.split('/');
    const full = file.replace('-1200.phd', '-1201.phd');
    const delta = path
      .basename(this.empty)
      .replace('-1200-', '-1201-')
      .replace('-1200.phd', mode === 'full' ? '-1201.phd' : '-1200.phd');
    const inFolder = path.join(this.target, mode === 'full' ? folder : folder.replace(/\.FULL$/, ''));
    const files = (mode === 'full' ? [full, delta] : [delta]).map((name) => path.join(inFolder, name));
    return [this.target, inFolder, ...files, ...files.map((name) => `${name}.part`)];
  }

  /** Files of the databases. */
  placesOfState(): string[] {
    const state = path.join(this.root, 'state');
    const files = ['jobs.db', 'index.db'].flatMap((name) => [name, `${name}-wal`, `${name}-shm`]);
    return [state, ...files.map((name) => path.join(state, name))];
  }

  /** Where a restore into `out` writes. */
  placesOfRestore(): string[] {
    const flat = path.join(this.out, 'd-flat.vmdk');
    return [this.out, flat, `${flat}.part`, path.join(this.out, 'd.vmdk')];
  }

  async withContext<T>(work: (context: EngineContext) => Promise<T>): Promise<T> {
    const engine = await loadEngine();
    const context = await engine.openContext({ env: this.home.env });
    try {
      return await work(context);
    } finally {
      await context.close();
    }
  }

  /** Names on the target that are no `.part`. */
  finalNames(): string[] {
    return archivesUnder(this.target).filter((name) => !name.endsWith('.part'));
  }

  /** What lists show as whole and good, relative to the target. */
  async listedGood(): Promise<string[]> {
    const engine = await loadEngine();
    return await this.withContext(async (context) => {
      await engine.index(context, { scope: 'all' });
      const rows = engine.list(context, {}, { limit: 1000 });
      return rows
        .filter(({ complete, state }) => complete && (state === null || state === 'without DELTA'))
        .map(({ folder, file }) => `${folder}/${file}`);
    });
  }

  /** Throws unless everything that bears the name of an archive proves to be one. */
  async verifyAll(): Promise<void> {
    const engine = await loadEngine();
    await this.withContext(async (context) => {
      const storage = await context.storage(1);
      for (const name of this.finalNames())
        await engine.verifyArchive(context, {
          storage,
          folder: path.dirname(name),
          file: path.basename(name),
        });
    });
  }

  /** Restores an archive into a folder of its own; the bytes of the disk. */
  async restored(archive: string): Promise<Buffer> {
    const engine = await loadEngine();
    const to = path.join(this.root, 'proof');
    rmSync(to, { recursive: true, force: true });
    return await this.withContext(async (context) => {
      const archiveRef = await engine.archiveRef(context, `1:${archive}`);
      const result = await engine.restore(context, { archive: archiveRef, to });
      return readFileSync(result.flatPath);
    });
  }

  /** Folders that operations left under the state folder. */
  scratchFolders(): string[] {
    const scratch = path.join(this.root, 'state', 'scratch');
    return existsSync(scratch) ? readdirSync(scratch) : [];
  }

  remove(): void {
    this.home.remove();
    rmSync(this.#kept, { recursive: true, force: true });
  }
}

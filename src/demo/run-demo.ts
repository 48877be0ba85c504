/**
 * The demo: a farm in a temporary home is backed up, changed, backed up again, loses a VM and gets it back. What
 * it shows is proved by other means than the engine's own; any failure throws.
 */
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { formatCount } from '../engine/display-text.ts';
import {
  type BackupResult,
  backup,
  type EngineContext,
  index,
  type ListedRow,
  list,
  type OperationHooks,
  openContext,
  PhdError,
  refsOfVm,
  restore,
  restoreVmx,
} from '../engine/index.ts';
import { chooseContent, type DiskContent } from './disk-content.ts';
import { changeFarm, type Farm, type FarmVm, makeFarm } from './farm.ts';
import { digestOfFile, firstDifference } from './same-bytes.ts';

const LOST_VM = 'database';
const CHANGED_VMS = ['web', LOST_VM];

export interface DemoStep {
  name: string;
  /** What came of it, in a few words. */
  result: string;
  /** Bytes of disks that went through; null where that says nothing. */
  bytes: number | null;
  seconds: number;
}

export interface DemoHooks extends OperationHooks {
  onStep(step: DemoStep): void;
  /** The archives as the index lists them. */
  onList(rows: readonly ListedRow[]): void;
}

export interface ProvedDisk {
  disk: string;
  bytes: number;
  /** SHA-256 before the VM was deleted, and of the restored disk. */
  digest: string;
  /** What a file system check said, or null if there was none. */
  check: string | null;
}

export interface DemoReport {
  /** What lies on the disks. */
  content: string;
  proved: ProvedDisk[];
}

/** Makes a new folder under the system's temporary folder for `work`, and removes it at the end unless kept. */
export async function withDemoHome<T>(isKept: boolean, work: (home: string) => Promise<T>): Promise<T> {
  const home = await fs.mkdtemp(path.join(tmpdir(), 'phd-demo-'));
  try {
    return await work(home);
  } finally {
    if (!isKept) await fs.rm(home, { recursive: true, force: true });
  }
}

/** Runs the demo in an empty home. */
export async function runDemo(env: NodeJS.ProcessEnv, home: string, hooks: DemoHooks): Promise<DemoReport> {
  const content = chooseContent(env);
  const steps = new Steps(hooks);
  const farm = await steps.make(home, content);
  const context = await openContext({ env: { ...env, PHD_HOME: home }, onNotice: hooks.onWarning });
  try {
    return { content: content.description, proved: await steps.walk(context, farm, content) };
  } finally {
    await context.close();
  }
}

class Steps {
  readonly #hooks: DemoHooks;

  constructor(hooks: DemoHooks) {
    this.#hooks = hooks;
  }

  /** Runs one step, takes its time and tells of it. */
  async #step<T>(name: string, bytes: number | null, work: () => Promise<[T, string]>): Promise<T> {
    const startedMs = performance.now();
    const [value, result] = await work();
    this.#hooks.onStep({ name, result, bytes, seconds: (performance.now() - startedMs) / 1000 });
    return value;
  }

  make(home: string, content: DiskContent): Promise<Farm> {
    return this.#step('make a farm', null, async () => {
      const farm = await makeFarm(home, content, this.#hooks.signal);
      return [
        farm,
        `${formatCount(farm.vms.length, 'VM')}, ${formatCount(disksOf(farm.vms).length, 'disk')}, 2 targets`,
      ];
    });
  }

  async walk(context: EngineContext, farm: Farm, content: DiskContent): Promise<ProvedDisk[]> {
    const lost = farm.vms.find(({ name }) => name === LOST_VM) as FarmVm;
    const farmBytes = bytesOf(farm.vms);
    await this.#step('back up as FULL', farmBytes, () => this.#backUp(context, farm, 'full'));
    await this.#step('change files inside', null, async () => {
      await changeFarm(farm, CHANGED_VMS, content, this.#hooks.signal);
      return [undefined, `on every disk of ${CHANGED_VMS.join(' and ')}`];
    });
    await this.#step('back up as DELTA', farmBytes, () => this.#backUp(context, farm, 'delta'));
    const before = await this.#step(`delete VM ${lost.name}`, null, () => this.#lose(farm, lost));
    await this.#step('index the targets', null, () => this.#index(context));
    await this.#step('list', null, () => this.#list(context, farm));
    await this.#step(`restore VM ${lost.name}`, bytesOf([lost]), () => this.#restore(context, lost));
    return await this.#step('prove bit for bit', bytesOf([lost]), () =>
      this.#prove(farm, lost, before, content),
    );
  }

  async #backUp(context: EngineContext, farm: Farm, mode: 'full' | 'delta'): Promise<[undefined, string]> {
    const results: BackupResult[] = [];
    for (const { folder, targetNumber } of farm.vms) {
      const request = { folder, target: targetNumber, mode, assumeOff: true };
      results.push(await backup(context, request, this.#hooks));
    }
    const failure = results.flatMap(({ failed }) => failed)[0];
    if (failure) throw failure.error;
    const disks = results.flatMap((result) => result.disks.map((disk) => ({ ...disk, vm: result.vm })));
    const other = disks.find((disk) => disk.mode !== mode);
    if (other) throw new PhdError('IO', `${other.disk} was backed up as ${other.mode}: ${other.reason}`);
    const archiveBytes = disks.reduce((sum, disk) => sum + disk.archiveBytes, 0);
    const size = `${(archiveBytes / 1024 / 1024).toFixed(1)} MB`;
    if (mode === 'full') return [undefined, `${formatCount(disks.length, 'archive')}, ${size}`];
    for (const disk of disks) {
      if (disk.changedBlocks > 0 === CHANGED_VMS.includes(disk.vm)) continue;
      throw new PhdError('IO', `${disk.disk}: ${disk.changedBlocks} changed blocks are not what was changed`);
    }
    const changed = disks.reduce((sum, disk) => sum + disk.changedBlocks, 0);
    return [
      undefined,
      `${formatCount(disks.length, 'archive')}, ${size}, ${formatCount(changed, 'changed block')}`,
    ];
  }

  /** Copies of the lost disks stay aside, for the comparison only. */
  async #lose(farm: Farm, lost: FarmVm): Promise<[Map<string, string>, string]> {
    const aside = asideOf(farm);
    await fs.mkdir(aside);
    const digests = new Map<string, string>();
    for (const { name, flatPath } of lost.disks) {
      digests.set(name, await digestOfFile(flatPath));
      await fs.copyFile(flatPath, path.join(aside, name));
    }
    await fs.rm(lost.folder, { recursive: true });
    return [digests, `digests of its ${formatCount(lost.disks.length, 'disk')} taken before`];
  }

  async #index(context: EngineContext): Promise<[undefined, string]> {
    const results = await index(context, { scope: 'all', signal: this.#hooks.signal });
    for (const { error } of results) if (error) throw error;
    const found = results.map(({ targetNumber, archiveCount }) => `target ${targetNumber}: ${archiveCount}`);
    return [undefined, `archives on ${found.join(', ')}`];
  }

  async #list(context: EngineContext, farm: Farm): Promise<[undefined, string]> {
    const rows = list(context, {}, { limit: 1000 });
    const expected = 3 * disksOf(farm.vms).length;
    if (rows.length !== expected) {
      throw new PhdError('NOT_FOUND', `the index lists ${rows.length} archives where ${expected} were made`);
    }
    this.#hooks.onList(rows);
    return [undefined, formatCount(rows.length, 'archive')];
  }

  async #restore(context: EngineContext, lost: FarmVm): Promise<[undefined, string]> {
    const warn = this.#hooks.onWarning ?? (() => undefined);
    const refs = await refsOfVm(context, { vm: lost.name }, warn);
    let fromDelta = 0;
    for (const archive of refs) {
      const result = await restore(context, { archive, to: lost.folder }, this.#hooks);
      fromDelta += result.fromDelta;
    }
    const [first] = refs;
    if (first === undefined) throw new PhdError('NOT_FOUND', `no archive of ${lost.name} was found`);
    const placed = await restoreVmx(context, { archive: first, to: lost.folder }, this.#hooks);
    const failure = placed.failed[0];
    if (failure) throw failure.error;
    return [
      undefined,
      `${formatCount(refs.length, 'disk')}, ${formatCount(fromDelta, 'block')} from DELTAs, and its VMX`,
    ];
  }

  async #prove(
    farm: Farm,
    lost: FarmVm,
    before: ReadonlyMap<string, string>,
    content: DiskContent,
  ): Promise<[ProvedDisk[], string]> {
    const proved: ProvedDisk[] = [];
    for (const { name, flatPath, sizeBytes } of lost.disks) {
      const digest = await digestOfFile(flatPath);
      if (digest !== before.get(name)) {
        throw new PhdError(
          'DIGEST_MISMATCH',
          `restored disk ${name} has SHA-256 ${digest}, not ${before.get(name)}`,
        );
      }
      const differsAt = await firstDifference(path.join(asideOf(farm), name), flatPath);
      if (differsAt !== null) {
        throw new PhdError(
          'DIGEST_MISMATCH',
          `restored disk ${name} differs from what it was at byte ${differsAt}`,
        );
      }
      proved.push({
        disk: name,
        bytes: sizeBytes,
        digest,
        check: await content.check(flatPath, this.#hooks.signal),
      });
    }
    return [proved, `${formatCount(proved.length, 'disk')}: same digest, same bytes`];
  }
}

function asideOf(farm: Farm): string {
  return path.join(farm.home, 'aside');
}

function disksOf(vms: readonly FarmVm[]) {
  return vms.flatMap(({ disks }) => disks);
}

function bytesOf(vms: readonly FarmVm[]): number {
  return disksOf(vms).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

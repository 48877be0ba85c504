/** An ESX host: its VMs, and one of them held still by a snapshot of ours. Reached by its shell over SSH alone, never SFTP. */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { shownName } from '../../datastore/plain-name.ts';
import { uuidOfVm, type VmFile } from '../../datastore/source-vm.ts';
import { parseVmx, type Vmx, vmxDisks } from '../../datastore/vmx.ts';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { shellWord } from '../../storage/shell-word.ts';
import { runHook } from '../hook-command.ts';
import type { FreezeOptions, FrozenVm, Host, HostVm } from '../host.ts';
import type { HostAccess } from '../open-host.ts';
import { collectEsxFiles, readSmall } from './esx-files.ts';
import { EsxReader, type ReadWay, readWay, WAY_WORDS } from './esx-reader.ts';
import { EsxShell } from './esx-shell.ts';
import { OwnSnapshots } from './esx-snapshot.ts';
import { type FrozenDisks, findFrozenDisks } from './frozen-disks.ts';
import { LastingHelper } from './lasting-reads.ts';
import { type EsxVm, listEsxVms } from './vm-list.ts';

/** Pauses before a dead line is opened again: a switch that restarts must not leave a snapshot there. */
const RELEASE_PAUSES_MS = [0, 2_000, 10_000, 30_000];
/** The VMX is written a moment after the list has changed. */
const MERGE_PAUSES_MS = [0, 500, 2_000, 10_000];
/** So many snapshots of ours that cannot be removed are enough: a chain of them slows the VM, and the host ends it at 32. */
const MOST_LEFT = 3;
/** As hosts call what is written since a snapshot. */
const SNAPSHOT_FILE = /-\d{6}\.vmdk$/;
/** A database may take long to write what it holds. */
const HOOK_TIMEOUT_MS = 10 * 60_000;

export function openEsxHost(config: HostConfig, access: HostAccess): EsxHost {
  return new EsxHost(config, access);
}

export class EsxHost implements Host {
  readonly config: HostConfig;
  readonly shell: EsxShell;
  readonly snapshots: OwnSnapshots;

  constructor(config: HostConfig, access: HostAccess) {
    this.config = config;
    this.shell = new EsxShell(config, access);
    this.snapshots = new OwnSnapshots(this.shell, access.home);
  }

  async listVms(signal?: AbortSignal, onFault?: (fault: string) => void): Promise<EsxVm[]> {
    return await listEsxVms(this.shell, signal, onFault);
  }

  async freeze(vm: HostVm, options: FreezeOptions): Promise<FrozenVm> {
    return await new Freeze(this, await this.#asItIs(vm, options), options).begin();
  }

  async close(): Promise<void> {
    this.shell.close();
  }

  /** The VM as the host knows it now. Throws NOT_FOUND. */
  async #asItIs(vm: HostVm, { onWarning, signal }: FreezeOptions): Promise<EsxVm> {
    const now = (await this.listVms(signal)).find(({ id }) => id === vm.id);
    const isOther = vm.uuid !== null && now?.uuid != null && now.uuid !== vm.uuid;
    if (now === undefined || isOther)
      throw new PhdError(
        'NOT_FOUND',
        `host ${this.config.name}: VM ${shownName(vm.name)} (id ${vm.id}) is no longer there: see phd host list ${this.config.name}`,
      );
    if (now.name !== vm.name)
      onWarning(`VM ${shownName(vm.name)} was renamed to ${shownName(now.name)} since it was listed`);
    if (vm.place !== null && now.place !== vm.place)
      onWarning(`VM ${shownName(now.name)} was moved to ${shownName(now.place)} since it was listed`);
    return now;
  }
}

/** One VM held still: what stands on the host because of it, and how that goes away. */
class Freeze {
  readonly #host: EsxHost;
  readonly #vm: EsxVm;
  readonly #options: FreezeOptions;
  readonly #folder: string;
  readonly #cloneFolder: string;
  #helper: LastingHelper | null = null;
  /** Name of our snapshot; it may stand as soon as it has one. */
  #snapshot: string | null = null;
  #isReleased = false;
  /** Files of its disks before the snapshot, by slot. */
  #before: ReadonlyMap<string, string> = new Map();
  /** A snapshot, or its removal, was asked for, and it is not known what became of that. */
  #isUncertain = false;

  constructor(host: EsxHost, vm: EsxVm, options: FreezeOptions) {
    this.#host = host;
    this.#vm = vm;
    this.#options = options;
    this.#folder = path.posix.dirname(vm.vmxPath);
    this.#cloneFolder = `${this.#folder}/phd-clone-${host.snapshots.owner}`;
  }

  async begin(): Promise<FrozenVm> {
    const { shell } = this.#host;
    const { signal, onWarning } = this.#options;
    const vm = this.#vm;
    await this.#clearAway();
    const notices: string[] = [];
    if (vm.power === 'suspended')
      notices.push(
        `${shownName(vm.name)} is suspended: its memory is not kept, its disks are as after a power cut`,
      );
    const way = await readWay(shell, signal);
    shell.log(`${vm.name}: ${WAY_WORDS[way]}`);
    if (way !== 'python3') notices.push(`host ${this.#host.config.name}: ${WAY_WORDS[way]}`);
    // Read before the snapshot: afterwards the VMX names the deltas.
    const before = await this.#readVmx();
    this.#before = new Map(vmxDisks(before.vmx).map(({ slot, fileName }) => [slot, fileName]));
    const files = await collectEsxFiles(
      shell,
      this.#folder,
      {
        name: path.posix.basename(vm.vmxPath),
        bytes: before.bytes,
        nvramName: before.vmx.values.get('nvram'),
      },
      notices,
      signal,
    );
    try {
      await this.#takeSnapshot();
      const after = await this.#readVmx();
      const found = await findFrozenDisks({
        shell,
        folder: this.#folder,
        before: before.vmx,
        after: after.vmx,
        cloneFolder: this.#cloneFolder,
        signal,
      });
      // Clones are done with from here on, if they are of one moment.
      if (found.disks.some((disk) => this.#isClone(disk))) await this.#confirm(signal);
      if (way === 'python3') this.#helper = await LastingHelper.start(shell);
      return { source: this.#source(before.vmx, files, found, notices, way), release: () => this.release() };
    } catch (error) {
      await this.release().catch((failure: Error) => onWarning(failure.message));
      throw error;
    }
  }

  /** What a backup that was broken off has left. What stays is below our snapshot, and told again at the end. */
  async #clearAway(): Promise<void> {
    const { signal, onWarning } = this.#options;
    const vm = shownName(this.#vm.name);
    let tooMany: string | null = null;
    try {
      const { removed, left, failure } = await this.#host.snapshots.removeOwn(this.#vm.id, null, signal);
      for (const name of removed)
        onWarning(`${vm}: snapshot ${name}, left there by a backup that was broken off, was removed`);
      if (failure !== null && left.length >= MOST_LEFT)
        tooMany = `${vm} bears ${left.length} snapshots of this program that cannot be removed, and gets no further one: ${failure.message}`;
      if (failure !== null) throw failure;
      await this.#removeClones();
    } catch (error) {
      const failure = fromErrno(error, vm);
      if (['CANCELLED', 'TARGET_UNREACHABLE', 'NOT_FOUND'].includes(failure.code)) throw failure;
      if (tooMany !== null) throw new PhdError('LOCKED', tooMany, { cause: failure });
      onWarning(`${vm}: what a backup that was broken off left there stays: ${failure.message}`);
    }
  }

  /** Snapshot and clones go, over a new line if the old one is dead. Throws what kept them there. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#helper?.stop();
    const { shell, snapshots, config } = this.#host;
    let unmerged: string | null = null;
    for (const pauseMs of [...RELEASE_PAUSES_MS, null]) {
      try {
        if (this.#isUncertain) await snapshots.idle(this.#vm.id);
        const { failure } = await snapshots.removeOwn(this.#vm.id, this.#snapshot);
        if (failure !== null) throw failure;
        await this.#removeClones();
        unmerged = this.#snapshot === null ? null : await this.#unmergedFile();
        this.#isReleased = true;
        shell.log(`${this.#vm.name}: no snapshot of ours is there`);
        break;
      } catch (error) {
        const failure = fromErrno(error, this.#vm.name);
        if (failure.code === 'TARGET_UNREACHABLE' && pauseMs !== null) {
          shell.dropLine();
          // A removal that was begun goes on there without us.
          this.#isUncertain = true;
          await pause(pauseMs);
          continue;
        }
        throw new PhdError(
          failure.code,
          `${failure.message}: a snapshot of ${shownName(this.#vm.name)} may still stand: the next backup of it removes it, phd host check ${config.name} shows it`,
          { cause: failure },
        );
      }
    }
    if (unmerged === null) return;
    throw new PhdError(
      'TARGET_LIED',
      `host ${config.name}: the snapshot of ${shownName(this.#vm.name)} is gone from its list, but the VM still writes into ${shownName(unmerged)}: consolidate its disks in the client, else each backup leaves one more such file`,
    );
  }

  /**
   * A host may take a snapshot out of its list and leave what was written since in a file beside (it calls that "consolidation
   * needed"); then each backup adds one. Null: the VM names the files of before. Throws TARGET_*.
   */
  async #unmergedFile(): Promise<string | null> {
    let unmerged: string | null = null;
    for (const pauseMs of MERGE_PAUSES_MS) {
      await pause(pauseMs);
      // A snapshot that people made meanwhile has files of its own.
      if ((await this.#host.snapshots.all(this.#vm.id)).length > 0) return null;
      const bytes = await readSmall(this.#host.shell, this.#vm.vmxPath);
      const vmx = parseVmx(bytes, path.posix.basename(this.#vm.vmxPath));
      const found = vmxDisks(vmx).find(
        ({ slot, fileName }) =>
          SNAPSHOT_FILE.test(fileName) && (this.#before.get(slot) ?? fileName) !== fileName,
      );
      unmerged = found?.fileName ?? null;
      if (unmerged === null) return null;
    }
    return unmerged;
  }

  async #takeSnapshot(): Promise<void> {
    const { snapshots, config } = this.#host;
    const { preFreeze, postThaw, quiesce = false, signal, onWarning } = this.#options;
    const vm = this.#vm;
    const hook = async (what: string, command: string | undefined, by?: AbortSignal): Promise<void> => {
      if (command === undefined) return;
      const env = { PHD_HOST: config.name, PHD_VM: vm.name, PHD_VM_UUID: vm.uuid ?? '' };
      const onLine = (line: string): void => this.#host.shell.log(`${vm.name}: ${line}`);
      await runHook({ what, command, env, timeoutMs: HOOK_TIMEOUT_MS, signal: by, onLine });
    };
    try {
      await hook('preFreeze', preFreeze, signal);
      throwIfAborted(signal);
      this.#isUncertain = true;
      this.#snapshot = snapshots.newName();
      await snapshots.create(vm.id, this.#snapshot, quiesce);
      this.#isUncertain = false;
    } finally {
      // Whatever happened: a database that was told to hold still must go on.
      await hook('postThaw', postThaw).catch((error: Error) =>
        onWarning(`${shownName(vm.name)}: ${error.message}`),
      );
    }
  }

  /** Once the snapshot is gone the guest writes into the disks again, whoever removed it. */
  async #confirm(signal?: AbortSignal): Promise<void> {
    const { snapshots, config } = this.#host;
    if (this.#snapshot !== null && (await snapshots.stands(this.#vm.id, this.#snapshot, signal))) return;
    throw new PhdError(
      'SOURCE_CHANGED',
      `host ${config.name}: snapshot ${this.#snapshot} of ${shownName(this.#vm.name)} was removed while its disks were read: what was read may be of two moments`,
    );
  }

  async #readVmx(): Promise<{ bytes: Buffer; vmx: Vmx }> {
    const { vmxPath } = this.#vm;
    const bytes = await readSmall(this.#host.shell, vmxPath, this.#options.signal);
    return { bytes, vmx: parseVmx(bytes, path.posix.basename(vmxPath)) };
  }

  #source(
    vmx: Vmx,
    files: VmFile[],
    { disks, refused, notices }: FrozenDisks,
    more: string[],
    way: ReadWay,
  ): FrozenVm['source'] {
    const { shell, config } = this.#host;
    const descriptors: VmFile[] = disks.map(({ name, descriptorPath, descriptorBytes }) => ({
      kind: 'descriptor',
      name,
      path: descriptorPath ?? name,
      bytes: descriptorBytes,
      sizeBytes: descriptorBytes.length,
    }));
    return {
      folder: this.#folder,
      hostName: config.host ?? config.name,
      vmName: path.posix.basename(this.#folder),
      displayName: vmx.values.get('displayname')?.trim() || this.#vm.name,
      uuid: uuidOfVm(vmx, config.host ?? config.name, this.#folder),
      files: [...files, ...descriptors],
      disks: disks.map(({ descriptorBytes: _, ...disk }) => ({
        ...disk,
        reader: new EsxReader(shell, disk.flatPath, disk.sizeBytes, way, {
          helper: this.#helper,
          ...(!this.#isClone(disk) && {
            confirm: (signal?: AbortSignal) => this.#confirm(signal),
          }),
        }),
      })),
      refused,
      notices: [...more, ...notices],
    };
  }

  #isClone({ flatPath }: { flatPath: string }): boolean {
    return flatPath.startsWith(`${this.#cloneFolder}/`);
  }

  /** Only what this program names so, in the VM's own folder. */
  async #removeClones(): Promise<void> {
    const folder = shellWord(this.#cloneFolder);
    await this.#host.shell.output(
      `if [ -d ${folder} ]; then rm -f ${folder}/disk-*.vmdk && rmdir ${folder}; fi`,
      `cannot remove the clones in ${shownName(this.#cloneFolder)}`,
    );
  }
}

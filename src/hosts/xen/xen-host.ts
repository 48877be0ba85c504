/** A pool of XenServer or XCP-ng: its VMs, and one of them held still by a snapshot of ours. Reached by XenAPI over HTTPS alone. */
import { shownName } from '../../datastore/plain-name.ts';
import type { SourceVm } from '../../datastore/source-vm.ts';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { runHook } from '../hook-command.ts';
import type { FreezeOptions, FrozenVm, Host, HostVm } from '../host.ts';
import type { HostAccess, ScratchFolder } from '../open-host.ts';
import { devicePosition, diskAt, type KeptVm, keptFiles, newKeptVm, type XenDisk } from './kept-vm.ts';
import { readOvaXml } from './ova-xml.ts';
import { SpooledDisk } from './spooled-disk.ts';
import {
  NO_REF,
  networkRecord,
  poolRecord,
  recordsOf,
  type VmRecord,
  vbdRecord,
  vdiRecord,
  vifRecord,
  vmRecord,
} from './xen-records.ts';
import { XenSession } from './xen-session.ts';
import { XenSnapshots } from './xen-snapshot.ts';
import { XEN_WAITS, XenTransfers, type XenWaits } from './xen-transfer.ts';
import { listXenVms, xenVmNow } from './xen-vms.ts';

/** A database may take long to write what it holds. */
const HOOK_TIMEOUT_MS = 10 * 60_000;

export function openXenHost(config: HostConfig, access: HostAccess, waits: XenWaits = XEN_WAITS): XenHost {
  return new XenHost(config, access, waits);
}

export class XenHost implements Host {
  readonly config: HostConfig;
  readonly access: HostAccess;
  readonly session: XenSession;
  readonly transfers: XenTransfers;
  readonly snapshots: XenSnapshots;

  constructor(config: HostConfig, access: HostAccess, waits: XenWaits) {
    this.config = config;
    this.access = access;
    this.session = new XenSession(config, access);
    this.transfers = new XenTransfers(this.session, waits);
    this.snapshots = new XenSnapshots(this.session, access.home);
  }

  async listVms(signal?: AbortSignal, onFault?: (fault: string) => void): Promise<HostVm[]> {
    return await listXenVms(this.session, signal, onFault);
  }

  async freeze(vm: HostVm, options: FreezeOptions): Promise<FrozenVm> {
    const { onWarning, signal } = options;
    const doing = `cannot hold ${shownName(vm.name)} still`;
    const now = await xenVmNow(this.session, vm.id, doing, signal);
    if (now.record.name_label !== vm.name)
      onWarning(
        `VM ${shownName(vm.name)} was renamed to ${shownName(now.record.name_label)} since it was listed`,
      );
    return await new Freeze(this, now, options).begin();
  }

  async close(): Promise<void> {
    await this.session.close();
  }
}

/** One VM held still: what stands in the pool because of it, and how that goes away. */
class Freeze {
  readonly #host: XenHost;
  readonly #vmRef: string;
  readonly #record: VmRecord;
  readonly #options: FreezeOptions;
  readonly #disks: SpooledDisk[] = [];
  #scratch: ScratchFolder | null = null;
  /** A snapshot was asked for, and it is not known what became of that. */
  #isUncertain = false;
  #isReleased = false;

  constructor(host: XenHost, { vmRef, record }: { vmRef: string; record: VmRecord }, options: FreezeOptions) {
    this.#host = host;
    this.#vmRef = vmRef;
    this.#record = record;
    this.#options = options;
  }

  async begin(): Promise<FrozenVm> {
    const { onWarning, signal } = this.#options;
    await this.#clearAway();
    const notices: string[] = [];
    const kept = await this.#records();
    const metadata = await this.#metadata(notices);
    try {
      const snapshotRef = await this.#takeSnapshot();
      throwIfAborted(signal);
      this.#scratch = await this.#host.access.scratch();
      const source = await this.#source(snapshotRef, { kept, metadata, notices });
      return { source, release: () => this.release() };
    } catch (error) {
      await this.release().catch((failure: Error) => onWarning(failure.message));
      throw error;
    }
  }

  /** The spool and the snapshot go, over a new line if the old one is dead. Throws what kept it there. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    for (const disk of this.#disks.splice(0)) await disk.close();
    await this.#scratch?.remove();
    this.#scratch = null;
    const vm = this.#record.name_label;
    await this.#host.snapshots.release(this.#vmRef, vm, { isUncertain: this.#isUncertain });
    this.#isReleased = true;
    this.#host.session.log(`${vm}: no snapshot of ours is there`);
  }

  /** What a backup that was broken off has left. */
  async #clearAway(): Promise<void> {
    const { onWarning, signal } = this.#options;
    const vm = shownName(this.#record.name_label);
    try {
      for (const name of await this.#host.snapshots.removeOwn(this.#vmRef, this.#record.name_label, signal))
        onWarning(`${vm}: snapshot ${name}, left there by a backup that was broken off, was removed`);
    } catch (error) {
      const failure = fromErrno(error, vm);
      if (['CANCELLED', 'TARGET_UNREACHABLE', 'NOT_FOUND'].includes(failure.code)) throw failure;
      onWarning(`${vm}: what a backup that was broken off left there stays: ${failure.message}`);
    }
  }

  /** The VM as it is before the snapshot. */
  async #records(): Promise<KeptVm> {
    const { session } = this.#host;
    const vm = this.#record;
    const doing = `cannot read the records of ${shownName(vm.name_label)}`;
    const options = { signal: this.#options.signal };
    const pools = await session.call('pool.get_all_records', [], recordsOf(poolRecord), doing, options);
    const vbds: KeptVm['vbds'] = [];
    for (const one of vm.VBDs) {
      const vbd = await session.call('VBD.get_record', [one], vbdRecord, doing, options);
      const hasDisk = vbd.type === 'Disk' && vbd.VDI !== NO_REF;
      const vdi = hasDisk ? await session.call('VDI.get_record', [vbd.VDI], vdiRecord, doing, options) : null;
      vbds.push({ vbd, vdi });
    }
    const vifs: KeptVm['vifs'] = [];
    for (const one of vm.VIFs) {
      const vif = await session.call('VIF.get_record', [one], vifRecord, doing, options);
      const network = await session.call('network.get_record', [vif.network], networkRecord, doing, options);
      vifs.push({ vif, network });
    }
    return newKeptVm(Object.values(pools)[0]?.name_label ?? '', { vm, vbds, vifs });
  }

  /** Whoever restores with this program does not need it, so a host that gives none is no reason to make no backup. */
  async #metadata(notices: string[]): Promise<Buffer | null> {
    const vm = shownName(this.#record.name_label);
    try {
      const options = { doing: `cannot read the metadata of ${vm}`, signal: this.#options.signal };
      return await readOvaXml(this.#host.transfers, this.#vmRef, options);
    } catch (error) {
      const failure = fromErrno(error, vm);
      if (['CANCELLED', 'TARGET_UNREACHABLE'].includes(failure.code)) throw failure;
      notices.push(`${failure.message}: the archive holds the VM's records, but no ova.xml`);
      return null;
    }
  }

  async #takeSnapshot(): Promise<string> {
    const { snapshots, config, session } = this.#host;
    const { preFreeze, postThaw, quiesce = false, signal, onWarning } = this.#options;
    const { name_label: vm, uuid } = this.#record;
    const hook = async (what: string, command: string | undefined, by?: AbortSignal): Promise<void> => {
      if (command === undefined) return;
      const env = { PHD_HOST: config.name, PHD_VM: vm, PHD_VM_UUID: uuid.toLowerCase() };
      const onLine = (line: string): void => session.log(`${vm}: ${line}`);
      await runHook({ what, command, env, timeoutMs: HOOK_TIMEOUT_MS, signal: by, onLine });
    };
    try {
      await hook('preFreeze', preFreeze, signal);
      throwIfAborted(signal);
      this.#isUncertain = true;
      const made = await snapshots.create(this.#vmRef, vm, quiesce, onWarning);
      this.#isUncertain = false;
      return made;
    } finally {
      // Whatever happened: a database that was told to hold still must go on.
      await hook('postThaw', postThaw).catch((error: Error) =>
        onWarning(`${shownName(vm)}: ${error.message}`),
      );
    }
  }

  async #source(
    snapshotRef: string,
    { kept, metadata, notices }: { kept: KeptVm; metadata: Buffer | null; notices: string[] },
  ): Promise<SourceVm> {
    const { session, config, transfers } = this.#host;
    const { name_label: vm, uuid, power_state: power } = this.#record;
    const doing = `cannot see the snapshot of ${shownName(vm)}`;
    const snapshot = await session.call('VM.get_record', [snapshotRef], vmRecord, doing);
    const disks: SourceVm['disks'] = [];
    const xenDisks: XenDisk[] = [];
    const refused: SourceVm['refused'] = [];
    for (const one of snapshot.VBDs) {
      const vbd = await session.call('VBD.get_record', [one], vbdRecord, doing);
      if (vbd.type !== 'Disk' || vbd.VDI === NO_REF) continue;
      const position = devicePosition(vbd.userdevice);
      const place = position === null ? null : diskAt(position);
      if (place === null || disks.some(({ name }) => name === place.name)) {
        const disk = shownName(`disk ${vbd.userdevice}`);
        const error = new PhdError(
          'SOURCE_UNSUPPORTED',
          `${disk} of ${shownName(vm)} is at no place that is known`,
        );
        refused.push({ disk, error });
        continue;
      }
      const vdi = await session.call('VDI.get_record', [vbd.VDI], vdiRecord, doing);
      const what = `${place.name} of ${shownName(vm)} (${shownName(vdi.name_label)})`;
      const path = this.#scratch!.file(place.name);
      const facts = { what, vdiUuid: vdi.uuid, sizeBytes: vdi.virtual_size, path };
      const reader = new SpooledDisk(facts, transfers, (text) => session.log(text));
      this.#disks.push(reader);
      xenDisks.push({ ...place, userdevice: vbd.userdevice });
      disks.push({
        ...place,
        flatPath: `${config.name}:${vdi.uuid}`,
        reader,
        descriptorPath: null,
        descriptorText: null,
        sizeBytes: vdi.virtual_size,
        createType: 'vmfs',
        adapterType: 'lsilogic',
      });
    }
    const frozen = new Set(xenDisks.map(({ userdevice }) => userdevice));
    for (const { vbd, vdi } of kept.vbds) {
      const isToldAlready = refused.some(({ disk }) => disk === shownName(`disk ${vbd.userdevice}`));
      if (vdi === null || frozen.has(vbd.userdevice) || isToldAlready) continue;
      const disk = shownName(`disk ${vbd.userdevice}`);
      const words = `${disk} of ${shownName(vm)} (${shownName(vdi.name_label)}) is not in its snapshot`;
      refused.push({ disk, error: new PhdError('SOURCE_CHANGED', words) });
    }
    const byPlace = (a: { scsiId: string }, b: { scsiId: string }): number => (a.scsiId < b.scsiId ? -1 : 1);
    if (power === 'Suspended')
      notices.push(
        `${shownName(vm)} is suspended: its memory is not kept, its disks are as after a power cut`,
      );
    return {
      folder: `${config.name}:${uuid.toLowerCase()}`,
      hostName: config.host ?? config.name,
      vmName: vm,
      displayName: vm,
      uuid: uuid.toLowerCase(),
      files: keptFiles(kept, xenDisks.sort(byPlace), metadata),
      disks: disks.sort(byPlace),
      refused,
      notices,
    };
  }
}

/** A machine of iron as a host: it is its only VM, its block devices are the disks. */
import { hostname } from 'node:os';
import { v5 as uuidV5 } from 'uuid';
import { checkInUse } from '../../datastore/in-use.ts';
import type { SourceDisk, SourceVm, VmFile } from '../../datastore/source-vm.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { runHook } from '../hook-command.ts';
import type { FreezeOptions, FrozenVm, Host, HostVm } from '../host.ts';
import type { HostAccess } from '../open-host.ts';
import { type AccountedDevice, accountOf } from './device-account.ts';
import { type DeviceFacts, deviceFacts } from './device-facts.ts';
import { DeviceReader } from './device-reader.ts';
import { deviceVmx, familyOf, type GuestFamily } from './device-vmx.ts';
import { type CheckListItem, checkListText, guestCheckList } from './guest-checklist.ts';
import { type Machine, openMachine } from './machine.ts';
import { type PartitionTable, readPartitionTable } from './partition-table.ts';

/** Of a command before or after. */
const HOOK_TIMEOUT_MS = 15 * 60_000;
/** Disks of one controller, its own unit 7 left out. */
const UNITS = 15;
/** A VM has four controllers. */
const MOST_DISKS = 4 * UNITS;

/** What is known of a device of phd.yaml, or why nothing is. */
export type SurveyedDevice = { path: string } & (
  | { facts: DeviceFacts; table: PartitionTable; error: null }
  | { facts: null; table: null; error: PhdError }
);

export function openDeviceHost(config: HostConfig, access: HostAccess): DeviceHost {
  return new DeviceHost(config, openMachine(config, access));
}

interface Opened extends AccountedDevice {
  scsiId: string;
  disk: string;
}

export class DeviceHost implements Host {
  readonly config: HostConfig;
  readonly #machine: Machine;

  constructor(config: HostConfig, machine: Machine) {
    this.config = config;
    this.#machine = machine;
  }

  /** The machine itself. Throws nothing: whether it answers is seen when its devices are. */
  async listVms(signal?: AbortSignal): Promise<HostVm[]> {
    await this.#alive(signal);
    const { name, devices, host } = this.config;
    const place = `${host ?? 'this machine'}: ${devices.join(' ')}`;
    return [{ id: name, name, uuid: uuidOf(this.config), place, power: 'on' }];
  }

  /** Size, model, serial, use and partitions of each device. A device that fails does not hide the others. */
  async survey(signal?: AbortSignal): Promise<SurveyedDevice[]> {
    const surveyed: SurveyedDevice[] = [];
    for (const path of this.config.devices) {
      try {
        const { facts, table } = await this.#look(path, signal);
        surveyed.push({ path, facts, table, error: null });
      } catch (error) {
        const failure = fromErrno(error, path);
        if (['CANCELLED', 'TARGET_UNREACHABLE', 'HOST_KEY_REFUSED'].includes(failure.code)) throw failure;
        surveyed.push({ path, facts: null, table: null, error: failure });
      }
    }
    return surveyed;
  }

  /** What the guest needs, by what is known of the devices. Throws what `survey` throws. */
  async checkList(
    signal?: AbortSignal,
  ): Promise<{ family: GuestFamily; items: CheckListItem[]; failed: PhdError[] }> {
    const surveyed = await this.survey(signal);
    const known = surveyed.flatMap((one, at) =>
      one.error === null ? [{ ...one, disk: diskName(this.config.devices, at) }] : [],
    );
    const family = familyOf(known.map(({ table }) => table));
    const devices = known.map(({ path, disk, table, facts }) => ({
      path,
      disk,
      table,
      sectorBytes: facts.sectorBytes,
    }));
    const failed = surveyed.flatMap(({ error }) => (error === null ? [] : [error]));
    return { family, items: guestCheckList(family, devices), failed };
  }

  async freeze(vm: HostVm, options: FreezeOptions): Promise<FrozenVm> {
    const { signal, onWarning, preFreeze, postThaw } = options;
    if (options.quiesce)
      onWarning(
        `${vm.name}: a machine of devices cannot be asked to flush its file systems; preFreeze can do it`,
      );
    const hook = (what: string, command: string, until?: AbortSignal): Promise<void> =>
      runHook({
        what: `${what} of ${vm.name}`,
        command,
        env: { PHD_VM: vm.name },
        timeoutMs: HOOK_TIMEOUT_MS,
        signal: until,
        onLine: onWarning,
      });
    let isThawed = postThaw === undefined;
    const release = async (): Promise<void> => {
      if (isThawed || postThaw === undefined) return;
      isThawed = true;
      await hook('postThaw', postThaw);
    };
    try {
      if (preFreeze !== undefined) await hook('preFreeze', preFreeze, signal);
      return { source: await this.#source(options), release };
    } catch (error) {
      await release().catch((failure: Error) => onWarning(`${vm.name}: ${failure.message}`));
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#machine.close();
  }

  async #alive(signal?: AbortSignal): Promise<void> {
    const { status, stderr } = await this.#machine.run('command -v dd >/dev/null', { signal });
    if (status !== 0)
      throw new PhdError(
        'TARGET_REFUSED',
        `${this.#machine.name} runs no commands of a shell, or has no dd: ${stderr.slice(0, 200)}`,
      );
  }

  async #look(path: string, signal?: AbortSignal): Promise<Omit<AccountedDevice, 'baseName'>> {
    const machine = this.#machine;
    const facts = await deviceFacts(machine, path, signal);
    const reader = new DeviceReader(machine, facts);
    const read = async (offsetBytes: number, bytes: number): Promise<Buffer> => {
      const target = Buffer.alloc(bytes);
      await reader.readBytes(offsetBytes, target, signal);
      return target;
    };
    const table = await readPartitionTable(read, facts.sizeBytes, facts.sectorBytes);
    return { machine, facts, reader, table };
  }

  async #source({ assumeOff = false, onWarning, signal }: FreezeOptions): Promise<SourceVm> {
    const { config } = this;
    const opened: Opened[] = [];
    const refused: SourceVm['refused'] = [];
    for (const [at, path] of config.devices.entries()) {
      const disk = diskName(config.devices, at);
      try {
        if (at >= MOST_DISKS)
          throw new PhdError(
            'SOURCE_UNSUPPORTED',
            `${path}: a VM has at most ${MOST_DISKS} disks: make two hosts of it`,
          );
        const looked = await this.#look(path, signal);
        if (config.host === null) await addOpeners(looked.facts, assumeOff, onWarning);
        requireAtRest(looked.facts, this.#machine, assumeOff, onWarning);
        if (looked.facts.hasher === null)
          onWarning(
            `${path} on ${this.#machine.name}: no python3 and no sha256sum there: every block crosses the line, and no checksum of the source is made`,
          );
        opened.push({ ...looked, disk, baseName: disk.replace(/\.vmdk$/, ''), scsiId: scsiIdOf(at) });
      } catch (error) {
        const failure = fromErrno(error, `${path} on ${this.#machine.name}`);
        if (['CANCELLED', 'TARGET_UNREACHABLE', 'HOST_KEY_REFUSED'].includes(failure.code)) throw failure;
        refused.push({ disk, error: failure });
      }
    }
    const place = `${config.host ?? 'this machine'}:${config.devices.join(' ')}`;
    return {
      folder: place,
      ...(config.host === null ? {} : { hostName: config.host }),
      vmName: config.name,
      displayName: config.name,
      uuid: uuidOf(config),
      files: this.#files(opened),
      disks: opened.map((one) => this.#disk(one, onWarning)),
      refused,
      notices: opened.flatMap(({ facts, table }) =>
        table.notices.map((notice) => `${facts.path}: ${notice}`),
      ),
    };
  }

  #disk(opened: Opened, onWarning: (message: string) => void): SourceDisk {
    const { facts, reader, scsiId, disk } = opened;
    return {
      scsiId,
      name: disk,
      flatPath: `${this.#machine.name}:${facts.path}`,
      reader: {
        read: (firstBlock, target, signal) => reader.read(firstBlock, target, signal),
        digests: reader.digests,
        account: async (image, mode, hooks) => {
          const account = await accountOf(opened, image, mode, hooks);
          if (account.unreadableSectors > 0) {
            const words = `${account.unreadableSectors} sectors could not be read and are zeros in the image`;
            onWarning(
              `${facts.path} on ${this.#machine.name}: ${words}: the archive is marked incomplete, its file ${opened.baseName}.unreadable.log names them`,
            );
          }
          return account;
        },
      },
      descriptorPath: null,
      descriptorText: null,
      sizeBytes: facts.sizeBytes,
      createType: 'vmfs',
      adapterType: 'lsilogic',
    };
  }

  /** The VMX that is generated, and the check list for whoever starts it. */
  #files(opened: readonly Opened[]): VmFile[] {
    const [first] = opened;
    if (first === undefined) return [];
    const { name } = this.config;
    const family = familyOf(opened.map(({ table }) => table));
    const vmx = deviceVmx({
      name,
      uuid: uuidOf(this.config),
      family,
      isEfi: opened.some(({ table }) => table.isEfi),
      memoryMib: first.facts.memoryMib,
      cpus: first.facts.cpus,
      disks: opened.map(({ scsiId, disk }) => ({ scsiId, name: disk })),
    });
    const devices = opened.map(({ facts, disk, table }) => ({
      path: facts.path,
      disk,
      table,
      sectorBytes: facts.sectorBytes,
    }));
    const list = `${checkListText(guestCheckList(family, devices)).join('\n')}\n`;
    return [fileOf('vmx', `${name}.vmx`, vmx), fileOf('log', `${name}.checklist.log`, list)];
  }
}

function fileOf(kind: VmFile['kind'], name: string, text: string): VmFile {
  const bytes = Buffer.from(text);
  return { kind, name, path: name, bytes, sizeBytes: bytes.length };
}

/** Of the machine's address and its name in phd.yaml: the same at every run, whatever system runs there. */
function uuidOf({ name, host }: HostConfig): string {
  return uuidV5(`device://${host ?? hostname()}/${name}`, uuidV5.URL);
}

/** `/dev/sda` -> `sda.vmdk`; a name that another device bears as well gets a number. */
export function diskName(devices: readonly string[], at: number): string {
  const nameOf = (path: string | undefined): string =>
    (
      path
        ?.split('/')
        .filter((word) => word !== '')
        .at(-1) ?? 'disk'
    )
      .replace(/[^A-Za-z0-9._-]/g, '_')
      .replace(/^[.-]/, '_')
      .slice(0, 100);
  const name = nameOf(devices[at]);
  const before = devices.slice(0, at).filter((path) => nameOf(path) === name).length;
  return `${name}${before === 0 ? '' : `_${before + 1}`}.vmdk`;
}

/** Controller and unit digits of the n-th device; unit 7 is the controller's own. */
export function scsiIdOf(at: number): string {
  const unit = at % UNITS;
  return `${Math.floor(at / UNITS)}${unit < 7 ? unit : unit + 1}`;
}

/** Programs here that have the device open for writing; on another machine only the kernel's own uses are seen. */
async function addOpeners(
  facts: DeviceFacts,
  assumeOff: boolean,
  onWarning: (message: string) => void,
): Promise<void> {
  if (facts.uses.length > 0) return;
  const { inUse, unknown } = await checkInUse([facts.realPath]);
  const whatFollows =
    facts.hasher === null
      ? 'if it writes to the device meanwhile, nothing here would show it'
      : 'if it writes to the device meanwhile, the checksums differ and the backup fails';
  if (!assumeOff)
    for (const line of unknown) onWarning(`${line}: ${whatFollows}; --assume-off takes it as at rest`);
  for (const { path, how, by, isReadOnly } of inUse)
    if (!isReadOnly) facts.uses.push(`${path} is ${how} by ${by}`);
}

function requireAtRest(
  { path, uses, isMapped }: DeviceFacts,
  machine: Machine,
  assumeOff: boolean,
  onWarning: (message: string) => void,
): void {
  if (uses.length === 0) return;
  const words = `${path} on ${machine.name} is in use: ${uses.join('; ')}`;
  const snapshot = isMapped
    ? 'where LVM lies on it, image a snapshot (lvcreate -s) and name its device in phd.yaml, or take the mapping down (vgchange -an, mdadm --stop, cryptsetup close)'
    : 'unmount it, or start a rescue system';
  if (!assumeOff)
    throw new PhdError('VM_RUNNING', `${words}; ${snapshot}, or --assume-off if nothing writes to it`);
  onWarning(`${words}: it is imaged all the same; if it changes meanwhile the backup fails`);
}

/** What every kind of host gives: a list of its VMs, and one of them held still as the source of a backup. */
import type { SourceVm } from '../datastore/source-vm.ts';
import type { HostConfig } from '../model/config.ts';

export type PowerState = 'on' | 'off' | 'suspended' | 'unknown';

export interface HostVm {
  /** What the host calls it: a Vmid, an opaque reference, the path of a device. */
  id: string;
  /** As people know it; not unique. */
  name: string;
  /** Lower case; null where the host does not tell it in its list. */
  uuid: string | null;
  /** Where its configuration lies on the host, `[datastore1] web/web.vmx`; null if there is no such place. */
  place: string | null;
  power: PowerState;
}

export interface FreezeOptions {
  /** Asks the guest to flush its file systems. */
  quiesce?: boolean;
  /** A disk that is in use is read all the same, with a warning. */
  assumeOff?: boolean;
  /** Run on this machine before the snapshot; a status other than 0 keeps the VM from being backed up. */
  preFreeze?: string;
  /** Run on this machine as soon as the snapshot stands or has failed, whatever happened. */
  postThaw?: string;
  /** Things a person should know. */
  onWarning: (message: string) => void;
  signal?: AbortSignal;
}

/** A VM whose disks do not change until it is released. */
export interface FrozenVm {
  /** Disks bear a `reader` where they do not lie in local files. */
  source: SourceVm;
  /** Undoes what was done to hold it still (removes the snapshot), whatever happened; safe to repeat. Throws if it could not. */
  release(): Promise<void>;
}

/** One thing that a backup needs, tried. */
export interface CheckLine {
  what: string;
  state: 'good' | 'warning' | 'failed';
  text: string;
}

export interface Host {
  readonly config: HostConfig;
  /**
   * `onFault` is told of each VM that cannot be listed, a line; it hides no other. Throws TARGET_*, HOST_KEY_REFUSED,
   * CANCELLED.
   */
  listVms(signal?: AbortSignal, onFault?: (fault: string) => void): Promise<HostVm[]>;
  /** Throws NOT_FOUND (gone since it was listed), VM_RUNNING, SOURCE_UNSUPPORTED, TARGET_*, CANCELLED. */
  freeze(vm: HostVm, options: FreezeOptions): Promise<FrozenVm>;
  close(): Promise<void>;
}

/** What a backup of a VM folder would take, looked at before anything is asked or read; and where VMs lie. */
import { openSourceVm } from '../datastore/source-vm.ts';
import { throwIfAborted } from '../errors.ts';
import type { EngineContext } from './context.ts';
import { listVolumes, subFolders } from './volumes.ts';

export interface BackupPreview {
  /** Absolute, symbolic links resolved. */
  folder: string;
  displayName: string;
  uuid: string;
  disks: { name: string; scsiId: string; sizeBytes: number }[];
  /** Disks that cannot be backed up as they stand, each with the reason. */
  refused: { disk: string; reason: string }[];
  notices: string[];
}

/** Throws NOT_FOUND, SOURCE_UNSUPPORTED, FORMAT_UNSUPPORTED, IO. */
export async function previewBackup(context: EngineContext, folder: string): Promise<BackupPreview> {
  const vm = await openSourceVm(folder, context.hostName, [], context.config.datastores);
  return {
    folder: vm.folder,
    displayName: vm.displayName,
    uuid: vm.uuid,
    disks: vm.disks.map(({ name, scsiId, sizeBytes }) => ({ name, scsiId, sizeBytes })),
    refused: vm.refused.map(({ disk, error }) => ({ disk, reason: error.message })),
    notices: vm.notices,
  };
}

export interface VmFolder {
  name: string;
  path: string;
  volume: string;
}

/**
 * Folders on all volumes of the datastores that hold a VMX or disks, by name. A volume that cannot be looked at is a
 * fault and hides no other.
 */
export async function findVmFolders(
  datastores: readonly string[],
  signal?: AbortSignal,
): Promise<{ folders: VmFolder[]; faults: string[] }> {
  const folders = new Map<string, VmFolder>();
  const faults: string[] = [];
  for (const volume of await listVolumes(datastores)) {
    throwIfAborted(signal);
    if (volume.fault !== null) {
      faults.push(volume.fault);
      continue;
    }
    for (const { name, path, holdsVm } of await subFolders(volume.path)) {
      if (holdsVm) folders.set(path, { name, path, volume: volume.path });
    }
  }
  return { folders: [...folders.values()].sort((a, b) => (a.name < b.name ? -1 : 1)), faults };
}

/** What a request names, looked at before anything is queued or begun. */
import { namedTarget } from '../config/named-target.ts';
import { requireVmFolder } from '../datastore/source-vm.ts';
import type { EngineContext } from './context.ts';

/** Throws USAGE, with the numbers that there are, if one of the targets is not configured. */
export function requireTargets({ config }: EngineContext, numbers: readonly (number | undefined)[]): void {
  for (const number of numbers) if (number !== undefined) namedTarget(config, number);
}

/** Throws NOT_FOUND, with names that are near, if one of the VM folders is not there. */
export async function requireVmFolders({ config }: EngineContext, folders: readonly string[]): Promise<void> {
  for (const folder of folders) await requireVmFolder(folder, config.datastores);
}

/** What an import has made, by the words of its task. */
import { PhdError } from '../../errors.ts';
import type { XenHost } from './xen-host.ts';
import { nothing, vmRecord } from './xen-records.ts';
import { SNAPSHOT_MARK } from './xen-snapshot.ts';

/** The mark of the snapshot that it was is taken off. Throws TARGET_LIED if the task names no VM, TARGET_*. */
export async function importedVm(
  host: XenHost,
  result: string,
  what: string,
): Promise<{ uuid: string; name: string }> {
  const vmRef = /OpaqueRef:[0-9a-fA-F-]{36}/.exec(result)?.[0];
  if (vmRef === undefined)
    throw new PhdError(
      'TARGET_LIED',
      `host ${host.config.name}: the import of ${what} succeeded, and the host names no VM: see phd host list`,
    );
  const doing = `cannot see what was imported from ${what}`;
  const record = await host.session.call('VM.get_record', [vmRef], vmRecord, doing);
  if (SNAPSHOT_MARK in record.other_config)
    // It counts for the snapshot alone that it names: one that stays harms nothing.
    await host.session
      .call('VM.remove_from_other_config', [vmRef, SNAPSHOT_MARK], nothing, 'cannot take a mark off')
      .catch((error: PhdError) => host.session.log(error.message));
  return { uuid: record.uuid.toLowerCase(), name: record.name_label };
}

/** What an import has made, by the words of its task. */
import { PhdError } from '../../errors.ts';
import type { XenHost } from './xen-host.ts';
import { vmRecord } from './xen-records.ts';

/** Throws TARGET_LIED if the task names no VM, TARGET_*. */
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
  const { uuid, name_label: name } = await host.session.call(
    'VM.get_record',
    [vmRef],
    vmRecord,
    `cannot see what was imported from ${what}`,
  );
  return { uuid: uuid.toLowerCase(), name };
}

/** Storage repositories of a pool. */
import { shownName } from '../../datastore/plain-name.ts';
import { PhdError } from '../../errors.ts';
import { NO_REF, poolRecord, recordsOf, type SrRecord, srRecord } from './xen-records.ts';
import type { XenSession } from './xen-session.ts';

export interface XenRepository {
  srRef: string;
  uuid: string;
  name: string;
  type: string;
  sizeBytes: number;
  freeBytes: number;
  isDefault: boolean;
}

/** Those that hold disks, by name. Throws TARGET_*, CANCELLED. */
export async function listRepositories(session: XenSession, signal?: AbortSignal): Promise<XenRepository[]> {
  const doing = 'cannot list its storage repositories';
  const all = await session.call('SR.get_all_records', [], recordsOf(srRecord), doing, { signal });
  const pools = await session.call('pool.get_all_records', [], recordsOf(poolRecord), doing, { signal });
  const byDefault = Object.values(pools)[0]?.default_SR ?? NO_REF;
  return Object.entries(all)
    .filter(([, sr]) => holdsDisks(sr))
    .map(([srRef, sr]) => ({
      srRef,
      uuid: sr.uuid.toLowerCase(),
      name: sr.name_label,
      type: sr.type,
      sizeBytes: Math.max(0, sr.physical_size),
      freeBytes: Math.max(0, sr.physical_size - sr.physical_utilisation),
      isDefault: srRef === byDefault,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.uuid < b.uuid ? -1 : 1));
}

function holdsDisks({ type, content_type: content }: SrRecord): boolean {
  return content !== 'iso' && !['iso', 'udev'].includes(type);
}

/** The one that is named, by name or UUID; null: the pool's default. Throws NOT_FOUND, USAGE, TARGET_*. */
export async function chooseRepository(
  session: XenSession,
  name: string | null,
  signal?: AbortSignal,
): Promise<XenRepository> {
  const all = await listRepositories(session, signal);
  const host = session.config.name;
  const found =
    name === null
      ? all.filter((one) => one.isDefault)
      : all.filter((one) => one.name === name || one.uuid === name.toLowerCase());
  const [first, second] = found;
  const names = all.map((one) => shownName(one.name)).join(', ') || 'none';
  if (first === undefined && name === null)
    throw new PhdError(
      'USAGE',
      `host ${host} has no default storage repository: name one with --sr (${names})`,
    );
  if (first === undefined)
    throw new PhdError(
      'NOT_FOUND',
      `host ${host} has no storage repository ${shownName(name ?? '')}: it has ${names}`,
    );
  if (second !== undefined)
    throw new PhdError(
      'USAGE',
      `host ${host} has ${found.length} storage repositories named ${shownName(first.name)}: name one by ${found.map(({ uuid }) => uuid).join(', ')}`,
    );
  return first;
}

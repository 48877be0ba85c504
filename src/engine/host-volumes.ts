/** Volumes of the hosts of phd.yaml, as places of a restore: datastores of ESX, storage repositories of XenServer. */
import { setTimeout as pause } from 'node:timers/promises';
import { fromErrno, PhdError } from '../errors.ts';
import type { EngineContext } from './context.ts';

export interface HostVolume {
  host: string;
  /** Of a repository whose name another one bears its UUID. */
  name: string;
  kind: string;
  sizeBytes: number;
  freeBytes: number;
}

export interface HostVolumes {
  volumes: HostVolume[];
  /** Hosts that could not be asked. */
  failed: { host: string; error: PhdError }[];
}

/** Someone waits for the list: a host that is slower is told as one that does not answer. */
const LIMIT_MS = 10_000;

/** All hosts at once. Throws CANCELLED. */
export async function hostVolumes(ctx: EngineContext, signal?: AbortSignal): Promise<HostVolumes> {
  const hosts = ctx.config.hosts.filter(({ type }) => type !== 'device');
  const asked = await Promise.allSettled(
    hosts.map(({ name }) => withinLimit(name, volumesOf(ctx, name, signal))),
  );
  const found: HostVolumes = { volumes: [], failed: [] };
  for (const [at, one] of asked.entries()) {
    const host = hosts[at]!.name;
    if (one.status === 'fulfilled') found.volumes.push(...one.value);
    else {
      const error = fromErrno(one.reason, `cannot ask ${host} for its volumes`);
      if (error.code === 'CANCELLED') throw error;
      found.failed.push({ host, error });
    }
  }
  return found;
}

async function withinLimit(host: string, asked: Promise<HostVolume[]>): Promise<HostVolume[]> {
  const waited = new AbortController();
  const late = pause(LIMIT_MS, undefined, { signal: waited.signal }).then(() => {
    throw new PhdError(
      'TARGET_UNREACHABLE',
      `host ${host} does not tell its volumes within ${LIMIT_MS / 1000} s`,
    );
  });
  late.catch(() => undefined);
  // What comes too late is nobody's any more.
  asked.catch(() => undefined);
  try {
    return await Promise.race([asked, late]);
  } finally {
    waited.abort();
  }
}

async function volumesOf(ctx: EngineContext, name: string, signal?: AbortSignal): Promise<HostVolume[]> {
  const { EsxHost } = await import('../hosts/esx/esx-host.ts');
  const host = await ctx.host(name);
  if (host instanceof EsxHost) {
    const { readEsxStorage } = await import('../hosts/esx/esx-storage.ts');
    const { volumes } = await readEsxStorage(host.shell, signal);
    return volumes
      .filter(({ type }) => /^(VMFS|NFS|vsan|vVol)/i.test(type))
      .map(({ name: volume, type, sizeBytes, freeBytes }) => ({
        host: name,
        name: volume,
        kind: type,
        sizeBytes,
        freeBytes,
      }));
  }
  const { xenHost } = await import('./restore-to-xen.ts');
  const { listRepositories } = await import('../hosts/xen/xen-storage.ts');
  const all = await listRepositories((await xenHost(ctx, name)).session, signal);
  return all.map(({ name: label, uuid, type, sizeBytes, freeBytes }) => {
    const isTwice = all.filter((one) => one.name === label).length > 1;
    return { host: name, name: isTwice ? uuid : label, kind: type, sizeBytes, freeBytes };
  });
}

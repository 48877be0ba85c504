/** Volumes of the hosts of phd.yaml, as places of a restore: datastores of ESX, storage repositories of XenServer. */
import { fromErrno, type PhdError } from '../errors.ts';
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

/** All hosts at once, so that a dead one costs its own time limit and no more. Throws CANCELLED. */
export async function hostVolumes(ctx: EngineContext, signal?: AbortSignal): Promise<HostVolumes> {
  const hosts = ctx.config.hosts.filter(({ type }) => type !== 'device');
  const asked = await Promise.allSettled(hosts.map(({ name }) => volumesOf(ctx, name, signal)));
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

/** The VMs that backup jobs choose from: folders of datastores and VMs of hosts, by name. */
import { uuidOfVmFolder } from '../datastore/source-vm.ts';
import { findVmFolders } from '../engine/backup-preview.ts';
import type { EngineContext } from '../engine/context.ts';
import { fromErrno } from '../errors.ts';
import type { HostVm } from '../hosts/host.ts';

export interface JobVm {
  name: string;
  /** Absolute folder, or name of the host. */
  from: string;
  /** As a request names it. */
  source: { folder: string } | { host: string; vm: string };
  /** Null for a folder. */
  hostVm: HostVm | null;
}

export interface FoundVms {
  vms: JobVm[];
  /** Sources that cannot be listed, a line each: what they hold is unknown, not gone. */
  faults: string[];
  /** Single VMs that a host cannot tell of. */
  warnings: string[];
}

/** All sources, or those named. Throws CANCELLED. */
export async function findJobVms(
  context: EngineContext,
  from: readonly string[] | null,
  signal?: AbortSignal,
): Promise<FoundVms> {
  const { datastores, hosts } = context.config;
  const isHost = (source: string): boolean => hosts.some(({ name }) => name === source);
  const wanted = from ?? [...datastores, ...hosts.map(({ name }) => name)];
  const folders = wanted.filter((source) => !isHost(source));
  const local = await findVmFolders(folders, signal);
  const found: FoundVms = {
    vms: local.folders.map(({ name, path, volume }) => ({
      name,
      from: volume,
      source: { folder: path },
      hostVm: null,
    })),
    faults: [...local.faults],
    warnings: [],
  };
  // At once: one that is slow to answer is not to be waited for by the next.
  const listed = await Promise.all(
    wanted.filter(isHost).map(async (name): Promise<FoundVms> => {
      const warnings: string[] = [];
      const onFault = (fault: string): void => void warnings.push(`host ${name}: ${fault}`);
      try {
        const host = await context.host(name);
        return { vms: vmsOfHost(name, await host.listVms(signal, onFault)), faults: [], warnings };
      } catch (error) {
        const failure = fromErrno(error, `host ${name}`);
        if (failure.code === 'CANCELLED') throw failure;
        return { vms: [], faults: [`host ${name}: ${failure.message}`], warnings };
      }
    }),
  );
  for (const { vms, faults, warnings } of listed) {
    found.vms.push(...vms);
    found.faults.push(...faults);
    found.warnings.push(...warnings);
  }
  return found;
}

/** What its archives go by; null where its host does not tell it in its list. Throws NOT_FOUND, SOURCE_UNSUPPORTED, IO. */
export async function uuidOfVm(context: EngineContext, { source, hostVm }: JobVm): Promise<string | null> {
  if ('folder' in source) return await uuidOfVmFolder(source.folder, context.hostName);
  return hostVm?.uuid ?? null;
}

/** Characters of a name that a request takes. */
const MAX_NAME = 255;

/** A name borne twice, or that no request takes, is told by uuid or id. */
function vmsOfHost(host: string, vms: readonly HostVm[]): JobVm[] {
  return vms.map((hostVm) => {
    const isFit = hostVm.name !== '' && hostVm.name.length <= MAX_NAME;
    const isAlone = isFit && vms.filter(({ name }) => name === hostVm.name).length === 1;
    const vm = isAlone ? hostVm.name : (hostVm.uuid ?? hostVm.id);
    return { name: hostVm.name, from: host, source: { host, vm }, hostVm };
  });
}

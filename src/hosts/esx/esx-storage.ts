/** What an ESX host stores on: volumes, the devices below them, paths to LUNs, NFS mounts and their options. */
import type { EsxShell } from './esx-shell.ts';

export interface EsxVolume {
  name: string;
  /** `/vmfs/volumes/5f0a...` */
  mountPoint: string;
  /** `VMFS-6`, `NFS` */
  type: string;
  sizeBytes: number;
  freeBytes: number;
  /** Devices it lies on; of NFS: `host:/share`. */
  on: string[];
}

export interface EsxDevice {
  /** `naa.600508b1001c0001` */
  id: string;
  displayName: string;
  vendor: string;
  model: string;
  sizeBytes: number | null;
  isSsd: boolean;
  status: string;
}

export interface EsxPath {
  /** `vmhba1:C0:T0:L1` */
  runtimeName: string;
  device: string;
  lun: number | null;
  transport: string;
  state: string;
}

export interface EsxNfs {
  volume: string;
  host: string;
  share: string;
  isAccessible: boolean;
  isReadOnly: boolean;
}

export interface EsxOption {
  /** `/NFS/HeartbeatTimeout` */
  path: string;
  value: string;
  default: string;
  description: string;
}

export interface EsxStorage {
  volumes: EsxVolume[];
  devices: EsxDevice[];
  paths: EsxPath[];
  nfs: EsxNfs[];
  nfsOptions: EsxOption[];
  /** What this host could not tell, a line each. */
  notices: string[];
}

/** A volume that VMs lie on. */
export type EsxDatastore = Omit<EsxVolume, 'on'>;

/** Not the host's own: boot banks (vfat), its system (VMFSOS, VMFS-L, VFFS). */
const DATASTORE_TYPE = /^(VMFS(-\d+)?|NFS\S*|vsan\S*|VVOL)$/i;

/** Those that are mounted, in the host's order. Throws TARGET_*, CANCELLED. */
export async function listDatastores(shell: EsxShell, signal?: AbortSignal): Promise<EsxDatastore[]> {
  const text = await shell.output('esxcli storage filesystem list', 'cannot list its volumes', { signal });
  return parseTable(text.toString('utf8'))
    .filter((row) => row.Mounted !== 'false' && DATASTORE_TYPE.test(row.Type ?? ''))
    .map(volumeOf)
    .filter(({ name }) => name !== '');
}

/** Asks for all of it; what an old host does not know is a notice. Throws TARGET_UNREACHABLE, CANCELLED. */
export async function readEsxStorage(shell: EsxShell, signal?: AbortSignal): Promise<EsxStorage> {
  const notices: string[] = [];
  const ask = async (words: string): Promise<string> => {
    const result = await shell.run(`esxcli ${words}`, { signal });
    if (result.status === 0) return result.stdout.toString('utf8');
    notices.push(shell.refusal(`cannot ask esxcli ${words}`, result).message);
    return '';
  };
  const [filesystems, extents, devices, paths, nfs, options] = await Promise.all([
    ask('storage filesystem list'),
    ask('storage vmfs extent list'),
    ask('storage core device list'),
    ask('storage core path list'),
    ask('storage nfs list'),
    ask('system settings advanced list --tree /NFS'),
  ]);
  const mounts = parseTable(nfs).map((row) => ({
    volume: row['Volume Name'] ?? '',
    host: row.Host ?? '',
    share: row.Share ?? '',
    isAccessible: row.Accessible === 'true',
    isReadOnly: row['Read-Only'] === 'true',
  }));
  const on = new Map<string, string[]>();
  for (const row of parseTable(extents)) {
    const uuid = row['VMFS UUID'] ?? '';
    const extent = `${row['Device Name']}:${row.Partition}`;
    const extentsOf = on.get(uuid);
    if (extentsOf === undefined) on.set(uuid, [extent]);
    else extentsOf.push(extent);
  }
  return {
    volumes: parseTable(filesystems).map((row) => ({
      ...volumeOf(row),
      on:
        on.get(row.UUID ?? '') ??
        mounts
          .filter(({ volume }) => volume === row['Volume Name'])
          .map(({ host, share }) => `${host}:${share}`),
    })),
    devices: parseBlocks(devices).map(({ title, values }) => ({
      id: title,
      displayName: values.get('Display Name') ?? title,
      vendor: values.get('Vendor') ?? '',
      model: values.get('Model') ?? '',
      sizeBytes: /^\d+$/.test(values.get('Size') ?? '') ? Number(values.get('Size')) * 1_048_576 : null,
      isSsd: values.get('Is SSD') === 'true',
      status: values.get('Status') ?? '',
    })),
    paths: parseBlocks(paths).map(({ values }) => ({
      runtimeName: values.get('Runtime Name') ?? '',
      device: values.get('Device') ?? '',
      lun: /^\d+$/.test(values.get('LUN') ?? '') ? Number(values.get('LUN')) : null,
      transport: values.get('Transport') ?? '',
      state: values.get('State') ?? '',
    })),
    nfs: mounts,
    nfsOptions: parseBlocks(options).map(({ values }) => ({
      path: values.get('Path') ?? '',
      value: values.get('Int Value') ?? values.get('String Value') ?? '',
      default: values.get('Default Int Value') ?? values.get('Default String Value') ?? '',
      description: values.get('Description') ?? '',
    })),
    notices,
  };
}

function volumeOf(row: Record<string, string>): EsxDatastore {
  return {
    name: row['Volume Name'] ?? '',
    mountPoint: row['Mount Point'] ?? '',
    type: row.Type ?? '',
    sizeBytes: Number(row.Size) || 0,
    freeBytes: Number(row.Free) || 0,
  };
}

/** A table of esxcli: its second line of dashes tells where the columns are. */
export function parseTable(text: string): Record<string, string>[] {
  const lines = text.split(/\r?\n/);
  const at = lines.findIndex((line) => /^-+( +-+)*\s*$/.test(line));
  if (at < 1) return [];
  const columns = [...lines[at]!.matchAll(/-+/g)].map((match) => ({
    from: match.index,
    to: match.index + match[0].length,
  }));
  const last = columns.length - 1;
  const cells = (line: string): string[] =>
    columns.map(({ from, to }, index) => line.slice(from, index === last ? undefined : to).trim());
  const titles = cells(lines[at - 1]!);
  return lines
    .slice(at + 1)
    .filter((line) => line.trim() !== '')
    .map((line) => Object.fromEntries(cells(line).map((cell, index) => [titles[index] ?? '', cell])));
}

/** Blocks of esxcli: `   Key: value` lines, one block a thing, its title (if it has one) without indent. */
export function parseBlocks(text: string): { title: string; values: Map<string, string> }[] {
  const blocks: { title: string; values: Map<string, string> }[] = [];
  let block: { title: string; values: Map<string, string> } | null = null;
  for (const line of text.split(/\r?\n/)) {
    const [, key, value] = /^\s+([^:]+): ?(.*)$/.exec(line) ?? [];
    if (line.trim() === '') block = null;
    else if (key === undefined) {
      block = { title: line.trim(), values: new Map() };
      blocks.push(block);
    } else {
      if (block === null) {
        block = { title: '', values: new Map() };
        blocks.push(block);
      }
      block.values.set(key.trim(), value!.trim());
    }
  }
  return blocks;
}

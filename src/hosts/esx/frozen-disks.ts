/** The disks of a VM that a snapshot of ours holds still: which flats are the frozen state, and what is none. */
import path from 'node:path';
import {
  type Descriptor,
  MAX_DESCRIPTOR_BYTES,
  notPlainReason,
  parseDescriptor,
  SECTOR_BYTES,
  withExtent,
} from '../../datastore/descriptor.ts';
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import { type SourceDisk, unsupported } from '../../datastore/source-disk.ts';
import { type Vmx, type VmxDisk, vmxDisks } from '../../datastore/vmx.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import { shellWord } from '../../storage/shell-word.ts';
import { readSmall } from './esx-files.ts';
import type { EsxShell } from './esx-shell.ts';

/** Longest chain of snapshots that VMware allows. */
const MAX_CHAIN = 32;
const CLONE_TIMEOUT_MS = 24 * 3_600_000;

export interface FrozenDisk extends Omit<SourceDisk, 'reader'> {
  descriptorBytes: Buffer;
}

export interface FrozenDisks {
  disks: FrozenDisk[];
  refused: { disk: string; error: PhdError }[];
  notices: string[];
}

interface Question {
  shell: EsxShell;
  /** Of the VMX. */
  folder: string;
  /** VMX before the snapshot, and with it. */
  before: Vmx;
  after: Vmx;
  /** Where clones go, made when the first is needed. */
  cloneFolder: string;
  signal?: AbortSignal;
}

/** A disk that is no plain frozen flat is in `refused` with its reason. Throws TARGET_UNREACHABLE, CANCELLED. */
export async function findFrozenDisks(question: Question): Promise<FrozenDisks> {
  const { before, after } = question;
  const found: FrozenDisks = { disks: [], refused: [], notices: [] };
  const now = new Map(vmxDisks(after).map((disk) => [disk.slot, disk.fileName]));
  for (const disk of vmxDisks(before)) {
    const name = path.posix.basename(disk.fileName);
    try {
      found.disks.push(await frozenDisk(question, disk, now.get(disk.slot), found));
    } catch (error) {
      const failure = fromErrno(error, shownName(name));
      if (failure.code === 'CANCELLED' || failure.code === 'TARGET_UNREACHABLE') throw failure;
      const isNamed = failure.code === 'SOURCE_UNSUPPORTED';
      found.refused.push({
        disk: baseName(name),
        error: isNamed ? failure : unsupported(name, failure.message),
      });
    }
  }
  return found;
}

async function frozenDisk(
  question: Question,
  disk: VmxDisk,
  nowNamed: string | undefined,
  found: FrozenDisks,
): Promise<FrozenDisk> {
  const { shell, folder, before, signal } = question;
  const name = path.posix.basename(disk.fileName);
  const file = fileOf(folder, disk.fileName);
  const { bytes, descriptor } = await readDescriptor(shell, file, signal);
  const reason = notPlainReason(descriptor);
  const mode = before.values.get(`${disk.slot}.mode`)?.toLowerCase() ?? '';
  if (nowNamed === undefined) throw unsupported(name, 'it was taken off the VM while the snapshot was made');
  if (mode.startsWith('independent'))
    throw unsupported(name, `it is independent (${shownName(mode)}): no snapshot holds it still`);
  if (nowNamed === disk.fileName)
    throw unsupported(name, reason ?? 'the snapshot does not hold it: the VM still writes into it');
  const delta = await readDescriptor(shell, fileOf(folder, nowNamed), signal);
  const parent = delta.descriptor.parentFileNameHint ?? '';
  if (path.posix.basename(parent) !== name)
    throw unsupported(name, `the snapshot was made of another file (${shownName(parent)})`);
  if (reason === null) return await plainDisk(shell, disk.scsiId, name, file, bytes, descriptor, signal);
  if (descriptor.parentFileNameHint === null) throw unsupported(name, reason);
  return await clonedDisk(question, disk, file, found);
}

/** Its flat is its state. */
async function plainDisk(
  shell: EsxShell,
  scsiId: string,
  name: string,
  file: string,
  bytes: Buffer,
  descriptor: Descriptor,
  signal?: AbortSignal,
): Promise<FrozenDisk> {
  const extent = descriptor.extents[0]!;
  const flatPath = path.posix.join(path.posix.dirname(file), extent.fileName!);
  const sizeBytes = extent.sectors * SECTOR_BYTES;
  const size = await shell.output(`stat -c %s ${shellWord(flatPath)}`, `cannot find ${shownName(flatPath)}`, {
    signal,
  });
  const there = Number(size.toString('latin1').trim());
  if (there !== sizeBytes)
    throw unsupported(name, `its descriptor says ${sizeBytes} bytes, its flat has ${there}`);
  if (sizeBytes === 0) throw unsupported(name, 'it is empty');
  return {
    scsiId,
    name,
    flatPath,
    descriptorPath: file,
    descriptorText: bytes.toString('utf8'),
    descriptorBytes: bytes,
    sizeBytes,
    createType: descriptor.createType,
    adapterType: descriptor.ddb.get('adaptertype') ?? null,
  };
}

/** The VM had snapshots: the host makes one flat of the frozen chain, on the same datastore. */
async function clonedDisk(
  { shell, cloneFolder, folder, signal }: Question,
  disk: VmxDisk,
  file: string,
  found: FrozenDisks,
): Promise<FrozenDisk> {
  const base = await baseOfChain(shell, file, signal);
  const name = path.posix.basename(base.file);
  const clone = `${cloneFolder}/disk-${disk.scsiId}.vmdk`;
  const doing = `cannot clone ${shownName(path.posix.basename(file))}, which lies on snapshots`;
  await shell.output(
    `mkdir -p ${shellWord(cloneFolder)} && vmkfstools -i ${shellWord(file)} -d thin ${shellWord(clone)}`,
    doing,
    { timeoutMs: CLONE_TIMEOUT_MS, signal },
  );
  const copy = await readDescriptor(shell, clone, signal);
  const reason = notPlainReason(copy.descriptor);
  if (reason !== null) throw unsupported(name, `its clone is no plain disk: ${reason}`);
  const cloned = await plainDisk(shell, disk.scsiId, name, clone, copy.bytes, copy.descriptor, signal);
  found.notices.push(
    `${shownName(name)} lies on snapshots that are not of this program: its frozen state was cloned on the host into ${shownName(cloneFolder)} and is read from there`,
  );
  const flatName = base.descriptor.extents[0]?.fileName ?? `${name.replace(/\.vmdk$/i, '')}-flat.vmdk`;
  const descriptorBytes = withExtent(copy.bytes, flatName, cloned.sizeBytes / SECTOR_BYTES);
  return {
    ...cloned,
    descriptorPath: fileOf(folder, name),
    descriptorBytes,
    descriptorText: descriptorBytes.toString('utf8'),
  };
}

async function baseOfChain(
  shell: EsxShell,
  file: string,
  signal?: AbortSignal,
): Promise<{ file: string; descriptor: Descriptor }> {
  let at = file;
  for (let depth = 0; depth < MAX_CHAIN; depth += 1) {
    const { descriptor } = await readDescriptor(shell, at, signal);
    if (descriptor.parentFileNameHint === null) {
      const reason = notPlainReason(descriptor);
      if (reason !== null) throw unsupported(path.posix.basename(at), reason);
      return { file: at, descriptor };
    }
    at = fileOf(path.posix.dirname(at), descriptor.parentFileNameHint);
  }
  throw unsupported(path.posix.basename(file), `its chain of snapshots is longer than ${MAX_CHAIN}`);
}

async function readDescriptor(
  shell: EsxShell,
  file: string,
  signal?: AbortSignal,
): Promise<{ bytes: Buffer; descriptor: Descriptor }> {
  const bytes = await readSmall(shell, file, signal);
  const name = path.posix.basename(file);
  if (bytes.length >= Math.min(MAX_DESCRIPTOR_BYTES, 1_048_576))
    throw unsupported(name, 'it is no descriptor: longer than 1 MiB');
  return { bytes, descriptor: parseDescriptor(bytes, name) };
}

/** A file that a VMX or a descriptor names. Throws SOURCE_UNSUPPORTED for one that lies nowhere on a datastore. */
function fileOf(folder: string, named: string): string {
  const file = named.startsWith('/') ? path.posix.normalize(named) : path.posix.join(folder, named);
  const parts = file.split('/').slice(1);
  if (!file.startsWith('/vmfs/volumes/') || !parts.every(isPlainName))
    throw new PhdError(
      'SOURCE_UNSUPPORTED',
      `${shownName(named)} cannot be backed up: it lies on no datastore`,
    );
  return file;
}

/** `web-000002.vmdk` -> `web.vmdk` */
function baseName(name: string): string {
  return name.replace(/-\d{6}(?=\.vmdk$)/i, '');
}

/** Files in XenServer's own forms put into a pool: an XVA proved here before it is sent, a disk compared there afterwards. */
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { XenHost } from '../hosts/xen/xen-host.ts';
import type { XenRepository } from '../hosts/xen/xen-storage.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { Progress } from './progress.ts';
import { xenHost } from './restore-to-xen.ts';
import { openScratch } from './scratch.ts';

const SECTOR_BYTES = 512;

export interface XenImportRequest {
  /** Name in phd.yaml, of type xen. */
  host: string;
  /** XVA (also gzip or zstd), VHD, or a raw disk. */
  file: string;
  /** Name or UUID; null: the pool's default. */
  repository: string | null;
  /** Of a VM: its UUID and MAC addresses are kept. */
  preserveMacs: boolean;
}

export interface XenImportResult {
  repository: string;
  /** UUID and name of the VM; null: a disk was imported. */
  vm: { uuid: string; name: string } | null;
  /** UUID of the disk; null: a VM was imported. */
  vdi: string | null;
  /** What was proved, in words. */
  proof: string;
}

/** Throws USAGE, NOT_FOUND, ARCHIVE_DAMAGED, DIGEST_MISMATCH, NO_SPACE, TARGET_*, CANCELLED; then no disk of it stays in the pool. */
export async function importToXen(
  ctx: EngineContext,
  request: XenImportRequest,
  hooks: OperationHooks = {},
): Promise<XenImportResult> {
  const host = await xenHost(ctx, request.host);
  const { chooseRepository } = await import('../hosts/xen/xen-storage.ts');
  const { looksLikeXva } = await import('../hosts/xen/xva-check.ts');
  const file = await open(request.file, 'r').catch((error) => {
    throw fromErrno(error, `cannot read ${request.file}`);
  });
  try {
    const { size } = await file.stat();
    const head = Buffer.alloc(512);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    if (bytesRead < head.length)
      throw new PhdError(
        'USAGE',
        `${request.file} is neither an XVA, nor a VHD, nor a disk: it has ${size} bytes`,
      );
    const repository = await chooseRepository(host.session, request.repository, hooks.signal);
    if (looksLikeXva(head)) return await importXva(host, { file, head, size }, request, repository, hooks);
    const isVhd = head.toString('latin1', 0, 8) === 'conectix';
    return isVhd
      ? await importVhd(ctx, host, file, request, repository, hooks)
      : await importRaw(host, file, size, request, repository, hooks);
  } finally {
    await file.close();
  }
}

async function importXva(
  host: XenHost,
  { file, head, size }: { file: FileHandle; head: Buffer; size: number },
  { file: name, preserveMacs }: XenImportRequest,
  repository: XenRepository,
  { signal, onProgress }: OperationHooks,
): Promise<XenImportResult> {
  const { XvaCheck } = await import('../hosts/xen/xva-check.ts');
  const { importedVm } = await import('../hosts/xen/imported-vm.ts');
  const label = path.basename(name);
  const check = await XvaCheck.begin(name, head);
  const proving = new Progress(onProgress, { label, phase: 'prove', totalBytes: size });
  let pieces: number;
  let hasDisks: boolean;
  try {
    for await (const part of wholeOf(file, size)) {
      throwIfAborted(signal);
      await check.push(part as Buffer);
      proving.add((part as Buffer).length);
    }
    const facts = await check.finish();
    hasDisks = facts.disks.length > 0;
    pieces = facts.disks.reduce((sum, disk) => sum + disk.pieces, 0);
    if (facts.unprovedPieces > 0)
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${name}: ${facts.unprovedPieces} of its ${pieces} pieces have no checksum: import it with xe, which does not ask for any`,
      );
  } finally {
    check.stop();
  }
  proving.finish();
  const sending = new Progress(onProgress, { label, phase: 'send', totalBytes: size });
  const body = {
    sizeBytes: size,
    open: () => wholeOf(file, size).on('data', (part) => sending.add(part.length)),
  };
  const query = { restore: String(preserveMacs), sr_id: repository.srRef };
  const handler = hasDisks ? '/import' : '/import_metadata';
  const result = await host.transfers.upload(handler, query, body, {
    doing: `cannot import ${label}`,
    signal,
  });
  sending.finish();
  const vm = await importedVm(host, result, label);
  const proof = hasDisks
    ? `all ${pieces} pieces that it holds match their checksums here, and the host proves them again`
    : 'metadata alone: its disks are those that are there';
  return { repository: repository.name, vm, vdi: null, proof };
}

/** Laid out as a sparse disk first: what the pool then has is compared with that. */
async function importVhd(
  ctx: EngineContext,
  host: XenHost,
  file: FileHandle,
  request: XenImportRequest,
  repository: XenRepository,
  hooks: OperationHooks,
): Promise<XenImportResult> {
  const { VhdStream } = await import('../hosts/xen/vhd-stream.ts');
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const disk = await open(scratch.file('disk'), 'w+', 0o600);
    try {
      let sizeBytes = 0;
      const stream = new VhdStream(request.file, {
        begin: async ({ diskBytes }) => {
          sizeBytes = diskBytes;
          await disk.truncate(diskBytes);
        },
        data: async (offset, bytes) => {
          const inside = bytes.subarray(0, Math.max(0, sizeBytes - offset));
          // A full volume may take a part only; the rest would be a hole that the reading back takes for the truth.
          for (let done = 0; done < inside.length; )
            done += (await disk.write(inside, done, inside.length - done, offset + done)).bytesWritten;
        },
        blockEnd: () => undefined,
      });
      for await (const part of wholeOf(file, (await file.stat()).size)) {
        throwIfAborted(hooks.signal);
        await stream.push(part as Buffer);
      }
      stream.finish();
      return await importRaw(host, disk, sizeBytes, request, repository, hooks);
    } finally {
      await disk.close();
    }
  } finally {
    await scratch.remove();
  }
}

async function importRaw(
  host: XenHost,
  file: FileHandle,
  sizeBytes: number,
  request: XenImportRequest,
  repository: XenRepository,
  { signal, onProgress, onWarning }: OperationHooks,
): Promise<XenImportResult> {
  if (sizeBytes % SECTOR_BYTES !== 0)
    throw new PhdError(
      'USAGE',
      `${request.file} is no disk: its ${sizeBytes} bytes are no whole number of sectors`,
    );
  if (request.preserveMacs) onWarning?.('a disk has no MAC addresses: --preserve-macs does nothing here');
  const { XenImport } = await import('../hosts/xen/xen-import.ts');
  const label = path.basename(request.file);
  const progress = new Progress(onProgress, { label, phase: 'send', totalBytes: sizeBytes });
  const name = label.replace(/\.(vhd|raw|img)$/i, '');
  const target = new XenImport(host, repository);
  let uuid: string;
  try {
    const onBytes = (bytes: number): void => progress.add(bytes);
    ({ uuid } = await target.importDisk({ name, file, sizeBytes }, { onBytes, signal }));
    await target.finish();
  } catch (error) {
    await target.abandon().catch((failure: Error) => onWarning?.(failure.message));
    throw error;
  }
  progress.finish();
  const proof = `all ${sizeBytes} bytes were read back and are the same`;
  return { repository: repository.name, vm: null, vdi: uuid, proof };
}

function wholeOf(file: FileHandle, size: number): ReturnType<FileHandle['createReadStream']> {
  return file.createReadStream({ start: 0, end: size - 1, autoClose: false, highWaterMark: 1024 * 1024 });
}

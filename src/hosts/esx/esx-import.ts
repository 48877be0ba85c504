/** A VM put onto a datastore of an ESX host: a folder of its own, disks made by the host and filled, files, registration. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import {
  BLOCK_BYTES,
  blockSizeBytes,
  DIGEST_BYTES,
  type Geometry,
  geometryOf,
} from '../../archive/geometry.ts';
import { checkFlatName, notPlainReason, parseDescriptor, SECTOR_BYTES } from '../../datastore/descriptor.ts';
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import { shellWord } from '../../storage/shell-word.ts';
import type { RunningCommand } from '../host-line.ts';
import { listFolder, readSmall } from './esx-files.ts';
import { clearUnfinished, lookAtGoal, UNFINISHED_MARK } from './esx-goal.ts';
import type { EsxHost } from './esx-host.ts';
import { EsxReader, readWay } from './esx-reader.ts';
import { LastingHelper } from './lasting-reads.ts';

/** Zeros between two pieces of data up to here are sent along: a command for each piece costs more. */
const GAP_BLOCKS = 4;
const REGION = 256;
const CREATE_TIMEOUT_MS = 3_600_000;

export interface ImportHooks {
  /** Bytes of the disk that are done. */
  onBytes?: (bytes: number) => void;
  signal?: AbortSignal;
}

/** The folder of a VM that is being put there; `abandon` takes away what was made, `finish` lets it stand. */
export class EsxImport {
  readonly #host: EsxHost;
  /** `/vmfs/volumes/datastore1/web` */
  readonly folder: string;
  readonly #made: string[] = [];

  private constructor(host: EsxHost, folder: string) {
    this.#host = host;
    this.folder = folder;
  }

  /**
   * Makes the folder. Throws NOT_FOUND (no such datastore), VM_RUNNING (there is a VM that runs, with the lock's owner), EXISTS,
   * USAGE (a name that can be no folder), TARGET_*, CANCELLED.
   */
  static async begin(
    host: EsxHost,
    datastore: string,
    name: string,
    signal?: AbortSignal,
  ): Promise<EsxImport> {
    const { shell } = host;
    const { folder, isUnfinished } = await lookAtGoal(host, datastore, name, signal);
    if (isUnfinished) await clearUnfinished(host, folder, signal);
    const made = new EsxImport(host, folder);
    const mark = `${folder}/${UNFINISHED_MARK}`;
    await shell.output(
      `mkdir ${shellWord(folder)} && echo ${host.snapshots.owner} > ${shellWord(mark)}`,
      `cannot make ${shownName(folder)}`,
      { signal },
    );
    made.#made.push(UNFINISHED_MARK);
    return made;
  }

  /**
   * Makes a disk by `vmkfstools -c`, writes what is no zeros, and has all of it hashed there (or reads it back where the host
   * cannot). Returns the name of its descriptor and how it was proved. Throws NO_SPACE, DIGEST_MISMATCH, TARGET_*, CANCELLED.
   */
  async importDisk(
    disk: { name: string; adapterType: string | null; file: FileHandle; sizeBytes: number },
    { onBytes, signal }: ImportHooks = {},
  ): Promise<{ proof: string }> {
    const { shell } = this.#host;
    const { name, adapterType, file, sizeBytes } = disk;
    const flatName = name.replace(/\.vmdk$/i, '-flat.vmdk');
    checkFlatName(flatName);
    if (sizeBytes % SECTOR_BYTES !== 0)
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${shownName(name)}: ${sizeBytes} bytes are no whole number of sectors`,
      );
    const size = sizeBytes % 1024 === 0 ? `${sizeBytes / 1024}k` : String(sizeBytes);
    const adapter =
      ['ide', 'buslogic', 'lsilogic'].find((one) => one === adapterType?.toLowerCase()) ?? 'lsilogic';
    const descriptorPath = `${this.folder}/${name}`;
    this.#made.push(name, flatName);
    await shell.output(
      `vmkfstools -c ${size} -a ${adapter} -d thin ${shellWord(descriptorPath)}`,
      `cannot make the disk ${shownName(name)}`,
      { timeoutMs: CREATE_TIMEOUT_MS, signal },
    );
    await this.#checkMade(name, flatName, sizeBytes, signal);
    const flatPath = `${this.folder}/${flatName}`;
    const geometry = geometryOf(sizeBytes);
    await this.#fill(file, flatPath, geometry, { onBytes, signal });
    await shell.run('sync', { signal });
    return { proof: await this.#prove(file, flatPath, geometry, signal) };
  }

  /** A small file, read back. Throws EXISTS, DIGEST_MISMATCH, TARGET_*, CANCELLED. */
  async placeFile(name: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (!isPlainName(name) || /^[.-]/.test(name))
      throw new PhdError(
        'ARCHIVE_DAMAGED',
        `the archive names a file ${shownName(name)}: no such name is written`,
      );
    const { shell } = this.#host;
    const file = shellWord(`${this.folder}/${name}`);
    this.#made.push(name);
    const doing = `cannot write ${shownName(name)}`;
    await shell.output(`set -C; cat > ${file}`, doing, { stdin: Buffer.from(bytes), signal });
    const back = await shell.output(`cat ${file}`, doing, { maxBytes: bytes.length + 65_536, signal });
    if (!back.equals(bytes))
      throw new PhdError(
        'DIGEST_MISMATCH',
        `${shownName(name)} on host ${this.#host.config.name} reads differently`,
      );
  }

  /** Registers the VM; its id there. Throws TARGET_REFUSED. */
  async register(vmxName: string, signal?: AbortSignal): Promise<string> {
    const vmx = shellWord(`${this.folder}/${vmxName}`);
    const doing = `cannot register ${shownName(vmxName)}`;
    const said = (
      await this.#host.shell.output(`vim-cmd solo/registervm ${vmx}`, doing, { signal })
    ).toString('utf8');
    const id = /^\s*(\d+)\s*$/m.exec(said)?.[1];
    if (id !== undefined) return id;
    throw new PhdError('TARGET_LIED', `host ${this.#host.config.name}: ${doing}: it gave no id`);
  }

  async finish(): Promise<void> {
    await this.#host.shell.output(
      `rm ${shellWord(`${this.folder}/${UNFINISHED_MARK}`)}`,
      'cannot take its mark away',
    );
  }

  /** Takes away what was made, over a new line if the old one is dead; nothing else in the folder. */
  async abandon(): Promise<void> {
    const files = [...this.#made].reverse().map((name) => shellWord(`${this.folder}/${name}`));
    const command = `rm -f ${files.join(' ')} && rmdir ${shellWord(this.folder)}`;
    const doing = `cannot take away what was begun in ${shownName(this.folder)}`;
    await this.#host.shell.output(command, doing).catch(async (error) => {
      if (fromErrno(error, doing).code !== 'TARGET_UNREACHABLE') throw error;
      this.#host.shell.dropLine();
      await this.#host.shell.output(command, doing);
    });
  }

  /** What the host made must be a flat of this size: that is what gets written into. */
  async #checkMade(name: string, flatName: string, sizeBytes: number, signal?: AbortSignal): Promise<void> {
    const { shell, config } = this.#host;
    const descriptor = parseDescriptor(await readSmall(shell, `${this.folder}/${name}`, signal), name);
    const [extent] = descriptor.extents;
    const reason = notPlainReason(descriptor);
    const files = await listFolder(shell, this.folder, signal);
    const flat = files.find((one) => one.name === flatName);
    if (reason !== null || extent?.fileName !== flatName || flat?.sizeBytes !== sizeBytes)
      throw new PhdError(
        'TARGET_LIED',
        `host ${config.name}: vmkfstools made no flat of ${sizeBytes} bytes for ${shownName(name)}${reason === null ? '' : `: ${reason}`}`,
      );
  }

  async #fill(
    file: FileHandle,
    flatPath: string,
    geometry: Geometry,
    { onBytes = () => undefined, signal }: ImportHooks,
  ): Promise<void> {
    for (let block = 0; block < geometry.blockCount; ) {
      const first = await this.#nextData(file, geometry, block, onBytes, signal);
      if (first === null) return;
      const command = `dd of=${shellWord(flatPath)} bs=${BLOCK_BYTES} seek=${first} conv=notrunc`;
      block = await this.#host.shell.stream(command, signal, async (running) => {
        const next = await sendRun(file, geometry, first, running, onBytes);
        running.stdin.end();
        running.stdout.resume();
        const { status, stderr } = await running.ended;
        if (status !== 0)
          throw this.#host.shell.refusal(`cannot write ${shownName(flatPath)}`, {
            status,
            stdout: Buffer.alloc(0),
            stderr,
          });
        return next;
      });
    }
  }

  async #nextData(
    file: FileHandle,
    geometry: Geometry,
    from: number,
    onBytes: (bytes: number) => void,
    signal?: AbortSignal,
  ): Promise<number | null> {
    for (let block = from; block < geometry.blockCount; block += 1) {
      throwIfAborted(signal);
      const bytes = await readBlock(file, geometry, block);
      if (!isZero(bytes)) return block;
      onBytes(bytes.length);
    }
    return null;
  }

  async #prove(
    file: FileHandle,
    flatPath: string,
    geometry: Geometry,
    signal?: AbortSignal,
  ): Promise<string> {
    const { shell, config } = this.#host;
    const way = await readWay(shell, signal);
    const helper = way === 'python3' ? await LastingHelper.start(shell) : null;
    try {
      const reader = new EsxReader(shell, flatPath, geometry.diskBytes, way, helper);
      for (let first = 0; first < geometry.blockCount; first += REGION) {
        throwIfAborted(signal);
        const count = Math.min(REGION, geometry.blockCount - first);
        const there = reader.digests
          ? (await reader.digests({ firstBlock: first, count }, signal)).digests
          : await digestsOverTheLine(reader, geometry, first, count, signal);
        for (let at = 0; at < count; at += 1) {
          const here = digestOf(await readBlock(file, geometry, first + at));
          if (here.equals(there.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES))) continue;
          throw new PhdError(
            'DIGEST_MISMATCH',
            `block ${first + at} of ${shownName(flatPath)} on host ${config.name} is not what was sent`,
          );
        }
      }
    } finally {
      helper?.stop();
    }
    return way === 'dd' ? 'read back over the line' : `digests by ${way} on the host`;
  }
}

/** Sends blocks from `first` on up to the next long run of zeros; the block after them. */
async function sendRun(
  file: FileHandle,
  geometry: Geometry,
  first: number,
  running: RunningCommand,
  onBytes: (bytes: number) => void,
): Promise<number> {
  let zeros: Buffer[] = [];
  let block = first;
  for (; block < geometry.blockCount && zeros.length <= GAP_BLOCKS; block += 1) {
    const bytes = await readBlock(file, geometry, block);
    zeros.push(bytes);
    if (isZero(bytes)) continue;
    for (const one of zeros) {
      await send(running, one);
      onBytes(one.length);
    }
    zeros = [];
  }
  return block - zeros.length;
}

async function send({ stdin, ended }: RunningCommand, bytes: Buffer): Promise<void> {
  if (stdin.write(bytes)) return;
  // A command that has ended takes nothing more; its end tells why.
  await Promise.race([new Promise<void>((resolve) => stdin.once('drain', resolve)), ended]);
}

async function readBlock(file: FileHandle, geometry: Geometry, block: number): Promise<Buffer> {
  const bytes = Buffer.alloc(blockSizeBytes(geometry, block));
  const { bytesRead } = await file.read(bytes, 0, bytes.length, block * geometry.blockBytes);
  if (bytesRead === bytes.length) return bytes;
  throw new PhdError('IO', `the restored disk ends in block ${block}`);
}

async function digestsOverTheLine(
  reader: EsxReader,
  geometry: Geometry,
  first: number,
  count: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const digests: Buffer[] = [];
  for (let block = first; block < first + count; block += 1) {
    const bytes = Buffer.alloc(blockSizeBytes(geometry, block));
    await reader.read(block, bytes, signal);
    digests.push(digestOf(bytes));
  }
  return Buffer.concat(digests);
}

/** Zeros for a block of zeros, as hosts are asked. */
function digestOf(bytes: Buffer): Buffer {
  return isZero(bytes) ? Buffer.alloc(DIGEST_BYTES) : createHash('sha256').update(bytes).digest();
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

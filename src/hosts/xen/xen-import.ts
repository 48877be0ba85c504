/** Disks and VMs put into a pool: each disk sent, read back and compared; what is begun and not finished is taken away again. */
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { v4 as uuidV4 } from 'uuid';
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import type { KeptVm } from './kept-vm.ts';
import { type NewVif, vbdWords, vmWords } from './new-vm.ts';
import { MAX_VHD_BYTES } from './vhd.ts';
import { dataBlocks, vhdBytes, vhdOf } from './vhd-writer.ts';
import type { XenHost } from './xen-host.ts';
import { nothing, ref, vdiRecord } from './xen-records.ts';
import type { XenRepository } from './xen-storage.ts';

/** Making a disk on thick storage may take long. */
const CREATE_TIMEOUT_MS = 20 * 60_000;
const PROOF_PART_BYTES = 1024 * 1024;

export interface NewDisk {
  /** Of the VDI. */
  name: string;
  file: FileHandle;
  sizeBytes: number;
}

export interface ImportedDisk {
  vdiRef: string;
  uuid: string;
}

/** One VM on its way into a pool. */
export class XenImport {
  readonly #host: XenHost;
  readonly #repository: XenRepository;
  readonly #vdis: ImportedDisk[] = [];
  #vmRef: string | null = null;

  constructor(host: XenHost, repository: XenRepository) {
    this.#host = host;
    this.#repository = repository;
  }

  /**
   * Makes a disk, sends it, reads it back and compares every byte. Throws DIGEST_MISMATCH if one differs, NO_SPACE, TARGET_*,
   * CANCELLED; then the disk is gone again.
   */
  async importDisk(
    { name, file, sizeBytes }: NewDisk,
    { onBytes, signal }: { onBytes: (bytes: number) => void; signal?: AbortSignal },
  ): Promise<ImportedDisk> {
    const { session } = this.#host;
    const shown = shownName(name);
    const doing = `cannot make disk ${shown} on ${shownName(this.#repository.name)}`;
    const wanted = {
      name_label: name,
      name_description: 'restored from a backup',
      SR: this.#repository.srRef,
      virtual_size: String(sizeBytes),
      type: 'user',
      sharable: false,
      read_only: false,
      other_config: {},
      xenstore_data: {},
      sm_config: {},
      tags: [],
    };
    const vdiRef = await session.call('VDI.create', [wanted], ref, doing, { timeoutMs: CREATE_TIMEOUT_MS });
    const made: ImportedDisk = { vdiRef, uuid: '' };
    this.#vdis.push(made);
    try {
      const record = await session.call('VDI.get_record', [vdiRef], vdiRecord, doing, { signal });
      made.uuid = record.uuid;
      if (record.virtual_size < sizeBytes)
        throw new PhdError(
          'TARGET_LIED',
          `host ${session.config.name}: ${doing}: it is smaller than asked for`,
        );
      await this.#send(made, { name, file, sizeBytes }, signal);
      await this.#prove(made, { name, file, sizeBytes }, record.virtual_size, onBytes, signal);
      return made;
    } catch (error) {
      const failure = fromErrno(error, doing);
      await this.#destroyVdi(made).catch((also: PhdError) => this.#host.session.log(also.message));
      throw failure;
    }
  }

  /** Registers the VM with its disks and network cards; it is off. Throws what xenError makes of answers, TARGET_*. */
  async createVm(
    kept: KeptVm,
    name: string,
    disks: readonly { userdevice: string; bootable: boolean; mode: string; vdiRef: string }[],
    vifs: readonly NewVif[],
  ): Promise<string> {
    const { session } = this.#host;
    const doing = `cannot make VM ${shownName(name)}`;
    this.#vmRef = await session.call('VM.create', [vmWords(kept, name)], ref, doing);
    for (const { userdevice, bootable, mode, vdiRef } of disks)
      await session.call(
        'VBD.create',
        [vbdWords(this.#vmRef, { userdevice, bootable, mode, vdiRef })],
        ref,
        doing,
      );
    for (const { vbd } of kept.vbds.filter(({ vbd: one }) => one.type === 'CD'))
      await session.call(
        'VBD.create',
        [vbdWords(this.#vmRef, { ...vbd, bootable: false, mode: 'RO', vdiRef: null })],
        ref,
        doing,
      );
    for (const { device, mac, networkRef } of vifs) {
      const words = {
        device,
        network: networkRef,
        VM: this.#vmRef,
        MAC: mac,
        MTU: '1500',
        other_config: {},
        qos_algorithm_type: '',
        qos_algorithm_params: {},
      };
      await session.call('VIF.create', [words], ref, doing);
    }
    return this.#vmRef;
  }

  /** Takes away what was made. Throws the first failure, once all was tried. */
  async abandon(): Promise<void> {
    let first: PhdError | null = null;
    const keep = (error: unknown): void => {
      first ??= fromErrno(error, 'cannot take away what was begun');
    };
    if (this.#vmRef !== null)
      await this.#host.session
        .call('VM.destroy', [this.#vmRef], nothing, 'cannot take away the VM that was begun')
        .catch(keep);
    this.#vmRef = null;
    for (const made of [...this.#vdis]) await this.#destroyVdi(made).catch(keep);
    if (first !== null) throw first;
  }

  async #destroyVdi(made: ImportedDisk): Promise<void> {
    const doing = `cannot take away the disk that was begun (VDI ${made.uuid})`;
    await this.#host.session.call('VDI.destroy', [made.vdiRef], nothing, doing, {
      timeoutMs: CREATE_TIMEOUT_MS,
    });
    this.#vdis.splice(this.#vdis.indexOf(made), 1);
  }

  /** As a VHD, so that only data crosses the line; what is too large for one goes raw. */
  async #send(
    { uuid }: ImportedDisk,
    { name, file, sizeBytes }: NewDisk,
    signal?: AbortSignal,
  ): Promise<void> {
    const { transfers } = this.#host;
    const options = { doing: `cannot send ${shownName(name)}`, signal };
    if (sizeBytes > MAX_VHD_BYTES) {
      const raw = {
        sizeBytes,
        open: () => file.createReadStream({ start: 0, end: sizeBytes - 1, autoClose: false }),
      };
      await transfers.upload('/import_raw_vdi', { vdi: uuid, format: 'raw' }, raw, options);
      return;
    }
    const blocks = await dataBlocks(file, sizeBytes);
    const facts = { sizeBytes, blocks, uuid: uuidV4(), now: new Date(0) };
    const vhd = {
      sizeBytes: vhdBytes(sizeBytes, blocks.length),
      open: () => Readable.from(vhdOf(file, facts)),
    };
    await transfers.upload('/import_raw_vdi', { vdi: uuid, format: 'vhd' }, vhd, options);
  }

  async #prove(
    { uuid }: ImportedDisk,
    { name, file, sizeBytes }: NewDisk,
    vdiBytes: number,
    onBytes: (bytes: number) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const here = Buffer.alloc(PROOF_PART_BYTES);
    let at = 0;
    const differs = (): PhdError =>
      new PhdError(
        'DIGEST_MISMATCH',
        `host ${this.#host.config.name}: ${shownName(name)} was sent, and reads back differently near byte ${at}`,
      );
    await this.#host.transfers.download(
      '/export_raw_vdi',
      { vdi: uuid, format: 'raw' },
      async (part) => {
        for (let from = 0; from < part.length; ) {
          const piece = part.subarray(from, from + PROOF_PART_BYTES);
          const wanted = Math.max(0, Math.min(piece.length, sizeBytes - at));
          await readFully(file, here, wanted, at);
          // Storage may round a disk up: what is behind must be zeros.
          here.fill(0, wanted, piece.length);
          if (!piece.equals(here.subarray(0, piece.length))) throw differs();
          at += piece.length;
          from += piece.length;
          onBytes(wanted);
        }
      },
      { doing: `cannot read ${shownName(name)} back`, signal },
    );
    if (at !== vdiBytes) throw differs();
  }
}

async function readFully(file: FileHandle, into: Buffer, bytes: number, start: number): Promise<void> {
  for (let at = 0; at < bytes; ) {
    const { bytesRead } = await file.read(into, at, bytes - at, start + at);
    if (bytesRead === 0) throw new PhdError('SOURCE_CHANGED', 'the disk that is sent became shorter');
    at += bytesRead;
  }
}

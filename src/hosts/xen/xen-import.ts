/** Disks and VMs put into a pool: each disk sent, read back and compared; what is begun and not finished is taken away again. */
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { v4 as uuidV4 } from 'uuid';
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import type { KeptVm } from './kept-vm.ts';
import { type NewVif, vbdWords, vifWords, vmWords } from './new-vm.ts';
import { findUnfinished, RESTORE_MARK, unfinishedName } from './unfinished.ts';
import { MAX_VHD_BYTES } from './vhd.ts';
import { dataBlocks, vhdBytes, vhdOf } from './vhd-writer.ts';
import { xenCodeOf } from './xen-error.ts';
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

interface NewVm {
  kept: KeptVm;
  name: string;
  disks: readonly { userdevice: string; bootable: boolean; mode: string; vdiRef: string }[];
  vifs: readonly NewVif[];
}

/** One VM on its way into a pool: nothing of it bears its name before `finish`. */
export class XenImport {
  readonly #host: XenHost;
  readonly #repository: XenRepository;
  /** Tells what this run has made, also where the answer was lost. */
  readonly #run = uuidV4();
  readonly #disks: (ImportedDisk & { name: string })[] = [];
  #vm: { vmRef: string; name: string } | null = null;

  constructor(host: XenHost, repository: XenRepository) {
    this.#host = host;
    this.#repository = repository;
  }

  /**
   * Makes a disk, sends it, reads it back and compares every byte. Throws DIGEST_MISMATCH if one differs, NO_SPACE, TARGET_*,
   * CANCELLED; then the disk is gone again, or the message names it.
   */
  async importDisk(
    { name, file, sizeBytes }: NewDisk,
    { onBytes, signal }: { onBytes: (bytes: number) => void; signal?: AbortSignal },
  ): Promise<ImportedDisk> {
    const { session } = this.#host;
    const doing = `cannot make disk ${shownName(name)} on ${shownName(this.#repository.name)}`;
    const vdiRef = await session.call('VDI.create', [this.#vdiWords(name, sizeBytes)], ref, doing, {
      timeoutMs: CREATE_TIMEOUT_MS,
    });
    const made = { vdiRef, uuid: '' };
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
      this.#disks.push({ ...made, name });
      return made;
    } catch (error) {
      const failure = fromErrno(error, doing);
      const left = await this.#takeAwayDisk(vdiRef, { uuid: made.uuid, name: unfinishedName(name) });
      if (left === null) throw failure;
      throw new PhdError(failure.code, `${failure.message}; ${left}`, { cause: failure });
    }
  }

  /** Registers the VM with its disks and network cards; it is off. Throws what xenError makes of answers, TARGET_*. */
  async createVm({ kept, name, disks, vifs }: NewVm): Promise<string> {
    const { session } = this.#host;
    const doing = `cannot make VM ${shownName(name)}`;
    const words = vmWords(kept, unfinishedName(name));
    const marked = { ...words, other_config: { ...words.other_config, [RESTORE_MARK]: this.#run } };
    const vmRef = await session.call('VM.create', [marked], ref, doing);
    this.#vm = { vmRef, name };
    for (const { userdevice, bootable, mode, vdiRef } of disks)
      await session.call('VBD.create', [vbdWords(vmRef, { userdevice, bootable, mode, vdiRef })], ref, doing);
    for (const { vbd } of kept.vbds.filter(({ vbd: one }) => one.type === 'CD'))
      await session.call(
        'VBD.create',
        [vbdWords(vmRef, { ...vbd, bootable: false, mode: 'RO', vdiRef: null })],
        ref,
        doing,
      );
    for (const vif of vifs) await session.call('VIF.create', [vifWords(vmRef, vif)], ref, doing);
    return vmRef;
  }

  /** Gives all that is proved its name, the VM last. Throws TARGET_*; a mark that stays is in the log, and harms nothing. */
  async finish(): Promise<void> {
    const { session } = this.#host;
    const name = async (kind: 'VDI' | 'VM', one: string, label: string): Promise<void> => {
      await session.call(`${kind}.set_name_label`, [one, label], nothing, `cannot name ${shownName(label)}`);
    };
    const unmark = async (kind: 'VDI' | 'VM', one: string): Promise<void> => {
      await session
        .call(`${kind}.remove_from_other_config`, [one, RESTORE_MARK], nothing, 'cannot take a mark off')
        .catch((error: PhdError) => session.log(error.message));
    };
    for (const disk of this.#disks) await name('VDI', disk.vdiRef, disk.name);
    if (this.#vm !== null) await name('VM', this.#vm.vmRef, this.#vm.name);
    for (const { vdiRef } of this.#disks) await unmark('VDI', vdiRef);
    if (this.#vm !== null) await unmark('VM', this.#vm.vmRef);
  }

  /** Takes away all that was made, also what the host made and could not tell. Throws one error that names all that stays. */
  async abandon(): Promise<void> {
    const vms = new Map(this.#vm === null ? [] : [[this.#vm.vmRef, this.#vm.name]]);
    const disks = new Map(this.#disks.map((disk) => [disk.vdiRef, disk]));
    await this.#takeAway(vms, disks);
  }

  /** Takes away what bears no final name, once `finish` has given all others theirs. Throws as `abandon`. */
  async clearFailed(): Promise<void> {
    await this.#takeAway(new Map(), new Map());
  }

  async #takeAway(
    vms: Map<string, string>,
    disks: Map<string, Pick<ImportedDisk, 'uuid'> & { name: string }>,
  ): Promise<void> {
    const left: string[] = [];
    try {
      const found = await findUnfinished(this.#host, this.#run);
      for (const { ref: vmRef, record } of found.vms) vms.set(vmRef, record.name_label);
      for (const { ref: vdiRef, record } of found.disks)
        disks.set(vdiRef, { uuid: record.uuid, name: record.name_label });
    } catch (error) {
      left.push((error as Error).message);
    }
    const stay = async (stays: Promise<string | null>): Promise<void> => {
      const words = await stays;
      if (words !== null) left.push(words);
    };
    for (const [vmRef, name] of vms) await stay(this.#destroy('VM', vmRef, `VM ${shownName(name)} stays`));
    for (const [vdiRef, disk] of disks) await stay(this.#takeAwayDisk(vdiRef, disk));
    if (left.length > 0)
      throw new PhdError('TARGET_REFUSED', `not all that was begun could be taken away: ${left.join('; ')}`);
  }

  /** Null, or the words that tell that it stays. */
  async #takeAwayDisk(
    vdiRef: string,
    { uuid, name }: { uuid: string; name: string },
  ): Promise<string | null> {
    return await this.#destroy('VDI', vdiRef, `disk ${shownName(name)} (VDI ${uuid || 'unknown'}) stays`);
  }

  async #destroy(kind: 'VM' | 'VDI', one: string, doing: string): Promise<string | null> {
    const options = { timeoutMs: CREATE_TIMEOUT_MS };
    try {
      await this.#host.session.call(`${kind}.destroy`, [one], nothing, doing, options);
      return null;
    } catch (error) {
      // One that is gone already is what is wanted.
      return xenCodeOf(error) === 'HANDLE_INVALID' ? null : fromErrno(error, doing).message;
    }
  }

  #vdiWords(name: string, sizeBytes: number): Record<string, unknown> {
    return {
      name_label: unfinishedName(name),
      name_description: 'restored from a backup',
      SR: this.#repository.srRef,
      virtual_size: String(sizeBytes),
      type: 'user',
      sharable: false,
      read_only: false,
      other_config: { [RESTORE_MARK]: this.#run },
      xenstore_data: {},
      sm_config: {},
      tags: [],
    };
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
    const blocks = await dataBlocks(file, sizeBytes, signal);
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

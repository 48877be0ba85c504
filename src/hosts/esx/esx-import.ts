/** A VM put onto a datastore of an ESX host: a folder of its own, disks made by the host and filled, files, registration. */
import type { FileHandle } from 'node:fs/promises';
import { geometryOf } from '../../archive/geometry.ts';
import { checkFlatName, notPlainReason, parseDescriptor, SECTOR_BYTES } from '../../datastore/descriptor.ts';
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import { shellWord } from '../../storage/shell-word.ts';
import { listFolder, readSmall } from './esx-files.ts';
import { type FillHooks, fillFlat, proveFlat } from './esx-flat.ts';
import { clearUnfinished, lookAtGoal, registeredId, UNFINISHED_MARK } from './esx-goal.ts';
import type { EsxHost } from './esx-host.ts';

const CREATE_TIMEOUT_MS = 3_600_000;

/** True for the name of a file that `placeFile` writes: one that no program takes for an option or hides. */
export function isPlaceableName(name: string): boolean {
  return isPlainName(name) && !/^[.-]/.test(name);
}

/** The folder of a VM that is being put there; `abandon` takes away what was made, `finish` lets it stand. */
export class EsxImport {
  readonly #host: EsxHost;
  /** `/vmfs/volumes/datastore1/web` */
  readonly folder: string;
  readonly #made: string[] = [];
  /** The host was told to register the VM: it may have done so even where no answer came. */
  #isRegistering = false;

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
    const [dir, file] = [shellWord(folder), shellWord(made.mark)];
    await shell.output(
      `mkdir ${dir} && { echo ${host.snapshots.owner} > ${file} || { rm -f ${file}; rmdir ${dir}; false; }; }`,
      `cannot make ${shownName(folder)}`,
      { signal },
    );
    made.#made.push(UNFINISHED_MARK);
    return made;
  }

  /**
   * Makes a disk by `vmkfstools -c`, writes what is no zeros, and has all of it hashed there (or reads it back where the host
   * cannot). Returns how it was proved. Throws EXISTS, NO_SPACE, DIGEST_MISMATCH, TARGET_*, CANCELLED.
   */
  async importDisk(
    disk: { name: string; adapterType: string | null; file: FileHandle; sizeBytes: number },
    { onBytes, signal }: FillHooks = {},
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
    await this.#takeNames([name, flatName], signal);
    await shell.output(
      `vmkfstools -c ${size} -a ${adapter} -d thin ${shellWord(descriptorPath)}`,
      `cannot make the disk ${shownName(name)}`,
      { timeoutMs: CREATE_TIMEOUT_MS, signal },
    );
    await this.#checkMade(name, flatName, sizeBytes, signal);
    const flatPath = `${this.folder}/${flatName}`;
    const geometry = geometryOf(sizeBytes);
    await fillFlat(shell, file, flatPath, geometry, { onBytes, signal });
    await shell.run('sync', { signal });
    return { proof: await proveFlat(shell, file, flatPath, geometry, signal) };
  }

  /** A small file, read back. Throws EXISTS, DIGEST_MISMATCH, TARGET_*, CANCELLED. */
  async placeFile(name: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (!isPlaceableName(name))
      throw new PhdError(
        'ARCHIVE_DAMAGED',
        `the archive names a file ${shownName(name)}: no such name is written`,
      );
    const { shell } = this.#host;
    const file = shellWord(`${this.folder}/${name}`);
    await this.#takeNames([name], signal);
    const doing = `cannot write ${shownName(name)}`;
    await shell.output(`set -C; cat > ${file}`, doing, { stdin: Buffer.from(bytes), signal });
    const back = await shell.output(`cat ${file}`, doing, { maxBytes: bytes.length + 65_536, signal });
    if (!back.equals(bytes))
      throw new PhdError(
        'DIGEST_MISMATCH',
        `${shownName(name)} on host ${this.#host.config.name} reads differently`,
      );
  }

  /**
   * Registers the VM; its id there. Nothing calls it off, for the host would go on; where no answer came the host is asked what it
   * did. Throws TARGET_*, CANCELLED before it is begun.
   */
  async register(vmxName: string, signal?: AbortSignal): Promise<string> {
    const { shell, config } = this.#host;
    const vmx = shellWord(`${this.folder}/${vmxName}`);
    const doing = `cannot register ${shownName(vmxName)}`;
    throwIfAborted(signal);
    this.#isRegistering = true;
    try {
      const said = (await shell.output(`vim-cmd solo/registervm ${vmx}`, doing)).toString('utf8');
      const id = /^[ \t]*(\d+)[ \t\r]*$/m.exec(said)?.[1] ?? (await registeredId(this.#host, this.folder));
      if (id !== null) return id;
      throw new PhdError('TARGET_LIED', `host ${config.name}: ${doing}: it gave no id`);
    } catch (error) {
      if (fromErrno(error, doing).code !== 'TARGET_UNREACHABLE') throw error;
      shell.dropLine();
      const id = await registeredId(this.#host, this.folder);
      if (id === null) throw error;
      return id;
    }
  }

  /** File that says that this is not finished. */
  get mark(): string {
    return `${this.folder}/${UNFINISHED_MARK}`;
  }

  /** Throws TARGET_*. */
  async finish(): Promise<void> {
    await this.#host.shell.output(`rm ${shellWord(this.mark)}`, 'cannot take its mark away');
  }

  /**
   * Takes away what was made, over a new line if the old one is dead; nothing else in the folder. Files of a VM that stays
   * registered stay. Throws TARGET_*.
   */
  async abandon(): Promise<void> {
    const doing = `cannot take away what was begun in ${shownName(this.folder)}`;
    await this.#takeAway(doing).catch(async (error) => {
      if (fromErrno(error, doing).code !== 'TARGET_UNREACHABLE') throw error;
      this.#host.shell.dropLine();
      await this.#takeAway(doing);
    });
  }

  async #takeAway(doing: string): Promise<void> {
    const { shell } = this.#host;
    const id = this.#isRegistering ? await registeredId(this.#host, this.folder) : null;
    if (id !== null) await shell.output(`vim-cmd vmsvc/unregister ${id}`, doing);
    const files = [...this.#made].reverse().map((name) => shellWord(`${this.folder}/${name}`));
    await shell.output(`rm -f ${files.join(' ')} && rmdir ${shellWord(this.folder)}`, doing);
  }

  /** From now on `abandon` removes them. Throws EXISTS if somebody else has put one there, TARGET_*, CANCELLED. */
  async #takeNames(names: readonly string[], signal?: AbortSignal): Promise<void> {
    const { shell, config } = this.#host;
    for (const name of names) {
      const file = shellWord(`${this.folder}/${name}`);
      const probe = `if [ -e ${file} ] || [ -L ${file} ]; then echo taken; fi`;
      const said = await shell.output(probe, `cannot look for ${shownName(name)}`, { signal });
      if (said.toString('utf8').trim() === 'taken')
        throw new PhdError(
          'EXISTS',
          `host ${config.name}: ${shownName(`${this.folder}/${name}`)} was put there by somebody else: it stays as it is`,
        );
    }
    this.#made.push(...names);
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
}

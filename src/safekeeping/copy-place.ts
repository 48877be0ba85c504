/** Where copies of configurations lie on a target: `phd-configuration/HOST/TIME/`, with a list of digests that is written last. */
import { createHash, randomBytes } from 'node:crypto';
import { CONFIGURATION_FOLDER } from '../archive/names.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';

/** A hostile target cannot fill the memory with one. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;
const MAX_HOSTS = 1000;
/** Of each host so many folders are looked into, the newest first. */
const MAX_TIMES = 50;
/** Older copies of a host are removed. */
const KEPT = 5;
export const SUMS_NAME = 'SHA256SUMS';
export const CONFIG_COPY = 'phd.yaml';
export const VMDKS_COPY = 'vmdks.auto';
const HOST_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** UTC, and something that two processes do not share: `20261126-221500-3f9a`. */
const TIME_NAME = /^\d{8}-\d{6}-[0-9a-f]{4}$/;
const SUM_LINE = /^([0-9a-f]{64}) [ *](phd\.yaml|vmdks\.auto)$/;

export interface FoundCopy {
  /** Folder that the host wrote it to. */
  hostName: string;
  /** `20261126-221500-3f9a` */
  time: string;
}

export interface Copy extends FoundCopy {
  configText: string;
  /** Null: that host had none. */
  vmdksText: string | null;
}

/** The name of a host as a folder. */
export function hostFolder(hostName: string): string {
  const safe = hostName.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 100);
  return HOST_NAME.test(safe) ? safe : `host-${safe.replace(/^[^A-Za-z0-9]+/, '')}`;
}

export function timeName(now: Date): string {
  const time = now.toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  return `${time}-${randomBytes(2).toString('hex')}`;
}

/** Writes a copy; it counts once its list of digests bears its name. Throws TARGET_*, NO_SPACE, IO. */
export async function writeCopy(storage: Storage, copy: Copy): Promise<void> {
  const folder = `${CONFIGURATION_FOLDER}/${copy.hostName}/${copy.time}`;
  await storage.makeFolder(folder);
  const files: [string, string][] = [[CONFIG_COPY, copy.configText]];
  if (copy.vmdksText !== null) files.push([VMDKS_COPY, copy.vmdksText]);
  const sums = files.map(([name, text]) => `${sha256(text)}  ${name}\n`).join('');
  for (const [name, text] of [...files, [SUMS_NAME, sums] as const]) {
    const bytes = Buffer.from(text);
    await storage.write(`${folder}/${name}.part`, one(bytes), { readBack: 'all' });
    await storage.rename(`${folder}/${name}.part`, `${folder}/${name}`);
  }
}

/** The newest copy of each host that has a list of digests, by host. Throws TARGET_*. */
export async function listCopies(storage: Storage, signal?: AbortSignal): Promise<FoundCopy[]> {
  const hosts = await namesIn(storage, CONFIGURATION_FOLDER, HOST_NAME, signal);
  const found: FoundCopy[] = [];
  for (const hostName of hosts.slice(0, MAX_HOSTS)) {
    const folder = `${CONFIGURATION_FOLDER}/${hostName}`;
    for (const time of (await namesIn(storage, folder, TIME_NAME, signal)).reverse().slice(0, MAX_TIMES)) {
      if ((await storage.stat(`${folder}/${time}/${SUMS_NAME}`, signal)) === undefined) continue;
      found.push({ hostName, time });
      break;
    }
  }
  return found;
}

/** Reads a copy and proves it by its digests. Throws ARCHIVE_DAMAGED, NOT_FOUND, TARGET_*. */
export async function readCopy(storage: Storage, found: FoundCopy, signal?: AbortSignal): Promise<Copy> {
  const folder = `${CONFIGURATION_FOLDER}/${found.hostName}/${found.time}`;
  const sums = await readText(storage, `${folder}/${SUMS_NAME}`, signal);
  const texts = new Map<string, string>();
  for (const line of sums.split('\n').filter((text) => text !== '')) {
    const [, digest, name = ''] = SUM_LINE.exec(line) ?? [];
    if (digest === undefined || texts.has(name))
      throw damaged(storage, folder, `${SUMS_NAME} has a line that makes no sense`);
    const text = await readText(storage, `${folder}/${name}`, signal);
    if (sha256(text) !== digest) throw damaged(storage, folder, `${name} does not match its digest`);
    texts.set(name, text);
  }
  const configText = texts.get(CONFIG_COPY);
  if (configText === undefined) throw damaged(storage, folder, `it has no ${CONFIG_COPY}`);
  return { ...found, configText, vmdksText: texts.get(VMDKS_COPY) ?? null };
}

/** Removes all but the newest copies of a host. Throws TARGET_*, IO. */
export async function removeOldCopies(storage: Storage, hostName: string): Promise<void> {
  const folder = `${CONFIGURATION_FOLDER}/${hostName}`;
  const times = await namesIn(storage, folder, TIME_NAME);
  for (const time of times.slice(0, -KEPT)) {
    // The list of digests goes first: what is half removed is no copy any more.
    for (const name of [SUMS_NAME, CONFIG_COPY, VMDKS_COPY].flatMap((one) => [one, `${one}.part`])) {
      const file = `${folder}/${time}/${name}`;
      if ((await storage.stat(file)) !== undefined) await storage.remove(file);
    }
    await storage.removeFolder(`${folder}/${time}`);
  }
}

/** Names of folders that look as they should, in order; none where there is no such folder. */
async function namesIn(
  storage: Storage,
  folder: string,
  form: RegExp,
  signal?: AbortSignal,
): Promise<string[]> {
  try {
    const { entries } = await storage.list(folder, signal);
    return entries
      .filter(({ kind, name }) => kind === 'folder' && form.test(name))
      .map(({ name }) => name)
      .sort();
  } catch (error) {
    const failure = fromErrno(error, `cannot list ${storage.place}/${folder}`);
    if (failure.code === 'NOT_FOUND') return [];
    throw failure;
  }
}

async function readText(storage: Storage, file: string, signal?: AbortSignal): Promise<string> {
  const found = await storage.stat(file, signal);
  if (found?.kind !== 'file') throw new PhdError('NOT_FOUND', `there is no ${storage.place}/${file}`);
  if (found.sizeBytes > MAX_FILE_BYTES)
    throw new PhdError('ARCHIVE_DAMAGED', `${storage.place}/${file} is larger than ${MAX_FILE_BYTES} bytes`);
  const parts: Buffer[] = [];
  for await (const part of storage.read(file, { offsetBytes: 0, lengthBytes: found.sizeBytes }, signal))
    parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString('utf8');
}

async function* one(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function damaged(storage: Storage, folder: string, why: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `the copy ${storage.place}/${folder} cannot be used: ${why}`);
}

/** Tries everything a target must be able to do, step by step, and cleans up after itself. */
import { randomBytes, randomUUID } from 'node:crypto';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import { FtpStorage } from './ftp.ts';
import type { Storage } from './storage.ts';

export type TargetTestStepName =
  | 'mkdir'
  | 'write'
  | 'rename'
  | 'list'
  | 'ranged read'
  | 'large file'
  | 'delete';

export interface TargetTestStep {
  name: TargetTestStepName;
  ok: boolean;
  /** What was proved, or the error's message. */
  detail: string;
  tookMs: number;
}

export interface TargetTestResult {
  steps: TargetTestStep[];
  /** Known trouble with this kind of server or these settings, in whole sentences. */
  warnings: string[];
  ok: boolean;
}

export interface TargetTestOptions {
  /** Settings of the target, for warnings. */
  settings?: TargetSettings;
  /** Also writes a file of zeros of more than 4 GiB and reads across that border. */
  largeFile?: boolean;
  signal?: AbortSignal;
  onStep?: (step: TargetTestStep) => void;
}

const SMALL_BYTES = 1024 * 1024;
const FOUR_GIB = 2 ** 32;
const ZERO_CHUNK_BYTES = 1024 * 1024;

/** Never throws for what the target does: failures are steps. CANCELLED if the signal fires. */
export async function testTarget(
  storage: Storage,
  options: TargetTestOptions = {},
): Promise<TargetTestResult> {
  const folder = `phd-test-${randomUUID()}`;
  const steps: TargetTestStep[] = [];
  const { signal } = options;
  const step = async (name: TargetTestStepName, work: () => Promise<string>): Promise<boolean> => {
    throwIfAborted(signal);
    const begin = performance.now();
    let result: Pick<TargetTestStep, 'ok' | 'detail'>;
    try {
      result = { ok: true, detail: await work() };
    } catch (error) {
      result = { ok: false, detail: (error as Error).message };
    }
    const done = { name, ...result, tookMs: Math.round(performance.now() - begin) };
    steps.push(done);
    options.onStep?.(done);
    return done.ok;
  };
  try {
    if (await step('mkdir', () => makeFolder(storage, folder)))
      await fileSteps(storage, folder, step, options);
  } finally {
    await step('delete', () => removeAll(storage, folder)).catch(() => false);
  }
  throwIfAborted(signal);
  const warnings = await warningsFor(storage, options.settings);
  return { steps, warnings, ok: steps.every((one) => one.ok) };
}

type Step = (name: TargetTestStepName, work: () => Promise<string>) => Promise<boolean>;

async function fileSteps(
  storage: Storage,
  folder: string,
  step: Step,
  options: TargetTestOptions,
): Promise<void> {
  const data = randomBytes(SMALL_BYTES);
  const { signal } = options;
  const writeOptions = signal ? { signal } : {};
  const isWritten = await step('write', async () => {
    await storage.write(`${folder}/file.part`, once(data), { ...writeOptions, readBack: 'all' });
    return `${data.length} bytes written and read back`;
  });
  if (isWritten) {
    const isRenamed = await step('rename', async () => {
      await storage.rename(`${folder}/file.part`, `${folder}/file`);
      return 'file.part became file';
    });
    const name = isRenamed ? 'file' : 'file.part';
    await step('list', async () => {
      const { entries, complete } = await storage.list(folder, signal);
      const found = entries.find((entry) => entry.name === name);
      if (!complete) throw new PhdError('TARGET_LIED', 'the list is not complete');
      if (found?.sizeBytes !== data.length)
        throw new PhdError('TARGET_LIED', 'the list lacks the file or its size');
      return `${entries.length} name, right size`;
    });
    await step('ranged read', async () => {
      const [offset, length] = [300_001, 500_000];
      await compareRange(storage, `${folder}/${name}`, data, offset, length, signal);
      return `bytes ${offset} to ${offset + length} are right`;
    });
  }
  if (!options.largeFile) return;
  await step('large file', async () => {
    const bytes = FOUR_GIB + ZERO_CHUNK_BYTES;
    await storage.write(`${folder}/large.part`, zeros(bytes), writeOptions);
    const around = Buffer.alloc(2000);
    await compareRange(storage, `${folder}/large.part`, around, FOUR_GIB - 1000, around.length, signal, 0);
    return `${bytes} bytes written, read across 4 GiB`;
  });
}

async function compareRange(
  storage: Storage,
  path: string,
  data: Buffer,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
  dataOffset = offset,
): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of storage.read(path, { offsetBytes: offset, lengthBytes: length }, signal))
    parts.push(part);
  if (!Buffer.concat(parts).equals(data.subarray(dataOffset, dataOffset + length))) {
    throw new PhdError('TARGET_LIED', `${path}: other bytes came back`);
  }
}

async function makeFolder(storage: Storage, folder: string): Promise<string> {
  await storage.makeFolder(folder);
  if ((await storage.stat(folder))?.kind !== 'folder')
    throw new PhdError('TARGET_LIED', `${folder} was not made`);
  return `${storage.place}/${folder}`;
}

async function removeAll(storage: Storage, folder: string): Promise<string> {
  if ((await storage.stat(folder)) === undefined) return 'nothing to remove';
  const { entries } = await storage.list(folder);
  for (const entry of entries) await storage.remove(`${folder}/${entry.name}`);
  await storage.removeFolder(folder);
  if ((await storage.stat(folder)) !== undefined)
    throw new PhdError('TARGET_LIED', `${folder} is still there`);
  return `${entries.length} files and the folder removed`;
}

/** Trouble the esXpress manual and years of reports name. */
async function warningsFor(storage: Storage, settings: TargetSettings | undefined): Promise<string[]> {
  const warnings: string[] = [];
  if (storage instanceof FtpStorage) {
    const banner = await storage.banner().catch(() => '');
    if (/microsoft ftp|windows_nt|\biis\b/i.test(banner)) {
      warnings.push(
        'The server is Microsoft IIS: it is known to cut large files and to refuse downloads over 4 GiB. Use another FTP server, or SSH.',
      );
    }
  }
  if (settings?.transport === 'ftp' && settings.path.replaceAll('/', '') === '') {
    warnings.push(
      'The FTP path is blank: archives would lie in the login folder. Name a folder of their own.',
    );
  }
  if (settings?.user && /^[^\\]+\\[^\\]+$/.test(settings.user)) {
    warnings.push(
      `The user ${settings.user} names a Windows domain: in quoted YAML write it as Domain\\\\User, or without quotes with one backslash.`,
    );
  }
  return warnings;
}

async function* once(data: Buffer): AsyncGenerator<Buffer> {
  yield data;
}

/** Zero bytes, one chunk used again and again. */
export async function* zeros(bytes: number): AsyncGenerator<Buffer> {
  const chunk = Buffer.alloc(ZERO_CHUNK_BYTES);
  for (let left = bytes; left > 0; left -= chunk.length)
    yield left < chunk.length ? chunk.subarray(0, left) : chunk;
}

/**
 * What a person who is asked for help needs to see, in one file: logs, the configuration without secrets, versions, the
 * last jobs. Every text is searched for each secret that can be read before it goes in.
 */
import { createWriteStream } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { release } from 'node:os';
import path from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import tar from 'tar-stream';
import { type Clock, localStamp } from '../clock.ts';
import { configFileOf, readConfigText } from '../config/load-config.ts';
import { portableConfig, printConfig } from '../config/portable-config.ts';
import {
  type ReadableSecret,
  readableSecrets,
  secretIn,
  secretsBeside,
  withoutSecrets,
} from '../config/readable-secrets.ts';
import { checkConfig } from '../engine/configuration.ts';
import type { EngineContext } from '../engine/context.ts';
import { logFileOf } from '../engine/log-file.ts';
import { PROGRAM } from '../engine/version.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Places } from '../model/config.ts';
import type { Queue } from '../queue/queue.ts';
import { vmdksFile } from '../replication/vmdks-file.ts';
import { wordsIn } from './vmdks-words.ts';

/** Of each log its end. */
const LOG_BYTES = 1024 * 1024;
const JOB_LOG_BYTES = 64 * 1024;
const LAST_JOBS = 200;
const LAST_JOB_LOGS = 20;

export interface BundleSource {
  places: Places;
  clock: Clock;
  hostName: string;
  /** Null where phd.yaml is broken: its faults are told instead. */
  context: EngineContext | null;
  queue: Queue;
  env: NodeJS.ProcessEnv;
}

export interface Bundle {
  file: string;
  /** Names of what is in it. */
  entries: string[];
}

/** `phd-support-HOST-20261126-2315.tar.gz` */
export function bundleName({ hostName, clock }: Pick<BundleSource, 'hostName' | 'clock'>): string {
  const safe = hostName.replace(/[^A-Za-z0-9._-]/g, '_');
  return `phd-support-${safe}-${localStamp(clock.now()).replace(/[-:]/g, '').replace('T', '-')}.tar.gz`;
}

/** Writes the file (0600). Throws EXISTS, IO, NO_SPACE. */
export async function writeSupportBundle(source: BundleSource, file: string): Promise<Bundle> {
  const isThere = await stat(file).then(
    () => true,
    () => false,
  );
  if (isThere) throw new PhdError('EXISTS', `${file} is there already: give another name`);
  const { clock } = source;
  const secrets = await secretsOf(source);
  const texts = await textsOf(source);
  const entries = texts.map(([name, text]): [string, string] => [name, cleaned(name, text, secrets)]);
  await writeTar(file, entries, clock.now());
  return { file, entries: entries.map(([name]) => name) };
}

/** All that can be read now; those of a phd.yaml that is broken, as far as they can be found. */
async function secretsOf({ places, context, env }: BundleSource): Promise<ReadableSecret[]> {
  const vmdks = await readFile(vmdksFile(places), 'utf8').catch(() => '');
  const file = configFileOf(places);
  const configured =
    context === null
      ? await secretsBeside(file, await readFile(file, 'utf8').catch(() => ''))
      : await readableSecrets(context.config, env);
  return [...configured, ...wordsIn(vmdks)];
}

async function textsOf({ places, context, queue, env }: BundleSource): Promise<[string, string][]> {
  const jobs = queue.db.jobs({}, { limit: LAST_JOBS });
  const failed = jobs
    .filter(({ state }) => state === 'failed' || state === 'interrupted')
    .slice(0, LAST_JOB_LOGS);
  const texts: [string, string][] = [
    ['versions.txt', versions(env)],
    ...(context === null ? [] : await contextTexts(context)),
    ['configuration-faults.txt', (await checkConfig(places, env)).map((line) => `${line}\n`).join('')],
    ['jobs.json', json(jobs)],
    ['locks.json', json(queue.db.locks())],
    ['daemon.json', json({ running: queue.isDaemonRunning(), record: queue.db.daemon() ?? null })],
  ];
  const files: [string, string, number][] = [
    ['log/phd.log', logFileOf(places), LOG_BYTES],
    ['log/phd.log.1', `${logFileOf(places)}.1`, LOG_BYTES],
    ['state/replication.json', path.join(places.stateDir, 'replication.json'), JOB_LOG_BYTES],
    ['state/verify-plan.json', path.join(places.stateDir, 'verify-plan.json'), JOB_LOG_BYTES],
    ...failed.map(({ id }): [string, string, number] => [
      `jobs/${id}.log`,
      queue.logFileOf(id),
      JOB_LOG_BYTES,
    ]),
  ];
  for (const [name, from, limit] of files) {
    const text = await endOf(from, limit);
    if (text !== null) texts.push([name, text]);
  }
  return texts;
}

function versions(env: NodeJS.ProcessEnv): string {
  const { versions: parts, platform, arch } = process;
  const facts: [string, string | undefined][] = [
    ['program', PROGRAM],
    ['node', `${parts.node} (openssl ${parts.openssl}, zlib ${parts.zlib})`],
    ['system', `${platform} ${release()} ${arch}`],
    ['user', process.getuid?.() === 0 ? 'root' : 'not root'],
    ['TERM', env.TERM],
    ['LANG', env.LC_ALL ?? env.LC_CTYPE ?? env.LANG],
    ['TZ', Intl.DateTimeFormat().resolvedOptions().timeZone],
  ];
  return facts.map(([name, value]) => `${name}: ${value ?? '-'}\n`).join('');
}

async function contextTexts({ config, index }: EngineContext): Promise<[string, string][]> {
  const configuration = portableConfig(await readConfigText(config.file), config.file);
  return [
    ['configuration.yaml', printConfig(configuration)],
    ['targets.json', json(index.targets())],
  ];
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The last bytes of a file, from a whole line on; null if there is none. Throws IO. */
async function endOf(file: string, limit: number): Promise<string | null> {
  try {
    const handle = await open(file, 'r');
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(Math.min(size, limit));
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, size - bytes.length);
      const text = bytes.toString('utf8', 0, bytesRead);
      return size > limit ? text.slice(text.indexOf('\n') + 1) : text;
    } finally {
      await handle.close();
    }
  } catch (error) {
    const failure = fromErrno(error, `cannot read ${file}`);
    if (failure.code === 'NOT_FOUND') return null;
    throw failure;
  }
}

function cleaned(name: string, text: string, secrets: readonly ReadableSecret[]): string {
  const clean = withoutSecrets(text, secrets);
  const whose = secretIn(clean, secrets);
  if (whose !== undefined) throw new PhdError('IO', `no bundle is written: ${name} would tell the ${whose}`);
  return clean;
}

async function writeTar(file: string, entries: readonly [string, string][], now: Date): Promise<void> {
  const part = `${file}.part`;
  try {
    await rm(part, { force: true });
    const pack = tar.pack();
    const output = createWriteStream(part, { flags: 'wx', mode: 0o600, flush: true });
    const written = pipeline(pack, createGzip(), output);
    for (const [name, text] of entries)
      pack.entry({ name: `phd-support/${name}`, mtime: now, mode: 0o600 }, text);
    pack.finalize();
    await written;
    await finished(output, { error: true });
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true });
    throw fromErrno(error, `cannot write ${file}`);
  }
}

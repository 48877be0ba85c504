/** What every operation works with: places, configuration, clock, targets, secrets, databases. */
import { hostname } from 'node:os';
import path from 'node:path';
import { IndexDb } from '../../db/index-db.ts';
import { JobsDb } from '../../db/jobs-db.ts';
import { type Clock, systemClock } from '../clock.ts';
import { loadConfig } from '../config/load-config.ts';
import { namedHost } from '../config/named-host.ts';
import { namedTarget } from '../config/named-target.ts';
import { choosePlaces, preparePlaces } from '../config/places.ts';
import { readPassphrases, readPrivateKey, readSecret } from '../config/secrets.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Host } from '../hosts/host.ts';
import type { HostAccess } from '../hosts/open-host.ts';
import type { Config, HostConfig, Places, TargetConfig } from '../model/config.ts';
import type { HostKeyQuestion } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import { openLog } from './log-file.ts';
import { openScratch } from './scratch.ts';

export type { HostKeyQuestion } from '../storage/open-storage.ts';

export interface Passphrases {
  system: string | null;
  master: string | null;
  /** Tried in this order after the two above. */
  former: string[];
}

export interface EngineContext {
  places: Places;
  config: Config;
  clock: Clock;
  hostName: string;
  /** Opened once and kept; closed with the context. USAGE if no target has this number. */
  storage(targetNumber: number): Promise<Storage>;
  /** The same with targets of their own, which are no faster than this, whatever they may; closed with this one. */
  limited(bandwidthLimitBytesPerSecond: number): EngineContext;
  /** Opened once and kept; closed with the context. USAGE if phd.yaml names no host so. */
  host(name: string): Promise<Host>;
  /** The secrets of a host, read when asked for. */
  hostAccess(host: HostConfig): HostAccess;
  /** Appends one line to the program's log. */
  log(text: string): void;
  /** Read when first asked for; CONFIG_INVALID if a source that is named gives nothing. */
  passphrases(): Promise<Passphrases>;
  index: IndexDb;
  jobs: JobsDb;
  /** Closes targets and databases; safe to repeat. */
  close(): Promise<void>;
}

export interface ContextOptions {
  /** Environment to read (PHD_HOME, HOME, secrets); default: that of the process. */
  env?: NodeJS.ProcessEnv;
  clock?: Clock;
  /** Called with things a person should know: an index made anew, a file open to others. */
  onNotice?: (message: string) => void;
  /** Of each target, where its own limit is not smaller; null: no other than its own. */
  bandwidthLimitBytesPerSecond?: number | null;
  /** Asked once for a host whose key is unknown; default: refuse. */
  askHostKey?: (question: HostKeyQuestion) => Promise<boolean>;
}

/** What a target is called in the index; a target that moved is another one. */
export function placeOf(target: TargetConfig): string {
  return target.host === null ? target.path : `${target.host}:${target.port ?? ''}${target.path}`;
}

/** Chooses and prepares the places, reads phd.yaml, opens the databases. Throws CONFIG_INVALID, IO. */
export async function openContext(options: ContextOptions = {}): Promise<EngineContext> {
  const env = options.env ?? process.env;
  const places = choosePlaces(env, process.getuid?.() === 0);
  await preparePlaces(places);
  const config = await loadConfig(places, options.onNotice);
  const { jobs, index } = openDatabases(places, options.onNotice);
  index.syncTargets(config.targets.map((target) => ({ ...target, place: placeOf(target) })));
  const clock = options.clock ?? systemClock;
  const log = openLog(places, clock, options.onNotice ?? (() => undefined));
  const askHostKey = oneAfterTheOther(options.askHostKey ?? (async () => false));
  const opened = new Map<string, Promise<Storage | Host>>();
  let passphrases: Promise<Passphrases> | undefined;
  let closed = false;

  async function openTarget(targetNumber: number, limit: number | null): Promise<Storage> {
    const target = namedTarget(config, targetNumber);
    const { password, privateKeyFile, privateKeyPassphrase } = target;
    const whose = `target ${target.number} (${target.name})`;
    const { openStorage } = await import('../storage/open-storage.ts');
    const bandwidthLimitBytesPerSecond = smallest([target.bandwidthLimitBytesPerSecond, limit]);
    return openStorage(
      { ...target, bandwidthLimitBytesPerSecond },
      {
        password: async () => password && readSecret(password, `password of ${whose}`, env),
        privateKey: async () =>
          privateKeyFile &&
          (await readPrivateKey(privateKeyFile, `private key of ${whose}`)).toString('utf8'),
        privateKeyPassphrase: async () =>
          privateKeyPassphrase &&
          readSecret(privateKeyPassphrase, `passphrase of the private key of ${whose}`, env),
        privateKeyName: `private key ${privateKeyFile} of ${whose}`,
        askHostKey,
        log: (text) => log(`${whose}: ${text}`),
      },
    );
  }

  const accessOf = (host: HostConfig): HostAccess =>
    hostAccess(host, env, {
      askHostKey,
      log: (text) => log(`host ${host.name}: ${text}`),
      home: places.stateDir,
      scratch: () => openScratch(places.stateDir),
    });

  const storageWithin =
    (limit: number | null) =>
    (targetNumber: number): Promise<Storage> =>
      openedOnce(opened, `target ${targetNumber} ${limit}`, () => openTarget(targetNumber, limit));

  const context: EngineContext = {
    places,
    config,
    clock,
    log,
    hostName: hostname(),
    storage: storageWithin(options.bandwidthLimitBytesPerSecond ?? null),
    limited: (limit) => ({ ...context, storage: storageWithin(limit) }),
    host: (name) =>
      openedOnce(opened, `host ${name}`, async () => {
        const { openHost } = await import('../hosts/open-host.ts');
        const host = namedHost(config, name);
        return await openHost(host, accessOf(host));
      }),
    hostAccess: accessOf,
    passphrases() {
      passphrases ??= readPassphrases(config.encryption, env);
      return passphrases;
    },
    index,
    jobs,
    async close() {
      if (closed) return;
      closed = true;
      const all = await Promise.allSettled(opened.values());
      await Promise.allSettled(
        all.map((one) => (one.status === 'fulfilled' ? one.value.close() : undefined)),
      );
      index.close();
      jobs.close();
    },
  };
  return context;
}

function openDatabases(
  { stateDir }: Places,
  onNotice: ContextOptions['onNotice'],
): { jobs: JobsDb; index: IndexDb } {
  let jobs: JobsDb | undefined;
  try {
    jobs = new JobsDb(path.join(stateDir, 'jobs.db'));
    return { jobs, index: IndexDb.open(path.join(stateDir, 'index.db'), onNotice) };
  } catch (error) {
    jobs?.close();
    const failure = fromErrno(error, stateDir);
    if (failure.code !== 'NO_SPACE') throw failure;
    // On a bad day a restore must not wait for room there.
    const words = `${failure.message}: make room there, or restore without it: PHD_HOME=/other/folder phd restore /path/of/ARCHIVE --to FOLDER`;
    throw new PhdError('NO_SPACE', words, { cause: failure });
  }
}

/** Hosts are opened at once, and one answer must not be taken for two questions. */
function oneAfterTheOther<Question, Answer>(
  ask: (question: Question) => Promise<Answer>,
): (question: Question) => Promise<Answer> {
  let before: Promise<unknown> = Promise.resolve();
  return (question) => {
    const answer = before.then(() => ask(question));
    before = answer.catch(() => undefined);
    return answer;
  };
}

function smallest(numbers: readonly (number | null)[]): number | null {
  const given = numbers.filter((one) => one !== null);
  return given.length === 0 ? null : Math.min(...given);
}

/** What is opened under this key; what fails to open is tried again by whoever asks next. */
function openedOnce<Opened extends Storage | Host>(
  opened: Map<string, Promise<Storage | Host>>,
  key: string,
  open: () => Promise<Opened>,
): Promise<Opened> {
  let found = opened.get(key) as Promise<Opened> | undefined;
  if (found === undefined) {
    found = open();
    opened.set(key, found);
    found.catch(() => opened.delete(key));
  }
  return found;
}

function hostAccess(
  host: HostConfig,
  env: NodeJS.ProcessEnv,
  hooks: Pick<HostAccess, 'askHostKey' | 'log' | 'home' | 'scratch'>,
): HostAccess {
  const { name, password, privateKeyFile, privateKeyPassphrase } = host;
  return {
    ...hooks,
    password: async () => password && readSecret(password, `password of host ${name}`, env),
    privateKey: async () =>
      privateKeyFile &&
      (await readPrivateKey(privateKeyFile, `private key of host ${name}`)).toString('utf8'),
    privateKeyPassphrase: async () =>
      privateKeyPassphrase &&
      readSecret(privateKeyPassphrase, `passphrase of the private key of host ${name}`, env),
  };
}

/** What every operation works with: places, configuration, clock, targets, secrets, databases. */
import { hostname } from 'node:os';
import path from 'node:path';
import { IndexDb } from '../../db/index-db.ts';
import { JobsDb } from '../../db/jobs-db.ts';
import { type Clock, systemClock } from '../clock.ts';
import { loadConfig } from '../config/load-config.ts';
import { namedTarget } from '../config/named-target.ts';
import { choosePlaces, preparePlaces } from '../config/places.ts';
import { readPassphrases, readPrivateKey, readSecret } from '../config/secrets.ts';
import type { Config, Places, TargetConfig } from '../model/config.ts';
import type { HostKeyQuestion } from '../storage/open-storage.ts';
import type { Storage } from '../storage/storage.ts';
import { appendLog } from './log-file.ts';

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
  const jobs = new JobsDb(path.join(places.stateDir, 'jobs.db'));
  let index: IndexDb;
  try {
    index = IndexDb.open(path.join(places.stateDir, 'index.db'), options.onNotice);
  } catch (error) {
    jobs.close();
    throw error;
  }
  index.syncTargets(config.targets.map((target) => ({ ...target, place: placeOf(target) })));
  const clock = options.clock ?? systemClock;
  const log = (text: string): void => appendLog(places, clock, text);
  const opened = new Map<number, Promise<Storage>>();
  let passphrases: Promise<Passphrases> | undefined;
  let closed = false;

  async function openTarget(targetNumber: number): Promise<Storage> {
    const target = namedTarget(config, targetNumber);
    const { password, privateKeyFile, privateKeyPassphrase } = target;
    const whose = `target ${target.number} (${target.name})`;
    const { openStorage } = await import('../storage/open-storage.ts');
    return openStorage(target, {
      password: async () => password && readSecret(password, `password of ${whose}`, env),
      privateKey: async () =>
        privateKeyFile && (await readPrivateKey(privateKeyFile, `private key of ${whose}`)).toString('utf8'),
      privateKeyPassphrase: async () =>
        privateKeyPassphrase &&
        readSecret(privateKeyPassphrase, `passphrase of the private key of ${whose}`, env),
      privateKeyName: `private key ${privateKeyFile} of ${whose}`,
      askHostKey: options.askHostKey ?? (async () => false),
      log: (text) => log(`${whose}: ${text}`),
    });
  }

  return {
    places,
    config,
    clock,
    log,
    hostName: hostname(),
    storage(targetNumber) {
      let storage = opened.get(targetNumber);
      if (storage === undefined) {
        storage = openTarget(targetNumber);
        opened.set(targetNumber, storage);
        storage.catch(() => opened.delete(targetNumber));
      }
      return storage;
    },
    passphrases() {
      passphrases ??= readPassphrases(config.encryption, env);
      return passphrases;
    },
    index,
    jobs,
    async close() {
      if (closed) return;
      closed = true;
      const storages = await Promise.allSettled(opened.values());
      await Promise.allSettled(
        storages.map((one) => (one.status === 'fulfilled' ? one.value.close() : undefined)),
      );
      index.close();
      jobs.close();
    },
  };
}

/** Changes to the configuration, as the command line and the console make them: targets, keys, passphrases. */
import { existsSync } from 'node:fs';
import { link, stat } from 'node:fs/promises';
import path from 'node:path';
import { parseDocument, YAMLMap, YAMLSeq } from 'yaml';
import {
  editConfig,
  getConfigValue,
  parseKey,
  removeConfigValue,
  setConfigValue,
  writeClosedFile,
} from '../config/edit-config.ts';
import {
  configFileOf,
  loadConfig,
  parseConfig,
  readConfigText,
  unknownKeyWarnings,
} from '../config/load-config.ts';
import { noSuchTarget } from '../config/named-target.ts';
import { choosePlaces, preparePlaces } from '../config/places.ts';
import { readPrivateKey, readSecret } from '../config/secrets.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type {
  Config,
  ConsoleSettings,
  JobSettings,
  Places,
  ReplicationSettings,
  SecretSource,
  VerifyPlanSettings,
} from '../model/config.ts';

export type PassphraseKind = 'system' | 'master';

/** Settings of a target or host as they stand in phd.yaml; null removes one. */
export type SettingsChange = Record<string, string | number | boolean | string[] | null>;

/** Chooses and makes the folders of the program. */
export async function openPlaces(env: NodeJS.ProcessEnv): Promise<Places> {
  const places = choosePlaces(env, process.getuid?.() === 0);
  await preparePlaces(places);
  return places;
}

export { writeClosedFile } from '../config/edit-config.ts';
export { configFileOf } from '../config/load-config.ts';

/** A text that is another once phd.yaml was written, replaced or removed. */
export async function configMark(env: NodeJS.ProcessEnv): Promise<string> {
  const file = configFileOf(choosePlaces(env, process.getuid?.() === 0));
  return await stat(file).then(
    ({ ino, mtimeMs, size }) => `${ino} ${mtimeMs} ${size}`,
    (error: NodeJS.ErrnoException) => String(error.code),
  );
}

/** The whole configuration, for who needs no context. Throws CONFIG_INVALID. */
export async function readConfig(places: Places): Promise<Config> {
  return await loadConfig(places);
}

/** What the queue goes by. Throws CONFIG_INVALID. */
export async function readJobSettings(places: Places): Promise<JobSettings> {
  return (await loadConfig(places)).jobs;
}

/** Whether and how often disks are replicated. Throws CONFIG_INVALID. */
export async function readReplicationSettings(places: Places): Promise<ReplicationSettings> {
  return (await loadConfig(places)).replication;
}

/** Whether, how often and when archives are verified again. Throws CONFIG_INVALID. */
export async function readVerifyPlanSettings(places: Places): Promise<VerifyPlanSettings> {
  return (await loadConfig(places)).verifyPlan;
}

/** How the console is to appear; undefined if the file says nothing of it, which costs no parsing. Throws CONFIG_INVALID. */
export async function readConsoleSettings(places: Places): Promise<ConsoleSettings | undefined> {
  if (!/^console\s*:/m.test(await readConfigText(configFileOf(places)))) return undefined;
  return (await loadConfig(places)).console;
}

/** What is allowed and most often not meant: folders that are not there, two targets of one name. A line each. */
export function configDoubts({ file, datastores, targets, backupJobs, hosts }: Config): string[] {
  const isHost = (name: string): boolean => hosts.some((host) => host.name === name);
  const folders: [string, string][] = [
    ...datastores.map((folder): [string, string] => ['datastores', folder]),
    ...targets.flatMap(({ number, transport, path: folder }): [string, string][] =>
      transport === 'vmfs' ? [[`target ${number}`, folder]] : [],
    ),
    ...backupJobs.flatMap(({ name, from }) =>
      (from ?? []).flatMap((source): [string, string][] => (isHost(source) ? [] : [[`job ${name}`, source]])),
    ),
  ];
  const twins = targets.filter(({ name }, at) => targets.findIndex((one) => one.name === name) !== at);
  return [
    ...folders.flatMap(([whose, folder]) =>
      existsSync(folder) ? [] : [`${file}: ${whose}: there is no folder ${folder} now`],
    ),
    ...twins.map(({ number, name }) => `${file}: target ${number}: another target is named ${name} too`),
  ];
}

/** Keys of phd.yaml that are not known, one line each with the one that may be meant. Throws CONFIG_INVALID. */
export async function unknownConfigKeys(places: Places): Promise<string[]> {
  const file = configFileOf(places);
  const { slips, others } = unknownKeyWarnings(await readConfigText(file), file);
  return [...slips, ...others];
}

/**
 * All faults of phd.yaml, one line each, secrets that cannot be read included; never a secret itself. A file that is
 * not there is a fault: nothing can be backed up with defaults alone.
 */
export async function checkConfig(places: Places, env: NodeJS.ProcessEnv): Promise<string[]> {
  const file = configFileOf(places);
  const isThere = await stat(file).then(
    () => true,
    (error) => (error as NodeJS.ErrnoException).code !== 'ENOENT',
  );
  if (!isThere) return [`there is no ${file}: phd target add makes it, README shows the least form`];
  const { config, faults } = parseConfig(await readConfigText(file), file);
  if (config === undefined) return faults;
  const checks = secretChecks(config, env);
  const results = await Promise.allSettled(checks.map((check) => check()));
  return results.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Error).message] : []));
}

/** Value of a key (`index.maxAgeMinutes`), its default included. Throws NOT_FOUND, USAGE. */
export function getSetting(places: Places, key: string): Promise<unknown> {
  return getConfigValue(configFileOf(places), parseKey(key));
}

/** Sets a key to a value written as YAML; null removes it. Throws USAGE, CONFIG_INVALID. */
export async function setSetting(places: Places, key: string, yamlText: string | null): Promise<void> {
  const file = configFileOf(places);
  if (yamlText === null) await removeConfigValue(file, parseKey(key));
  else await setConfigValue(file, parseKey(key), yamlText);
}

/** Adds a target. Throws EXISTS if its number is taken, CONFIG_INVALID. */
export async function addTarget(places: Places, target: SettingsChange & { number: number }): Promise<void> {
  await editConfig(configFileOf(places), (document) => {
    const node = document.get('targets');
    if (targetNode(node, target.number) !== undefined) {
      throw new PhdError('EXISTS', `target ${target.number} is there already: use phd target edit`);
    }
    const settings = Object.fromEntries(Object.entries(target).filter(([, value]) => value !== null));
    if (node instanceof YAMLSeq) node.add(document.createNode(settings));
    else document.set('targets', document.createNode([settings]));
  });
}

/** Comments that a new configuration begins with; what is left out has its default. */
const FIRST_TEXT = `# Configuration of phd. What is left out has its default: phd config get KEY tells it.
# Paths are relative to this file. Secrets stand in files of their own, of mode 0600.

# Where archives are kept. Transport: vmfs (any folder of this host), ftp or ssh.
targets:

# Folders in which virtual disks live.
datastores: []
`;
const LAST_TEXT = `
# backup:
#   target: 1            where backups go
#   codec: gzip          gzip, zstd or lzop
#   encrypt: false       needs the passphrases
# index:
#   maxAgeMinutes: 15    older lists are made anew when a restore begins
# jobs:
#   atOnce: 1            jobs that the daemon runs at the same time, 4 at most
`;

/**
 * Makes phd.yaml with its first target and comments; where the file is there already, the target is added to it.
 * Throws EXISTS if the number is taken, CONFIG_INVALID.
 */
export async function beginConfiguration(
  places: Places,
  target: SettingsChange & { number: number },
): Promise<string> {
  const file = configFileOf(places);
  if ((await readConfigText(file)) !== '') {
    await addTarget(places, target);
    return file;
  }
  const document = parseDocument(FIRST_TEXT);
  const settings = Object.fromEntries(Object.entries(target).filter(([, value]) => value !== null));
  document.set('targets', document.createNode([settings]));
  const text = document.toString({ lineWidth: 0 }) + LAST_TEXT;
  const [fault] = parseConfig(text, file).faults;
  if (fault !== undefined) throw new PhdError('CONFIG_INVALID', `not written: ${fault}`);
  await writeClosedFile(file, text);
  return file;
}

/** Keeps a secret of a target or host in a file of its own (0600); returns its name as phd.yaml gives it. Throws IO. */
export async function keepSecret(places: Places, file: string, secret: string): Promise<string> {
  const name = path.join('secrets', file);
  await makeFolder(path.join(places.configDir, 'secrets'));
  await writeClosedFile(path.join(places.configDir, name), `${secret}\n`);
  return name;
}

/** Changes settings of a target. Throws USAGE (no such target), CONFIG_INVALID. */
export async function editTarget(places: Places, number: number, change: SettingsChange): Promise<void> {
  const file = configFileOf(places);
  await editConfig(file, (document) => {
    const node =
      targetNode(document.get('targets'), number) ?? noTarget(document.get('targets'), number, file);
    for (const [key, value] of Object.entries(change)) {
      if (value === null) node.delete(key);
      else node.set(key, value);
    }
  });
}

/** Takes a target out of the configuration; what lies on it stays. What still names it, in words. Throws USAGE (no such target). */
export async function removeTarget(places: Places, number: number): Promise<string[]> {
  const file = configFileOf(places);
  const { config } = parseConfig(await readConfigText(file), file);
  const jobs = config?.backupJobs.filter(({ targets }) => targets?.includes(number)) ?? [];
  await editConfig(file, (document) => {
    const targets = document.get('targets');
    const node = targetNode(targets, number) ?? noTarget(targets, number, file);
    if (targets instanceof YAMLSeq) targets.delete(targets.items.indexOf(node));
  });
  return [
    ...jobs.map(({ name }) => `backup job ${name}`),
    ...(config?.backup.target === number ? ['backup.target'] : []),
  ];
}

/**
 * Keeps a new passphrase in its file (0600), which the configuration names from then on; the one before becomes a
 * former passphrase, so that older archives stay readable. Throws PASSPHRASE_MISSING if it is empty, CONFIG_INVALID
 * if the passphrase comes from a variable or a command (then it is changed there).
 */
export async function setPassphrase(
  places: Places,
  kind: PassphraseKind,
  passphrase: string,
): Promise<string> {
  if (passphrase === '') throw new PhdError('PASSPHRASE_MISSING', 'an empty passphrase is refused');
  if (/[\r\n]/.test(passphrase)) throw new PhdError('USAGE', 'a passphrase cannot hold a line break');
  const config = await loadConfig(places);
  const source = config.encryption[kind];
  if (source !== null && source.kind !== 'file') {
    throw new PhdError(
      'CONFIG_INVALID',
      `the ${kind} passphrase comes from a ${source.kind}: change it there`,
    );
  }
  const file = source?.path ?? path.join(places.configDir, 'secrets', kind);
  await makeFolder(path.dirname(file));
  const former = await keepFormer(file);
  if (former !== null) {
    await editConfig(configFileOf(places), (document) => {
      const name = path.relative(places.configDir, former);
      const list = document.getIn(['encryption', 'formerPassphraseFiles']);
      if (list instanceof YAMLSeq) list.add(document.createNode(name));
      else document.setIn(['encryption', 'formerPassphraseFiles'], document.createNode([name]));
    });
  }
  await writeClosedFile(file, `${passphrase}\n`);
  if (source === null) {
    const name = path.relative(places.configDir, file);
    await editConfig(configFileOf(places), (document) => {
      document.setIn(['encryption', `${kind}PassphraseFile`], name);
    });
  }
  return file;
}

/** Where it is kept. Throws PASSPHRASE_MISSING, CONFIG_INVALID. */
export async function requirePassphrase(places: Places, kind: PassphraseKind): Promise<SecretSource> {
  const source = (await loadConfig(places)).encryption[kind];
  if (source !== null) return source;
  const words = kind === 'system' ? 'set' : `set ${kind}`;
  throw new PhdError('PASSPHRASE_MISSING', `there is no ${kind} passphrase: run phd passphrase ${words}`);
}

/** Throws PASSPHRASE_WRONG if this is not the passphrase in use, PASSPHRASE_MISSING if there is none. */
export async function testPassphrase(
  places: Places,
  env: NodeJS.ProcessEnv,
  kind: PassphraseKind,
  passphrase: string,
): Promise<void> {
  const source = await requirePassphrase(places, kind);
  if ((await readSecret(source, `${kind} passphrase`, env)) !== passphrase) {
    throw new PhdError('PASSPHRASE_WRONG', `this is not the ${kind} passphrase in use`);
  }
}

function secretChecks(config: Config, env: NodeJS.ProcessEnv): (() => Promise<unknown>)[] {
  const check = (source: SecretSource | null, what: string) =>
    source === null ? [] : [() => readSecret(source, what, env)];
  return [
    ...config.targets.flatMap((target) => [
      ...check(target.password, `password of target ${target.number} (${target.name})`),
      ...(target.privateKeyFile === null
        ? []
        : [
            () =>
              readPrivateKey(
                target.privateKeyFile ?? '',
                `private key of target ${target.number} (${target.name})`,
              ),
          ]),
      ...check(
        target.privateKeyPassphrase,
        `passphrase of the private key of target ${target.number} (${target.name})`,
      ),
    ]),
    ...config.hosts.flatMap(({ name, password, privateKeyFile, privateKeyPassphrase }) => [
      ...check(password, `password of host ${name}`),
      ...(privateKeyFile === null
        ? []
        : [() => readPrivateKey(privateKeyFile, `private key of host ${name}`)]),
      ...check(privateKeyPassphrase, `passphrase of the private key of host ${name}`),
    ]),
    ...check(config.reports.pingUrl, 'address of the health ping'),
    ...check(config.reports.mail?.password ?? null, 'password of the mail server'),
    ...check(config.encryption.system, 'system passphrase'),
    ...check(config.encryption.master, 'master passphrase'),
    ...config.encryption.former.flatMap((source, at) => check(source, `former passphrase ${at + 1}`)),
  ];
}

/** Gives the file a second name, the first free one with a number; null if there is no such file. */
async function keepFormer(file: string): Promise<string | null> {
  for (let number = 1; ; number++) {
    try {
      await link(file, `${file}.${number}`);
      return `${file}.${number}`;
    } catch (error) {
      const failure = fromErrno(error, `cannot keep the former passphrase ${file}`);
      if (failure.code === 'NOT_FOUND') return null;
      if (failure.code !== 'EXISTS') throw failure;
    }
  }
}

function targetNode(targets: unknown, number: number): YAMLMap | undefined {
  if (!(targets instanceof YAMLSeq)) return undefined;
  return targets.items.find(
    (item): item is YAMLMap => item instanceof YAMLMap && item.get('number') === number,
  );
}

/** Throws USAGE with the targets that stand in the file. */
function noTarget(targets: unknown, number: number, file: string): never {
  const nodes = targets instanceof YAMLSeq ? targets.items.filter((item) => item instanceof YAMLMap) : [];
  const known = nodes.map((node) => ({ number: Number(node.get('number')), name: String(node.get('name')) }));
  throw noSuchTarget(file, known, number);
}

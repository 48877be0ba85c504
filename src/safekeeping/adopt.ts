/**
 * A new host takes over the configuration that another one left on a target. What lies there is hostile data: only keys
 * that are known and can do no harm are taken (config/portable-config.ts), and a person sees them before.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { parseDocument } from 'yaml';
import { MAX_CONFIG_BYTES, parseConfig, readConfigText } from '../config/load-config.ts';
import { type PortableConfig, portableConfig, printConfig } from '../config/portable-config.ts';
import { describeSource } from '../config/secrets.ts';
import { writeClosedFile } from '../engine/configuration.ts';
import { type EngineContext, placeOf } from '../engine/context.ts';
import { formatCount } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { Config, SecretSource, TargetConfig } from '../model/config.ts';
import { parseVmdksAuto } from '../replication/vmdks-auto.ts';
import { FIRST_TEXT, vmdksFile } from '../replication/vmdks-file.ts';
import { type Copy, type FoundCopy, listCopies, readCopy } from './copy-place.ts';

type Settings = Record<string, unknown>;

/** How a target is reached and logged in to: what this host knows itself comes before what the copy says. */
const ACCESS_KEYS = [
  'transport',
  'path',
  'host',
  'port',
  'user',
  'passwordFile',
  'passwordEnv',
  'passwordCommand',
  'privateKeyFile',
  'privateKeyPassphraseFile',
  'privateKeyPassphraseEnv',
  'privateKeyPassphraseCommand',
  'knownHostsFile',
  'tls',
  'tlsPin',
];

export interface Adoption {
  hostName: string;
  /** phd.yaml as it will be. */
  configText: string;
  config: Config;
  /** vmdks.auto as it will be; null: there is none, or this host has one of its own. */
  vmdksText: string | null;
  /** What a person should see before, a line each. */
  summary: string[];
  /** What is still to be done afterwards, a line each. */
  missing: string[];
}

/** Copies on a target, by host. Throws TARGET_*, USAGE (no such target). */
export async function copiesOn(context: EngineContext, targetNumber: number): Promise<FoundCopy[]> {
  return await listCopies(await context.storage(targetNumber));
}

/**
 * Reads a copy and works out what it would make of this host's configuration; changes nothing. Throws ARCHIVE_DAMAGED,
 * CONFIG_INVALID, NOT_FOUND, TARGET_*.
 */
export async function planAdoption(
  context: EngineContext,
  targetNumber: number,
  found: FoundCopy,
): Promise<Adoption> {
  const copy = await readCopy(await context.storage(targetNumber), found);
  const theirs = portableConfig(copy.configText, `copy of ${copy.hostName}`);
  const own = (parseDocument(await readConfigText(context.config.file)).toJS() ?? {}) as Settings;
  const merged = merge(own, theirs, context.config);
  const head = `# Taken over from ${copy.hostName} (copy ${copy.time} on target ${targetNumber}); phd.yaml.before is what was here.\n`;
  const configText = head + printConfig(merged);
  const refuse = (why: string): never => {
    throw new PhdError('CONFIG_INVALID', `the copy of ${copy.hostName} cannot be taken over: ${why}`);
  };
  if (Buffer.byteLength(configText) > MAX_CONFIG_BYTES) refuse(`it is over ${MAX_CONFIG_BYTES} bytes`);
  const { config, faults } = parseConfig(configText, context.config.file);
  if (config === undefined) return refuse(faults[0] ?? 'it is no configuration');
  const betrayed = betrayedPassphrase(config);
  if (betrayed !== undefined) refuse(betrayed);
  const vmdksText = await vmdksToWrite(context, copy);
  return {
    hostName: copy.hostName,
    configText,
    config,
    vmdksText,
    summary: summaryOf(config, copy, vmdksText, await strangeFiles(config, context.config)),
    missing: await missingOf(config),
  };
}

/** Writes it; the file that was there stays as `phd.yaml.before`, or `.before-2` and so on. Throws IO, NO_SPACE. */
export async function adopt(context: EngineContext, adoption: Adoption): Promise<void> {
  const { file } = context.config;
  const before = await readConfigText(file);
  if (before !== '') await writeClosedFile(await freeName(`${file}.before`), before);
  await writeClosedFile(file, adoption.configText);
  if (adoption.vmdksText !== null) await writeClosedFile(vmdksFile(context.places), adoption.vmdksText);
}

/** What was kept at an earlier adoption stays. */
async function freeName(wanted: string): Promise<string> {
  let name = wanted;
  for (let number = 2; (await readConfigText(name)) !== ''; number++) name = `${wanted}-${number}`;
  return name;
}

function merge(own: Settings, theirs: PortableConfig, config: Config): PortableConfig {
  const encryption = Object.keys((own.encryption as Settings | undefined) ?? {}).length > 0;
  return {
    ...theirs,
    targets: mergeTargets(
      (own.targets as Settings[] | undefined) ?? [],
      (theirs.targets as Settings[] | undefined) ?? [],
      config.targets,
    ),
    datastores: [...new Set([...listOf(own.datastores), ...listOf(theirs.datastores)])],
    ...(encryption ? { encryption: own.encryption } : {}),
    ...(own.console ? { console: own.console } : {}),
    // Nothing is overwritten or removed from a new host before a person has looked: the old one may still be at work.
    ...(theirs.backupJobs === undefined
      ? {}
      : { backupJobs: (theirs.backupJobs as Settings[]).map((job) => ({ ...job, enabled: false })) }),
    replication: { ...(theirs.replication as Settings | undefined), enabled: false },
  };
}

/** Targets of the copy; one that is the same place as a target here is reached as here; others of this host stay. */
function mergeTargets(
  own: readonly Settings[],
  theirs: readonly Settings[],
  ownConfigs: readonly TargetConfig[],
): Settings[] {
  const taken = new Set(theirs.map(({ number }) => number));
  const left = [...own];
  const merged = theirs.map((target) => {
    const at = left.findIndex((one) => isSamePlace(one, target, ownConfigs));
    const [mine] = at < 0 ? [] : left.splice(at, 1);
    if (mine === undefined) return target;
    const rest = Object.fromEntries(Object.entries(target).filter(([key]) => !ACCESS_KEYS.includes(key)));
    const access = Object.entries(mine).filter(([key]) => ACCESS_KEYS.includes(key));
    return { ...rest, ...Object.fromEntries(access) };
  });
  for (const mine of left) {
    let number = Number(mine.number);
    while (taken.has(number)) number++;
    taken.add(number);
    merged.push({ ...mine, number });
  }
  return merged;
}

/** The path of an own local target is compared as it is resolved. */
function isSamePlace(own: Settings, theirs: Settings, ownConfigs: readonly TargetConfig[]): boolean {
  if (own.transport !== theirs.transport) return false;
  const config = ownConfigs.find(({ number }) => number === own.number);
  if (own.transport === 'vmfs') return config?.path === theirs.path || own.path === theirs.path;
  return own.host === theirs.host && own.path === theirs.path && (own.port ?? null) === (theirs.port ?? null);
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** A file of this host's own, unless it is still the explanation alone, is not replaced. */
async function vmdksToWrite({ places }: EngineContext, { vmdksText }: Copy): Promise<string | null> {
  if (vmdksText === null) return null;
  const own = await readConfigText(vmdksFile(places));
  return own === '' || own === FIRST_TEXT ? vmdksText : null;
}

/**
 * A password is sent to its server, a passphrase to nobody. A copy that names the file of a passphrase or a private key as
 * that of a password would have it sent away: says where; undefined: it names none.
 */
function betrayedPassphrase(config: Config): string | undefined {
  const { targets, hosts } = config;
  const { system, master, former } = config.encryption;
  const kept = new Set([
    ...[system, master, ...former].map(fileOf),
    ...[...targets, ...hosts].flatMap((one) => [one.privateKeyFile, fileOf(one.privateKeyPassphrase)]),
  ]);
  for (const { source, whose } of passwordsOf(config)) {
    const file = fileOf(source);
    if (file !== null && kept.has(file))
      return `${whose} would be sent ${file}, which holds a passphrase or a private key`;
  }
  return undefined;
}

interface SentPassword {
  source: SecretSource | null;
  whose: string;
  /** Null: this machine, or where the source itself says. */
  server: string | null;
}

/** What is sent to a server, and whose it is. */
function passwordsOf({ targets, hosts, reports }: Config): SentPassword[] {
  const { mail, pingUrl } = reports;
  return [
    ...targets.map(({ password, number, name, host }) => ({
      source: password,
      whose: `target ${number} (${name})`,
      server: host,
    })),
    ...hosts.map(({ password, name, host }) => ({ source: password, whose: `host ${name}`, server: host })),
    { source: mail?.password ?? null, whose: 'the mail server', server: mail?.host ?? null },
    { source: pingUrl, whose: 'the health ping', server: null },
  ];
}

function fileOf(source: SecretSource | null): string | null {
  return source?.kind === 'file' ? source.path : null;
}

/**
 * Files that are here already and that this host itself sends to no such server: a copy may only guess their names. Each
 * with its server, see `fileAndServer`.
 */
async function strangeFiles(config: Config, own: Config): Promise<Set<string>> {
  const used = new Set(passwordsOf(own).map(fileAndServer));
  const strange = new Set<string>();
  for (const one of passwordsOf(config)) {
    const file = fileOf(one.source);
    if (file !== null && !used.has(fileAndServer(one)) && (await isThere(file)))
      strange.add(fileAndServer(one));
  }
  return strange;
}

function fileAndServer({ source, server }: Pick<SentPassword, 'source' | 'server'>): string {
  return JSON.stringify([fileOf(source), server]);
}

async function isThere(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}

function summaryOf(
  config: Config,
  { vmdksText }: Copy,
  toWrite: string | null,
  strange: ReadonlySet<string>,
): string[] {
  /** Whom a password is sent to is for a person to judge. */
  const passwordText = (source: SecretSource | null, server: string | null): string => {
    if (source === null) return '';
    const isStrange = strange.has(fileAndServer({ source, server }));
    return `, password from ${describeSource(source)}${isStrange ? ', A FILE THAT IS HERE ALREADY' : ''}`;
  };
  const { targets, datastores, hosts, backupJobs, reports } = config;
  const lines = [
    ...targets.map(
      (one) =>
        `target ${one.number} ${one.name}: ${one.transport} ${placeOf(one)}${one.readOnly ? ', read only' : ''}${passwordText(one.password, one.host)}`,
    ),
    ...datastores.map((one) => `datastore ${one}`),
    ...hosts.map(
      ({ name, type, host, password }) =>
        `host ${name}: ${type} ${host ?? 'this machine'}${passwordText(password, host)}`,
    ),
    ...backupJobs.map(({ name }) => `backup job ${name}, which stays off`),
  ];
  const { mail } = reports;
  if (mail !== null)
    lines.push(`mail to ${mail.to.join(', ')} by ${mail.host}${passwordText(mail.password, mail.host)}`);
  lines.push(config.backup.encrypt ? 'backups are encrypted' : 'backups are not encrypted unless asked for');
  if (vmdksText === null) return lines;
  const { restores } = parseVmdksAuto(vmdksText);
  const kept = toWrite === null ? '; not taken, since this host has a vmdks.auto' : '';
  lines.push(`vmdks.auto: ${formatCount(restores.length, 'line')}, replication stays off${kept}`);
  return lines;
}

async function missingOf(config: Config): Promise<string[]> {
  const missing: string[] = [];
  for (const { number, name, transport, password, privateKeyFile } of config.targets) {
    const whose = `target ${number} (${name})`;
    if (transport === 'vmfs') continue;
    if (password === null && privateKeyFile === null)
      missing.push(`${whose} has no password or key: phd target edit ${number}`);
    else if (password?.kind === 'file') await needFile(password.path, `password of ${whose}`, missing);
    if (privateKeyFile !== null) await needFile(privateKeyFile, `private key of ${whose}`, missing);
  }
  for (const { name, host, password, privateKeyFile } of config.hosts) {
    const whose = `host ${name}`;
    if (host !== null && password === null && privateKeyFile === null)
      missing.push(`${whose} has no password or key: phd host edit ${name}`);
    if (password?.kind === 'file') await needFile(password.path, `password of ${whose}`, missing);
    if (privateKeyFile !== null) await needFile(privateKeyFile, `private key of ${whose}`, missing);
  }
  const { system, master } = config.encryption;
  if (system?.kind === 'file') await needFile(system.path, 'system passphrase (phd passphrase set)', missing);
  if (master?.kind === 'file')
    await needFile(master.path, 'master passphrase (phd passphrase set master)', missing);
  if (config.backup.encrypt && system === null) missing.push('the system passphrase: phd passphrase set');
  if (config.backupJobs.length > 0)
    missing.push(
      'backup jobs are off until the old host no longer runs them: phd config set backupJobs[0].enabled true',
    );
  for (const datastore of config.datastores) {
    const isFolder = await stat(datastore).then(
      (one) => one.isDirectory(),
      () => false,
    );
    if (!isFolder) missing.push(`datastore ${datastore} is not there`);
  }
  return missing;
}

async function needFile(file: string, what: string, missing: string[]): Promise<void> {
  if (!(await isThere(file))) missing.push(`the ${what} goes into ${path.normalize(file)} (mode 0600)`);
}

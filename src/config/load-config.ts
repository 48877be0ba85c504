/** Reads and checks phd.yaml. Secrets are only named here; src/config/secrets.ts reads them when they are needed. */
import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Document, isNode, LineCounter, parseDocument } from 'yaml';
import { fromErrno, PhdError } from '../errors.ts';
import type {
  BackupJobConfig,
  Config,
  HostConfig,
  MailSettings,
  Places,
  SecretSource,
  TargetConfig,
  VerifyPlanSettings,
} from '../model/config.ts';
import {
  type BackupJobText,
  type ConfigText,
  configSchema,
  type HostText,
  type TargetText,
} from './schema.ts';
import { unknownKeys } from './unknown-keys.ts';

export const CONFIG_NAME = 'phd.yaml';
/** Where accepted host keys are kept unless an entry names its own file. */
const KNOWN_HOSTS = 'known_hosts';
/** A larger phd.yaml is not read. */
export const MAX_CONFIG_BYTES = 1024 * 1024;

/** Path of the configuration file in these places. */
export function configFileOf(places: Places): string {
  return path.join(places.configDir, CONFIG_NAME);
}

/**
 * The validated configuration; without a file every setting has its default. Throws CONFIG_INVALID with one
 * line that names file, line, key and what was expected (the first fault; `checkConfig` gives all). `onWarning` gets a
 * line for each key that is a slip of a known one.
 */
export async function loadConfig(
  places: Places,
  onWarning: (message: string) => void = () => undefined,
): Promise<Config> {
  const file = configFileOf(places);
  const text = await readConfigText(file);
  const { config, faults } = parseConfig(text, file);
  if (config === undefined) throw new PhdError('CONFIG_INVALID', faults[0] ?? `${file} cannot be used`);
  for (const slip of unknownKeyWarnings(text, file).slips) onWarning(slip);
  return config;
}

/** Text of phd.yaml; empty if there is no such file. */
export async function readConfigText(file: string): Promise<string> {
  try {
    const status = await stat(file);
    // To open a pipe would wait for its writer.
    if (!status.isFile()) throw new PhdError('CONFIG_INVALID', `${file} is not a file`);
    if (status.size > MAX_CONFIG_BYTES) {
      throw new PhdError('CONFIG_INVALID', `${file} is over ${MAX_CONFIG_BYTES} bytes`);
    }
    const bytes = await readFile(file);
    if (!isUtf8(bytes)) throw new PhdError('CONFIG_INVALID', `${file} is not text in UTF-8`);
    return bytes.toString('utf8');
  } catch (error) {
    const failure = fromErrno(error, `cannot read ${file}`);
    if (failure.code === 'NOT_FOUND') return '';
    throw new PhdError('CONFIG_INVALID', failure.message, { cause: error });
  }
}

/** The configuration, or the list of all its faults, each one line `FILE:LINE: KEY: expected ...`. */
export function parseConfig(text: string, file: string): { config?: Config; faults: string[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const faults = document.errors.map((error) => {
      return `${file}:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]}`;
    });
    return { faults };
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (error) {
    return { faults: [`${file}: ${(error as Error).message}`] };
  }
  const parsed = configSchema.safeParse(value);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => {
      const line = lineOf(document, issue.path, lines);
      return `${file}:${line}: ${printKey(issue.path)}: ${expectation(issue.message)}`;
    });
    return { faults };
  }
  const faults: string[] = [];
  const config = configOfText(parsed.data, file, faults, (keys) => lineOf(document, keys, lines));
  return faults.length > 0 ? { faults } : { config, faults };
}

/**
 * One line `FILE:LINE: KEY: ...` for each key that is not known. `slips` are those that lie near a known one: such a
 * setting is meant and not heeded. A newer version, or another program, may have put the rest there.
 */
export function unknownKeyWarnings(text: string, file: string): { slips: string[]; others: string[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const slips: string[] = [];
  const others: string[] = [];
  for (const { line, key, near } of unknownKeys(document.contents, configSchema, lines)) {
    const place = `${file}:${line}: ${key}: this key is not known and does nothing`;
    if (near === null) others.push(place);
    else slips.push(`${place}; did you mean ${near}?`);
  }
  return { slips, others };
}

/** zod's own words made plain: `Invalid input: expected string, received number` -> `expected string, ...`. */
function expectation(message: string): string {
  const plain = message.replace(/^Invalid (input|option): /, '');
  return plain.replace(/^expected (.*), received undefined$/, 'is missing: expected $1');
}

/** `targets[0].number`; `(whole file)` for the root. */
function printKey(keys: readonly PropertyKey[]): string {
  if (keys.length === 0) return '(whole file)';
  return keys
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '');
}

/** Line of the deepest node on the way to `keys` that stands in the text (a missing key: its parent). */
function lineOf(document: Document, keys: readonly PropertyKey[], lines: LineCounter): number {
  for (let depth = keys.length; depth >= 0; depth--) {
    const node = depth === 0 ? document.contents : document.getIn(keys.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

function configOfText(
  text: ConfigText,
  file: string,
  faults: string[],
  lineAt: (keys: readonly PropertyKey[]) => number,
): Config {
  const folder = path.dirname(file);
  const source = (group: Record<string, unknown>, name: string, where: string): SecretSource | null => {
    const given = [`${name}File`, `${name}Env`, `${name}Command`].filter(
      (key) => typeof group[key] === 'string',
    );
    const [key] = given;
    if (key === undefined) return null;
    if (given.length > 1) faults.push(`${file}: ${where}: expected one of ${given.join(', ')}, not several`);
    const value = String(group[key]);
    if (key.endsWith('File')) return { kind: 'file', path: path.resolve(folder, value) };
    if (key.endsWith('Env')) return { kind: 'environment', variable: value };
    return { kind: 'command', command: value };
  };
  const resolved = (value: string | undefined) => (value === undefined ? null : path.resolve(folder, value));

  const targetOf = (one: TargetText, at: number): TargetConfig => ({
    number: one.number,
    name: one.name,
    transport: one.transport,
    path: one.transport === 'vmfs' ? path.resolve(folder, one.path) : one.path,
    host: one.host ?? null,
    port: one.port ?? null,
    user: one.user ?? null,
    password: source(one, 'password', `targets[${at}]`),
    privateKeyFile: resolved(one.privateKeyFile),
    privateKeyPassphrase: source(one, 'privateKeyPassphrase', `targets[${at}]`),
    knownHostsFile: resolved(one.knownHostsFile ?? (one.transport === 'ssh' ? KNOWN_HOSTS : undefined)),
    tls: one.tls,
    tlsPin: one.tlsPin ?? null,
    legacyAlgorithms: one.legacyAlgorithms,
    maxConnections: one.maxConnections ?? null,
    bandwidthLimitBytesPerSecond: one.bandwidthLimitBytesPerSecond ?? null,
    readOnly: one.readOnly,
    timeoutMs: one.timeoutSeconds * 1000,
    readBack: one.readBack,
  });

  const hostOf = (one: HostText, at: number): HostConfig => ({
    name: one.name,
    type: one.type,
    host: one.host ?? null,
    port: one.port ?? null,
    user: one.user ?? null,
    password: source(one, 'password', `hosts[${at}]`),
    privateKeyFile: resolved(one.privateKeyFile),
    privateKeyPassphrase: source(one, 'privateKeyPassphrase', `hosts[${at}]`),
    knownHostsFile: resolved(one.knownHostsFile ?? (one.type === 'xen' ? undefined : KNOWN_HOSTS)),
    tlsPin: one.tlsPin ?? null,
    memberTlsPins: one.memberTlsPins,
    legacyAlgorithms: one.legacyAlgorithms,
    timeoutMs: one.timeoutSeconds * 1000,
    devices: one.devices,
  });

  return {
    file,
    targets: text.targets.map(targetOf).sort((a, b) => a.number - b.number),
    datastores: text.datastores.map((one) => path.resolve(folder, one)),
    encryption: {
      system: source(text.encryption, 'systemPassphrase', 'encryption'),
      master: source(text.encryption, 'masterPassphrase', 'encryption'),
      former: text.encryption.formerPassphraseFiles.map((one) => ({
        kind: 'file',
        path: path.resolve(folder, one),
      })),
    },
    backup: {
      target: text.backup.target ?? null,
      codec: text.backup.codec,
      level: text.backup.level ?? null,
      encrypt: text.backup.encrypt,
      fullAboveChangedPercent: text.backup.fullAboveChangedPercent,
      fullOffline: text.backup.fullOffline,
    },
    hosts: text.hosts.map(hostOf),
    reports: {
      statusLog: resolved(text.reports.statusLog),
      mail: mailOf(text.reports.mail, source, resolved),
      pingUrl: source(text.reports, 'pingUrl', 'reports'),
    },
    backupJobs: text.backupJobs.map((one, at) => ({
      line: lineAt(['backupJobs', at]),
      ...backupJobOf(one, text.hosts, folder),
    })),
    indexMaxAgeMinutes: text.index.maxAgeMinutes,
    jobs: {
      atOnce: text.jobs.atOnce,
      keepDays: text.jobs.keepDays,
      keepCount: text.jobs.keepCount,
      restoreQueue: text.jobs.restoreQueue,
    },
    replication: {
      enabled: text.replication.enabled,
      everyMinutes: text.replication.everyMinutes,
      defaultVolume: resolved(text.replication.defaultVolume),
      assumeOff: text.replication.assumeOff,
      inPlace: text.replication.inPlace,
    },
    verifyPlan: {
      enabled: text.verifyPlan.enabled,
      everyDays: text.verifyPlan.everyDays,
      window: windowOf(text.verifyPlan.window),
      bandwidthLimitBytesPerSecond: text.verifyPlan.bandwidthLimitBytesPerSecond ?? null,
    },
    console: {
      look: text.console.look ?? null,
      charset: text.console.charset ?? null,
      mono: text.console.mono ?? null,
      mouse: text.console.mouse ?? null,
    },
  };
}

function mailOf(
  mail: ConfigText['reports']['mail'],
  source: (values: Record<string, unknown>, key: string, where: string) => SecretSource | null,
  resolved: (file: string | undefined) => string | null,
): MailSettings | null {
  if (mail === undefined) return null;
  const { host, port, tls, caFile, user, from, to, when, retries, timeoutSeconds } = mail;
  return {
    host,
    port: port ?? (tls === 'tls' ? 465 : tls === 'starttls' ? 587 : 25),
    tls,
    caFile: resolved(caFile),
    user: user ?? null,
    password: source(mail, 'password', 'reports.mail'),
    from,
    to,
    when,
    retries,
    timeoutMs: timeoutSeconds * 1000,
  };
}

/** Sources that are no hosts are folders. */
function backupJobOf(
  one: BackupJobText,
  hosts: readonly HostText[],
  folder: string,
): Omit<BackupJobConfig, 'line'> {
  const isHost = (source: string): boolean => hosts.some(({ name }) => name === source);
  const { hooks, keep } = one;
  const keepLast = { daily: 0, weekly: 0, monthly: 0 };
  return {
    name: one.name,
    enabled: one.enabled,
    vms: one.vms,
    exclude: one.exclude,
    from: one.from?.map((source) => (isHost(source) ? source : path.resolve(folder, source))) ?? null,
    disks: one.disks ?? null,
    excludeDisks: one.excludeDisks,
    targets: one.targets ?? null,
    full: one.full ?? null,
    delta: one.delta ?? null,
    codec: one.codec ?? null,
    level: one.level ?? null,
    encrypt: one.encrypt ?? null,
    fullAboveChangedPercent: one.fullAboveChangedPercent ?? null,
    bandwidthLimitBytesPerSecond: one.bandwidthLimitBytesPerSecond ?? null,
    quiesce: one.quiesce,
    hooks: {
      beforeRun: hooks.beforeRun ?? null,
      afterRun: hooks.afterRun ?? null,
      beforeVm: hooks.beforeVm ?? null,
      afterVm: hooks.afterVm ?? null,
      preFreeze: hooks.preFreeze ?? null,
      postThaw: hooks.postThaw ?? null,
      timeoutMs: hooks.timeoutSeconds * 1000,
    },
    atOnce: one.atOnce,
    keep: keep === undefined ? null : typeof keep === 'number' ? { ...keepLast, last: keep } : keep,
    preClean: one.preClean,
  };
}

/** `22:00-06:00` in minutes after midnight. */
function windowOf(text: string | undefined): VerifyPlanSettings['window'] {
  if (text === undefined) return null;
  const [fromHour = 0, fromMinutes = 0, toHour = 0, toMinutes = 0] = (text.match(/\d\d/g) ?? []).map(Number);
  return { fromMinute: fromHour * 60 + fromMinutes, toMinute: toHour * 60 + toMinutes };
}

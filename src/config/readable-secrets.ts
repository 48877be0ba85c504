/** All secrets that can be read just now, to make sure that a text tells none of them. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Config, SecretSource } from '../model/config.ts';
import { readPrivateKey, readSecret } from './secrets.ts';

export interface ReadableSecret {
  /** `password of target 2 (ftp1)` */
  what: string;
  secret: string;
}

/** Secrets that cannot be read are left out: what cannot be read cannot have been written either. */
export async function readableSecrets(config: Config, env: NodeJS.ProcessEnv): Promise<ReadableSecret[]> {
  const wanted: { what: string; read: () => Promise<string> }[] = [];
  const add = (source: SecretSource | null, what: string): void => {
    if (source !== null) wanted.push({ what, read: () => readSecret(source, what, env) });
  };
  const addAccess = (
    one: {
      password: SecretSource | null;
      privateKeyFile: string | null;
      privateKeyPassphrase: SecretSource | null;
    },
    whose: string,
  ): void => {
    add(one.password, `password of ${whose}`);
    add(one.privateKeyPassphrase, `passphrase of the private key of ${whose}`);
    const { privateKeyFile } = one;
    const what = `private key of ${whose}`;
    if (privateKeyFile !== null)
      wanted.push({ what, read: async () => (await readPrivateKey(privateKeyFile, what)).toString('utf8') });
  };
  for (const target of config.targets) addAccess(target, `target ${target.number} (${target.name})`);
  for (const host of config.hosts) addAccess(host, `host ${host.name}`);
  add(config.reports.pingUrl, 'address of the health ping');
  if (config.reports.mail) add(config.reports.mail.password, 'password of the mail server');
  add(config.encryption.system, 'system passphrase');
  add(config.encryption.master, 'master passphrase');
  config.encryption.former.forEach((source, at) => {
    add(source, `former passphrase ${at + 1}`);
  });
  const read = await Promise.allSettled(wanted.map((one) => one.read()));
  return read.flatMap((one, at) =>
    one.status === 'fulfilled' ? [{ what: wanted[at]?.what ?? '', secret: one.value }] : [],
  );
}

/** `passwordFile: secrets/ftp`, also in braces and with quotes. */
const NAMED_FILE =
  /(?:password|passphrase|pingUrl|privateKey)[A-Za-z]*["']?[ \t]*:[ \t]*["']?([^"',}\]\s#][^"',}\]\n#]*)/gi;
const MAX_FILES = 200;

/**
 * Secrets of a phd.yaml that cannot be read as one: files that its lines seem to name, and all in the folder `secrets` beside
 * it. What else it names (commands, variables) stays unknown.
 */
export async function secretsBeside(configFile: string, text: string): Promise<ReadableSecret[]> {
  const folder = path.dirname(configFile);
  const beside = await readdir(path.join(folder, 'secrets')).catch(() => []);
  const named = [...text.matchAll(NAMED_FILE)].map(([, name = '']) => name.trim());
  const files = new Set([...beside.map((name) => `secrets/${name}`), ...named]);
  const read = await Promise.allSettled(
    [...files].slice(0, MAX_FILES).map(async (name): Promise<ReadableSecret> => {
      const what = `secret in ${name}`;
      return { what, secret: (await readPrivateKey(path.resolve(folder, name), what)).toString('utf8') };
    }),
  );
  return read.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** Shorter secrets would be found by chance. */
const MIN_LENGTH = 4;

/** Whose secret stands in the text, whole or as one of its lines; undefined: nobody's. */
export function secretIn(text: string, secrets: readonly ReadableSecret[]): string | undefined {
  return secrets.find(({ secret }) => linesOf(secret).some((line) => text.includes(line)))?.what;
}

/** The text with each line of each secret as `***`. */
export function withoutSecrets(text: string, secrets: readonly ReadableSecret[]): string {
  const lines = secrets.flatMap(({ secret }) => linesOf(secret)).sort((a, b) => b.length - a.length);
  return lines.reduce((clean, line) => clean.replaceAll(line, '***'), text);
}

/** Each as it is, and as it stands in JSON or between quotes in YAML. */
function linesOf(secret: string): string[] {
  return secret
    .split('\n')
    .filter((line) => line.length >= MIN_LENGTH && !line.startsWith('-----'))
    .flatMap((line) => [...new Set([line, JSON.stringify(line).slice(1, -1)])]);
}

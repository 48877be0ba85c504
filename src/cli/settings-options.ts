/** Settings of an entry of phd.yaml as options of the command line; secrets are named by their source. */
import { type Command, Option } from 'commander';
import type { SettingsChange } from '../engine/configuration.ts';
import { PhdError } from '../errors.ts';
import { parseWhole } from './cli.ts';

/** An option: key in phd.yaml, placeholder, meaning, kind of value. */
export interface Setting {
  flag: string;
  key: string;
  value: string;
  help: string;
  kind: 'text' | 'number' | 'switch' | 'list';
}

/** How to log in to a machine, and to know it again. */
export const ACCESS_SETTINGS: readonly Setting[] = [
  {
    flag: 'password-file',
    key: 'passwordFile',
    value: '<file>',
    help: 'password: file of mode 0600,',
    kind: 'text',
  },
  {
    flag: 'password-env',
    key: 'passwordEnv',
    value: '<name>',
    help: 'or environment variable,',
    kind: 'text',
  },
  {
    flag: 'password-command',
    key: 'passwordCommand',
    value: '<command>',
    help: 'or command that prints it',
    kind: 'text',
  },
  {
    flag: 'private-key-file',
    key: 'privateKeyFile',
    value: '<file>',
    help: 'OpenSSH or PEM, mode 0600',
    kind: 'text',
  },
  {
    flag: 'private-key-passphrase-file',
    key: 'privateKeyPassphraseFile',
    value: '<file>',
    help: 'its passphrase: file of mode 0600,',
    kind: 'text',
  },
  {
    flag: 'private-key-passphrase-env',
    key: 'privateKeyPassphraseEnv',
    value: '<name>',
    help: 'or environment variable,',
    kind: 'text',
  },
  {
    flag: 'private-key-passphrase-command',
    key: 'privateKeyPassphraseCommand',
    value: '<command>',
    help: 'or command that prints it',
    kind: 'text',
  },
  {
    flag: 'known-hosts-file',
    key: 'knownHostsFile',
    value: '<file>',
    help: 'OpenSSH form; accepted keys go there (known_hosts)',
    kind: 'text',
  },
  {
    flag: 'tls-pin',
    key: 'tlsPin',
    value: '<sha256>',
    help: 'SHA-256 of the one certificate accepted',
    kind: 'text',
  },
  {
    flag: 'timeout-seconds',
    key: 'timeoutSeconds',
    value: '<n>',
    help: 'silence after which a line counts as dead (30)',
    kind: 'number',
  },
  {
    flag: 'legacy-algorithms',
    key: 'legacyAlgorithms',
    value: '<bool>',
    help: 'weak ciphers of old hosts: true or false (false)',
    kind: 'switch',
  },
];

export function addSettings(command: Command, settings: readonly Setting[]): void {
  for (const { flag, value, help, kind } of settings)
    command.addOption(new Option(`--${flag} ${kind === 'list' ? value.replace('>', '...>') : value}`, help));
}

/** Options (camel case, as the parser gives them) as settings of phd.yaml; an empty value removes one. Throws USAGE. */
export function changeOf(
  settings: readonly Setting[],
  options: Record<string, string | string[]>,
): SettingsChange {
  const change: SettingsChange = {};
  for (const { flag, key, kind } of settings) {
    const text = options[flag.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())];
    if (text === undefined) continue;
    if (typeof text !== 'string') change[key] = text;
    else if (text === '' && key !== 'path') change[key] = null;
    else if (kind === 'number') change[key] = parseWhole(text, `--${flag}`, 0, Number.MAX_SAFE_INTEGER);
    else if (kind === 'switch') change[key] = parseSwitch(text, flag);
    else change[key] = text;
  }
  return change;
}

function parseSwitch(text: string, flag: string): boolean {
  if (text !== 'true' && text !== 'false')
    throw new PhdError('USAGE', `--${flag} ${text}: expected true or false`);
  return text === 'true';
}

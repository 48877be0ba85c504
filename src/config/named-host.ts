/** The host that a name names. */
import { PhdError } from '../errors.ts';
import type { Config, HostConfig } from '../model/config.ts';

/** Throws USAGE, with the names that there are, if there is no such host. */
export function namedHost({ file, hosts }: Pick<Config, 'file' | 'hosts'>, name: string): HostConfig {
  const host = hosts.find((one) => one.name === name);
  if (host !== undefined) return host;
  const known = hosts.map((one) => one.name).join(', ');
  throw new PhdError(
    'USAGE',
    `there is no host ${name} in ${file}; ${known === '' ? 'its list hosts: is empty' : `it has ${known}`}`,
  );
}

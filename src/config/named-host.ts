/** The host that a name names. */
import type { PhdError } from '../errors.ts';
import type { Config, HostConfig } from '../model/config.ts';
import { noSuch } from './no-such.ts';

/** Throws USAGE, with the names that there are, if there is no such host. */
export function namedHost({ file, hosts }: Pick<Config, 'file' | 'hosts'>, name: string): HostConfig {
  const host = hosts.find((one) => one.name === name);
  if (host !== undefined) return host;
  throw noSuchHost(
    file,
    hosts.map((one) => one.name),
    name,
  );
}

export function noSuchHost(file: string, names: readonly string[], name: string): PhdError {
  return noSuch('host', name, file, names, 'phd host add makes one');
}

/** By what this home of the program tells its own things on a host from those of others. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/**
 * Twelve hex digits of this machine and of `home`, the state folder. Nothing is kept for it, so what was left on a host is
 * known again after the state folder was lost.
 */
export function ownerOf(home: string): string {
  const text = `${hostname()}\0${machineId()}\0${home}`;
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

/** Hosts of one name are common (`localhost`); a machine without such an id (machine-id(5)) is told by its name alone. */
function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim();
  } catch {
    return '';
  }
}

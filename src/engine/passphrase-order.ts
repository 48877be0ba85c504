/** Which passphrases an archive is written for, and in which order one is tried that is read. */
import { PhdError } from '../errors.ts';
import type { Passphrases } from './context.ts';

/** The system passphrase stands first, since gpg 2.2 tries only the first packet. */
export function passphrasesToWrite({ system, master }: Passphrases): string[] {
  if (system === null) {
    throw new PhdError(
      'PASSPHRASE_MISSING',
      'no system passphrase is configured: phd passphrase set makes one',
    );
  }
  return master === null ? [system] : [system, master];
}

export function passphrasesToRead({ system, master, former }: Passphrases): string[] {
  return [system, master, ...former].filter((one): one is string => one !== null);
}

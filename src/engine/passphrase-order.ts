/** Which passphrases an archive is written for, and in which order one is tried that is read. */
import { fromErrno, PhdError } from '../errors.ts';
import type { EngineContext, Passphrases } from './context.ts';

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

/**
 * For archives that may be plain: a source that gives nothing (a passphrase file that is lost with its host) is told, and keeps
 * nobody from what needs no passphrase.
 */
export async function passphrasesForReading(
  { passphrases }: Pick<EngineContext, 'passphrases'>,
  isEncrypted: boolean,
  onWarning: (message: string) => void = () => undefined,
): Promise<string[]> {
  try {
    return passphrasesToRead(await passphrases());
  } catch (error) {
    const failure = fromErrno(error, 'cannot read the passphrases');
    if (isEncrypted || failure.code === 'CANCELLED') throw failure;
    onWarning(`${failure.message}: archives that are encrypted cannot be opened`);
    return [];
  }
}

export function passphrasesToRead({ system, master, former }: Passphrases): string[] {
  return [system, master, ...former].filter((one): one is string => one !== null);
}

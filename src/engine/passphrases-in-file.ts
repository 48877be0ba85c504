/** Passphrases that stand as `#USE_SPASS=` and `#USE_MPASS=` in a file of esXpress's form; read only when they are needed. */
import { open } from 'node:fs/promises';
import { fromErrno, PhdError } from '../errors.ts';
import type { EngineContext, Passphrases } from './context.ts';

const LINE = /^[ \t\ufeff]*#(USE_SPASS|USE_MPASS)=([^\r\n]+)\r?$/gim;

/** The same context, with the passphrases of the file before those of the configuration. */
export function withPassphrasesOf(context: EngineContext, file: string): EngineContext {
  return {
    ...context,
    async passphrases(): Promise<Passphrases> {
      const [own, configured] = await Promise.all([readPassphraseLines(file), context.passphrases()]);
      const { system, master, former } = configured;
      const others = [own.system === null ? null : system, own.master === null ? null : master];
      return {
        system: own.system ?? system,
        master: own.master ?? master,
        former: [...others.filter((one): one is string => one !== null), ...former],
      };
    },
  };
}

/** Throws CONFIG_INVALID if the file cannot be read or is open to others. No message holds a passphrase. */
async function readPassphraseLines(file: string): Promise<{ system: string | null; master: string | null }> {
  const found: Record<string, string> = {};
  try {
    const handle = await open(file, 'r');
    try {
      if (((await handle.stat()).mode & 0o077) !== 0)
        throw new PhdError(
          'CONFIG_INVALID',
          `${file} holds passphrases and is open to others: run chmod 600 on it`,
        );
      for (const [, name = '', value = ''] of (await handle.readFile('utf8')).matchAll(LINE))
        found[name.toUpperCase()] = value;
    } finally {
      await handle.close();
    }
  } catch (error) {
    const { message } = fromErrno(error, `cannot read the passphrases in ${file}`);
    throw new PhdError('CONFIG_INVALID', message, { cause: error });
  }
  return { system: found.USE_SPASS ?? null, master: found.USE_MPASS ?? null };
}

/** Passphrases that stand in `vmdks.auto` itself: they never leave this machine. */
import type { ReadableSecret } from '../config/readable-secrets.ts';

/** Wider than what is honoured: with blanks before it, as a comment, without its `#`, in any case of letters. */
const NAMED = /(USE_SPASS|USE_MPASS)[ \t]*=/i;

/** The text; lines that name a passphrase are comments without it. */
export function withoutWords(vmdksText: string): string {
  return vmdksText
    .split('\n')
    .map((line) => {
      const [, name] = NAMED.exec(line) ?? [];
      return name === undefined
        ? line
        : `##${name.toUpperCase()} is not copied${line.endsWith('\r') ? '\r' : ''}`;
    })
    .join('\n');
}

/** The passphrases themselves, to look for them elsewhere. */
export function wordsIn(vmdksText: string): ReadableSecret[] {
  return vmdksText.split('\n').flatMap((line) => {
    const [start, name = ''] = NAMED.exec(line) ?? [];
    if (start === undefined) return [];
    const secret = line.slice(line.indexOf(start) + start.length).replace(/\r$/, '');
    return [{ what: `passphrase after ${name.toUpperCase()} in vmdks.auto`, secret }];
  });
}

/** Words for the shell of another machine. */

/** One word for a POSIX shell, whatever stands in it; as a path, a leading dash cannot make it an option. */
export function shellWord(text: string): string {
  const safe = text.startsWith('-') ? `./${text}` : text;
  return shellQuoted(safe);
}

/** The same, of a word that is no path: it stays as it is. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

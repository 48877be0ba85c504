/** Names as a search sees them: without case and marks, so that `büro` is found by `BURO`. */

/** Compatibility decomposition (UAX 15) without combining marks, in upper case (so that ß is SS, ς is Σ). */
export function fold(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{Mn}+/gu, '')
    .toUpperCase();
}

/** FTS5 query that all names holding `folded` (3 characters or more) match; others may match as well. */
export function trigramQuery(folded: string): string {
  const characters = Array.from(folded);
  const trigrams = new Set<string>();
  for (let at = 0; at + 3 <= characters.length; at++) {
    trigrams.add(
      `"${characters
        .slice(at, at + 3)
        .join('')
        .replaceAll('"', '""')}"`,
    );
  }
  return [...trigrams].join(' AND ');
}

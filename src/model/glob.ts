/** Names with `*` (any text) and `?` (one character), in linear time whatever stands in them. */

export function hasWildcard(pattern: string): boolean {
  return /[*?]/.test(pattern);
}

/** The whole text matches; case counts. */
export function globMatches(pattern: string, text: string): boolean {
  const wanted = [...pattern];
  const given = [...text];
  let [at, star, mark] = [0, -1, 0];
  for (let next = 0; next < given.length; ) {
    if (wanted[at] === '*') {
      star = at++;
      mark = next;
    } else if (at < wanted.length && (wanted[at] === '?' || wanted[at] === given[next])) {
      at++;
      next++;
    } else if (star >= 0) {
      // The last star takes one character more.
      at = star + 1;
      next = ++mark;
    } else return false;
  }
  while (wanted[at] === '*') at++;
  return at === wanted.length;
}

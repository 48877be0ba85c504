/** Which names that exist a mistyped one may mean. */

/** Compared without case; a third of the letters, and at most three, may be wrong. */
const MOST_WRONG = 3;
/** Longer names are not compared: nobody types them. */
const MAX_LENGTH = 200;

/** Those of `names` that are near to `text`, nearest first, at most `limit`. */
export function nearNames(text: string, names: Iterable<string>, limit = 3): string[] {
  const typed = text.toLowerCase();
  const mostWrong = Math.min(MOST_WRONG, Math.max(1, Math.floor(typed.length / 3)));
  const found: { name: string; wrong: number }[] = [];
  for (const name of new Set(names)) {
    const wrong = distanceOf(typed, name.toLowerCase());
    if (wrong <= mostWrong) found.push({ name, wrong });
  }
  return found
    .sort((a, b) => a.wrong - b.wrong)
    .slice(0, limit)
    .map(({ name }) => name);
}

/** Letters to add, drop, change or swap with their neighbour; a beginning alone counts as one (`data` for `database`). */
function distanceOf(typed: string, name: string): number {
  if (typed.length > MAX_LENGTH || name.length > MAX_LENGTH) return typed === name ? 0 : MAX_LENGTH;
  if (typed !== name && typed.length >= 3 && name.startsWith(typed)) return 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: name.length + 1 }, (_, at) => at);
  for (let row = 1; row <= typed.length; row++) {
    const next = [row];
    for (let column = 1; column <= name.length; column++) {
      const isSame = typed[row - 1] === name[column - 1];
      const isSwapped = typed[row - 1] === name[column - 2] && typed[row - 2] === name[column - 1];
      next[column] = Math.min(
        (last[column] ?? 0) + 1,
        (next[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (isSame ? 0 : 1),
        isSwapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = next;
  }
  return last[name.length] ?? 0;
}

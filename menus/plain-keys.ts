/** Words of the numbered dialogue as data; what takes them and what helps with them read these tables. */

/** One action and the words that ask for it: a whole line, or its beginning where more must follow. */
export interface PlainWord {
  action: string;
  /** Lower case; the first is the one that is shown. */
  words: readonly string[];
  /** What follows the word, as the help shows it: `TEXT`, `N`. */
  follows?: string;
  help: string;
}

/** At every question that is not answered with a text. */
export const PLAIN_EVERYWHERE: readonly PlainWord[] = [
  { action: 'back', words: ['b', 'back', '<'], help: 'back' },
  { action: 'abort', words: ['a', 'main'], help: 'abort to the main menu' },
  { action: 'help', words: ['?', 'help'], help: 'what can be typed here' },
];

export const PLAIN_LIST: readonly PlainWord[] = [
  { action: 'next', words: ['n', 'next'], help: 'the next page; so does Enter' },
  { action: 'previous', words: ['p', 'previous'], help: 'the page before' },
  { action: 'find', words: ['/', 'find'], follows: 'TEXT', help: 'only names that hold TEXT; / alone: all' },
  { action: 'go', words: ['g', 'go'], follows: 'N', help: 'the page of row N, and the marker > to it' },
  { action: 'quit', words: ['q', 'quit'], help: 'quit to the last menu' },
];

/** Lists that take several rows. */
export const PLAIN_MARK: readonly PlainWord[] = [
  {
    action: 'mark',
    words: ['m', 'mark'],
    follows: 'N N-N',
    help: 'mark rows (shown with *), or take the marks away',
  },
];

export const PLAIN_READ: readonly PlainWord[] = [
  { action: 'next', words: ['n', 'next'], help: 'the next page; so does Enter' },
  { action: 'previous', words: ['p', 'previous'], help: 'the page before' },
  {
    action: 'find',
    words: ['/', 'find'],
    follows: 'TEXT',
    help: 'the next line that holds TEXT; / alone: again',
  },
  { action: 'end', words: ['e', 'end'], help: 'the end of the text' },
  { action: 'quit', words: ['q', 'quit'], help: 'back' },
];

/** A log that grows. */
export const PLAIN_FOLLOW: readonly PlainWord[] = [
  { action: 'follow', words: ['f', 'follow'], help: 'print new lines as they come, until Enter' },
];

/** A line of text. */
export const PLAIN_ASK: readonly PlainWord[] = [
  { action: 'back', words: ['<'], help: 'back without it' },
  { action: 'help', words: ['?'], help: 'what can be typed here' },
  { action: 'empty', words: ['""'], help: 'an empty text, where Enter would take the one in brackets' },
];

export const PLAIN_CONFIRM: readonly PlainWord[] = [
  { action: 'yes', words: ['yes', 'y'], help: 'yes' },
  { action: 'no', words: ['no', 'n', '<', 'b', 'back'], help: 'no' },
  { action: 'help', words: ['?', 'help'], help: 'what can be typed here' },
];

/** What a line asks for; words of several letters need a blank before what follows, single ones do not. */
export function plainAction(
  tables: readonly (readonly PlainWord[])[],
  line: string,
): { action: string; rest: string } | undefined {
  const text = line.trim();
  const lower = text.toLowerCase();
  for (const { action, words, follows } of tables.flat()) {
    for (const word of words) {
      if (lower === word) return { action, rest: '' };
      if (follows === undefined || !lower.startsWith(word)) continue;
      const rest = text.slice(word.length);
      const isClear = word === '/' || rest.startsWith(' ') || (word.length === 1 && /^\d/.test(rest));
      if (isClear) return { action, rest: rest.trim() };
    }
  }
  return undefined;
}

/** `g N, go N            the page of row N` */
export function plainWordLine({ words, follows, help }: PlainWord): string {
  const shown = words.map((word) =>
    follows === undefined ? word : `${word}${word === '/' ? '' : ' '}${follows}`,
  );
  return `${shown.join(', ').padEnd(24)} ${help}`;
}

export const PLAIN_TABLES: readonly [string, readonly PlainWord[]][] = [
  ['Every question', PLAIN_EVERYWHERE],
  ['Lists', [...PLAIN_LIST, ...PLAIN_MARK]],
  ['Text to read', [...PLAIN_READ, ...PLAIN_FOLLOW]],
  ['Yes or no', PLAIN_CONFIRM],
  ['A line to type', PLAIN_ASK],
];

/** `phd` without a command: how the console looks. Light, for nothing else is loaded before the first paint. */

export interface ConsoleWords {
  plain?: boolean;
  look?: 'thin' | 'rich';
  mono?: boolean;
  charset?: 'ascii' | 'utf8';
  mouse?: boolean;
  slow?: boolean;
}

/** Every option: its word, its help, what it says. Of two that say the same thing the last counts. */
export const CONSOLE_OPTIONS: readonly (readonly [word: string, help: string, says: ConsoleWords])[] = [
  ['--plain', 'the console as numbered questions, without moving the cursor', { plain: true }],
  ['--thin', 'the look for slow lines: a marker, no frames', { look: 'thin' }],
  ['--rich', 'frames, bar and gauges', { look: 'rich' }],
  ['--mono', 'no colours (so does NO_COLOR)', { mono: true }],
  ['--ascii', 'only ASCII characters', { charset: 'ascii' }],
  ['--utf8', 'UTF-8, whatever the locale says', { charset: 'utf8' }],
  ['--mouse', 'mouse on', { mouse: true }],
  ['--no-mouse', 'mouse off', { mouse: false }],
  ['--slow', 'as over a slow line', { slow: true }],
];

/** What a command line says that holds nothing but these options; undefined if it holds anything else. */
export function consoleWords(words: readonly string[]): ConsoleWords | undefined {
  let said: ConsoleWords = {};
  for (const word of words) {
    const option = CONSOLE_OPTIONS.find(([name]) => name === word);
    if (option === undefined) return undefined;
    said = { ...said, ...option[2] };
  }
  return said;
}

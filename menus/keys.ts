/**
 * All keys of the console as data. The dispatcher, the footers, the help and the printed key list read these tables,
 * so that none of them can promise what another does not do.
 */

/** One action and the keys that ask for it. */
export interface Binding {
  /** What the dispatcher calls it. */
  action: string;
  /** Names of keys (`down`, `f1`, `ctrl-l`, `space`) or the characters themselves. */
  keys: readonly string[];
  /** One word for the footer; without one it stands in the help only. */
  footer?: string;
  help: string;
}

/** In every view. */
export const EVERYWHERE: readonly Binding[] = [
  { action: 'help', keys: ['?', 'f1'], footer: 'help', help: 'the keys of this screen' },
  { action: 'repaint', keys: ['ctrl-l'], help: 'paint the whole screen again' },
  { action: 'suspend', keys: ['ctrl-z'], help: 'leave to the shell; fg comes back' },
  { action: 'mouse', keys: ['m'], help: 'mouse on or off (Shift+drag copies while it is on)' },
];

const MOVES: readonly Binding[] = [
  { action: 'up', keys: ['up', 'k'], help: 'one row up' },
  { action: 'down', keys: ['down', 'j'], help: 'one row down' },
  { action: 'page-up', keys: ['pageup', 'ctrl-b', 'ctrl-u'], help: 'one page up' },
  { action: 'page-down', keys: ['pagedown', 'ctrl-f', 'ctrl-d'], help: 'one page down' },
  { action: 'home', keys: ['home', 'g'], help: 'first row' },
  { action: 'end', keys: ['end', 'G'], help: 'last row' },
];

const BACK: Binding = {
  action: 'back',
  keys: ['escape', 'left', 'backspace', 'ctrl-c'],
  footer: 'back',
  help: 'back',
};

const ABORT: Binding = { action: 'abort', keys: ['a'], footer: 'main menu', help: 'abort to the main menu' };

/** A menu: its own letters come first, then these. */
export const MENU_KEYS: readonly Binding[] = [
  { action: 'choose', keys: ['enter', 'right'], footer: 'choose', help: 'do what the marker stands at' },
  BACK,
  { action: ABORT.action, keys: ABORT.keys, help: ABORT.help },
  ...MOVES,
];

/** A list of rows. */
export const LIST_KEYS: readonly Binding[] = [
  { action: 'choose', keys: ['enter', 'right'], footer: 'choose', help: 'take the row of the marker' },
  {
    action: 'filter',
    keys: ['/'],
    footer: 'find',
    help: 'type a part of the name; Enter keeps it, Esc drops it',
  },
  { action: 'row-number', keys: ['0-9'], help: 'type the number of a row; Enter goes there at once' },
  { action: 'to-back', keys: ['b'], help: 'marker to Back at the bottom' },
  { action: 'to-quit', keys: ['q'], help: 'marker to Quit at the bottom' },
  BACK,
  ABORT,
  ...MOVES,
];

/** Marks of a list that takes several rows. */
export const MARK_KEYS: readonly Binding[] = [
  { action: 'mark', keys: ['space'], footer: 'mark', help: 'mark the row, or take the mark away' },
];

/** A question with yes and no. */
export const CONFIRM_KEYS: readonly Binding[] = [
  { action: 'yes', keys: ['y'], footer: 'yes', help: 'yes' },
  { action: 'no', keys: ['n', 'escape', 'backspace', 'ctrl-c'], footer: 'no', help: 'no' },
  { action: 'choose', keys: ['enter'], help: 'the answer that is marked' },
  { action: 'turn', keys: ['left', 'right', 'tab', 'up', 'down'], help: 'mark the other answer' },
];

/** One line to type. */
export const EDIT_KEYS: readonly Binding[] = [
  { action: 'accept', keys: ['enter'], footer: 'accept', help: 'take what stands there' },
  { action: 'cancel', keys: ['escape', 'ctrl-c'], footer: 'back', help: 'back without it' },
  { action: 'left', keys: ['left', 'ctrl-b'], help: 'one character left' },
  { action: 'right', keys: ['right', 'ctrl-f'], help: 'one character right' },
  { action: 'home', keys: ['home', 'ctrl-a'], help: 'to the beginning' },
  { action: 'end', keys: ['end', 'ctrl-e'], help: 'to the end' },
  { action: 'erase', keys: ['backspace'], help: 'take away the character before the cursor' },
  { action: 'delete', keys: ['delete', 'ctrl-d'], help: 'take away the character under the cursor' },
  { action: 'clear', keys: ['ctrl-u'], help: 'take away all' },
  { action: 'erase-word', keys: ['ctrl-w'], help: 'take away the word before the cursor' },
];

/** Text to read. */
export const READ_KEYS: readonly Binding[] = [
  { action: 'find', keys: ['/'], footer: 'find', help: 'look for a text' },
  { action: 'next', keys: ['n'], help: 'the next place of it' },
  { action: 'previous', keys: ['N'], help: 'the place before' },
  { action: 'follow', keys: ['f', 'F'], footer: 'follow', help: 'stay at the end while it grows' },
  { ...BACK, keys: [...BACK.keys, 'q', 'enter'] },
  ABORT,
  ...MOVES,
];

/** Something that changes by itself. */
export const WATCH_KEYS: readonly Binding[] = [BACK, ABORT];

/** The action that a key asks for: an exact key first, then the letter in the other case. */
export function actionFor(bindings: readonly Binding[], key: string): string | undefined {
  const exact = bindings.find(({ keys }) => keys.includes(key));
  if (exact) return exact.action;
  if (/^[0-9]$/.test(key)) return bindings.find(({ keys }) => keys.includes('0-9'))?.action;
  if (key.length !== 1) return undefined;
  const other = key === key.toLowerCase() ? key.toUpperCase() : key.toLowerCase();
  return bindings.find(({ keys }) => keys.includes(other))?.action;
}

const SHOWN: Record<string, string> = {
  enter: 'Enter',
  escape: 'Esc',
  space: 'Space',
  pageup: 'PgUp',
  pagedown: 'PgDn',
  backspace: 'Backspace',
  delete: 'Del',
  tab: 'Tab',
  up: 'Up',
  down: 'Down',
  left: 'Left',
  right: 'Right',
  home: 'Home',
  end: 'End',
};

/** A key as people read it: `ctrl-l` -> `^L`, `escape` -> `Esc`. */
export function keyText(key: string): string {
  if (key.startsWith('ctrl-')) return `^${key.slice(5).toUpperCase()}`;
  if (/^f\d/.test(key)) return key.toUpperCase();
  if (/^[A-Z]$/.test(key)) return `Shift+${key}`;
  return SHOWN[key] ?? (/^[a-z]$/.test(key) ? key.toUpperCase() : key);
}

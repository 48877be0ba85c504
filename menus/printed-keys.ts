/** The key list as it is read: in the help of the console, by `phd keys`, in the README. */
import {
  type Binding,
  CONFIRM_KEYS,
  EDIT_KEYS,
  EVERYWHERE,
  keyText,
  LIST_KEYS,
  MARK_KEYS,
  MENU_KEYS,
  READ_KEYS,
} from './keys.ts';
import { labelOf } from './menu.ts';
import { PLAIN_TABLES, plainWordLine } from './plain-keys.ts';
import { UNKNOWN_STATE } from './state.ts';
import { ALL_MENUS } from './tree.ts';

/** `Enter Right              do what the marker stands at` */
export function keyLine({ keys, help }: Pick<Binding, 'keys' | 'help'>): string {
  return `${keys.map(keyText).join(' ').padEnd(24)} ${help}`;
}

const TABLES: readonly [string, readonly Binding[]][] = [
  ['Everywhere', EVERYWHERE],
  ['Menus', MENU_KEYS],
  ['Lists', [...LIST_KEYS, ...MARK_KEYS]],
  ['Text to read', READ_KEYS],
  ['Yes or no', CONFIRM_KEYS],
  ['A line to type', EDIT_KEYS],
];

/** Every menu with its letters, then every key, then the words of the numbered dialogue. */
export function printedKeys(): string[] {
  const menus = ALL_MENUS.flatMap((menu) => [
    menu.title,
    ...menu.entries.map((entry) => {
      const [label = ''] = labelOf(entry, UNKNOWN_STATE).split(':');
      return `  ${entry.key.toUpperCase()}  ${label.padEnd(26)} ${entry.help}`;
    }),
    '',
  ]);
  const keys = TABLES.flatMap(([title, bindings]) => [
    title,
    ...bindings.map((one) => `  ${keyLine(one)}`),
    '',
  ]);
  const words = PLAIN_TABLES.flatMap(([title, lines]) => [
    `Numbered dialogue (--plain): ${title.toLowerCase()}`,
    ...lines.map((one) => `  ${plainWordLine(one)}`),
    '',
  ]);
  return [...menus, ...keys, ...words].slice(0, -1);
}

/** Screens of the program itself, as a reader meets them first, against the files under test/fixtures/screens. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, open } from '../support/console-pty.ts';
import type { TempHome } from '../support/temp-home.ts';
import { makeConsoleHome } from './stage.ts';

const FOLDER = fileURLToPath(new URL('../fixtures/screens', import.meta.url));
const IS_UPDATE = process.env.UPDATE_SCREENS === '1';

/** Keys from one screen to the next, and what stands on that when it is whole. */
const WAY: [screen: string, keys: string[], shows: string][] = [
  ['main', [], 'Daemon: not running'],
  ['main-keys', ['?'], 'Help: Main menu'],
  ['restore', ['q', 'e'], 'Abort to main menu'],
  ['search', ['c'], 'Search by'],
  ['locks', ['a', '3'], 'Clear all locks (no lock is set)'],
  ['configuration', ['q', 'c'], 'Configuration'],
];

let home: TempHome | undefined;
afterEach(async () => {
  await closeAll();
  home?.remove();
  home = undefined;
});

describe.each([
  [60, 15],
  [80, 24],
  [132, 43],
])('%ix%i', (columns, rows) => {
  it.each([
    ['thin-utf8', ['--thin'], {}],
    ['thin-ascii-mono', ['--thin'], { LANG: 'C', NO_COLOR: '1' }],
    ['rich-utf8', ['--rich'], {}],
  ] as [string, string[], NodeJS.ProcessEnv][])('%s', async (look, args, env) => {
    home = makeConsoleHome();
    const shown = open({ args, env: { ...home.env, ...env }, columns, rows });
    for (const [screen, keys, shows] of WAY) {
      shown.press(...keys);
      await shown.waitFor(shows);
      await shown.waitFor(/^Enter choose|^\/ find/m);
      if (screen !== 'main-keys') await shown.assertRepaintIsEqual();
      const file = path.join(FOLDER, `program-${columns}x${rows}-${look}`, `${screen}.txt`);
      const picture = `${shown.text.trimEnd()}\n`;
      if (IS_UPDATE) {
        mkdirSync(path.dirname(file), { recursive: true });
        writeFileSync(file, picture);
      }
      expect(picture, screen).toBe(readFileSync(file, 'utf8'));
      if (look.includes('ascii')) expect(picture).toMatch(/^[\x20-\x7e\n]*$/);
    }
    if (look.includes('mono')) expect(shown.bytes.toString('latin1')).not.toMatch(/\x1b\[[\d;]*[34]\dm/);
    shown.press('q');
    await shown.waitFor('Daemon');
    shown.press('q');
    expect((await shown.exit()).code).toBe(0);
  });
});

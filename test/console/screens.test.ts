/**
 * Every kind of view as it is seen, at three sizes and in each look, against the files under test/fixtures/screens. New
 * files are written by `UPDATE_SCREENS=1`; read them before they are kept.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { LookWords } from '../../screens/look.ts';
import { StageScreen } from './in-process.ts';

const FOLDER = fileURLToPath(new URL('../fixtures/screens', import.meta.url));
const IS_UPDATE = process.env.UPDATE_SCREENS === '1';

const SIZES: [columns: number, rows: number][] = [
  [60, 15],
  [80, 24],
  [132, 43],
];
const LOOKS: Record<string, LookWords> = {
  'thin-utf8': { look: 'thin', charset: 'utf8' },
  'thin-ascii': { look: 'thin', charset: 'ascii' },
  'rich-utf8': { look: 'rich', charset: 'utf8' },
  'rich-mono-ascii': { look: 'rich', charset: 'ascii', mono: true },
};

/** What is pressed at the stage's menu, and in which state that is. */
const SCREENS: Record<string, string[]> = {
  menu: ['\x1b[B', '\x1b[B'],
  'menu-refused': ['u'],
  list: ['l', '\x1b[B', '\x1b[B', ' '],
  'list-end': ['l', '\x1b[F', '\x1b[B'],
  'list-filter': ['l', '/', '003'],
  question: ['y'],
  'question-destroys': ['d'],
  word: ['t', 'SALV'],
  line: ['i', ' 世界'],
  text: ['r', '\x1b[6~'],
  told: ['o'],
  progress: ['p'],
  help: ['l', '?'],
};

const kept = new Set<string>();

describe.each(SIZES)('%ix%i', (columns, rows) => {
  describe.each(Object.keys(LOOKS))('%s', (look) => {
    it.each(Object.keys(SCREENS))('%s', async (screen) => {
      const stage = new StageScreen({ columns, rows, stepMs: 3_600_000, words: LOOKS[look] });
      try {
        await stage.settle();
        await stage.send(...(SCREENS[screen] as string[]));
        const file = path.join(FOLDER, `${columns}x${rows}-${look}`, `${screen}.txt`);
        kept.add(file);
        if (IS_UPDATE) {
          mkdirSync(path.dirname(file), { recursive: true });
          writeFileSync(file, stage.picture());
        }
        expect(stage.picture()).toBe(readFileSync(file, 'utf8'));
        if (look.endsWith('ascii')) expect(stage.text).toMatch(/^[\x20-\x7e\n]*$/);
        if (look.includes('mono')) expect(stage.picture()).not.toMatch(/marks: .*\d/);
        expect(stage.screen().every((row) => [...row].length <= columns)).toBe(true);
      } finally {
        await stage.close();
      }
    });
  });
});

afterAll(() => {
  // A file that no screen is compared with would only seem to prove something.
  if (!existsSync(FOLDER) || kept.size === 0) return;
  const all = readdirSync(FOLDER, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'README.md')
    .map((entry) => path.join(entry.parentPath, entry.name));
  expect(all.filter((file) => !kept.has(file) && !file.includes('/program-'))).toEqual([]);
});

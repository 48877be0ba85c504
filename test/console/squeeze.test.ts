/** Fewer bytes, the same cells. */
import headless from '@xterm/headless';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { squeeze } from '../../screens/terminal/squeeze.ts';

const SIZE = { cols: 20, rows: 6 };

/** All cells with their attributes after these bytes. */
async function cellsAfter(bytes: string): Promise<string> {
  const terminal = new headless.Terminal({ ...SIZE, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(bytes, resolve));
  const rows = Array.from({ length: SIZE.rows }, (_, row) => {
    const line = terminal.buffer.active.getLine(row);
    return Array.from({ length: SIZE.cols }, (_, column) => {
      const cell = line?.getCell(column);
      return `${cell?.getChars() || ' '}${cell?.isBold() ? 'b' : ''}${cell?.isInverse() ? 'i' : ''}`;
    }).join('');
  });
  const { cursorX, cursorY } = terminal.buffer.active;
  terminal.dispose();
  return `${rows.join('\n')}\n${cursorY} ${cursorX}`;
}

it('takes out moves to where the cursor stands, and takes the shorter of two ways', () => {
  expect(squeeze('\x1b[3;1H\x1b[3;3HAB\x1b[3;5H\x1b[K', 80)).toBe('\x1b[3;3HAB\x1b[K');
  expect(squeeze('\x1b[3;1HAB\x1b[3;9HC\x1b[1C\x1b[2CD', 80)).toBe('\x1b[3;1HAB\x1b[6CC\x1b[3CD');
  expect(squeeze('\x1b[3;1HAB\x1b[1CD', 80)).toBe('\x1b[3;1HAB\x1b[CD');
});

it('knows nothing of the place after the last column, or after margins and lines were moved', () => {
  expect(squeeze('\x1b[1;1Habcd\x1b[1;5Hx', 4)).toBe('\x1b[1;1Habcd\x1b[1;5Hx');
  expect(squeeze('\x1b[4;21r\x1b[4;1H\x1b[1M\x1b[1;24r\x1b[4;1Hx', 80)).toBe(
    '\x1b[4;21r\x1b[4;1H\x1b[1M\x1b[1;24r\x1b[4;1Hx',
  );
});

/** What blessed paints: moves, text, colours, the rest of a line cleared. */
const PIECE = fc.oneof(
  fc
    .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 20 }))
    .map(([y, x]) => `\x1b[${y};${x}H`),
  fc.integer({ min: 1, max: 3 }).map((by) => `\x1b[${by}C`),
  fc.constantFrom('a', 'bc', ' ', 'def', '世', 'é', '\x1b[K', '\x1b[1m', '\x1b[7m', '\x1b[m'),
);

it('leaves the same cells and the same cursor, and never more bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(PIECE, { maxLength: 30 }), async (pieces) => {
      // A frame never writes beyond its last column: what would is left out.
      const bytes = `\x1b[1;1H${pieces.join('')}\x1b[6;1H`;
      const squeezed = squeeze(bytes, SIZE.cols);
      expect(squeezed.length).toBeLessThanOrEqual(bytes.length);
      if (await hasRunOver(bytes)) return;
      expect(await cellsAfter(squeezed)).toBe(await cellsAfter(bytes));
    }),
    { numRuns: 300 },
  );
});

/** True if the cursor came to the last column by text or moves. */
async function hasRunOver(bytes: string): Promise<boolean> {
  const terminal = new headless.Terminal({ ...SIZE, allowProposedApi: true });
  let isOver = false;
  for (const token of bytes.match(/\x1b\[[\d;]*[@-~]|[^\x1b]/gu) ?? []) {
    await new Promise<void>((resolve) => terminal.write(token, resolve));
    isOver ||= terminal.buffer.active.cursorX >= SIZE.cols - 3 && !token.endsWith('H');
  }
  terminal.dispose();
  return isOver;
}

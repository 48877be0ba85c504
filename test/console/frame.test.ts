/** Names from targets are hostile: whatever they hold, they take the columns they seem to take, and no more. */
import headless from '@xterm/headless';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellsOf, fitted, showable, wrap } from '../../screens/frame.ts';

const UTF8 = { charset: 'utf8' } as const;
const ASCII = { charset: 'ascii' } as const;

describe('names', () => {
  it.each([
    ['web\x1b[2Jserver', 'web\\x1b[2Jserver'],
    ['line\r\nbreak', 'line\\x0d\\x0abreak'],
    ['zero\u200bwidth', 'zero\\u{200b}width'],
    ['\u202egnp.exe', '\\u{202e}gnp.exe'],
    ['שלום', '\\u{5e9}\\u{5dc}\\u{5d5}\\u{5dd}'],
    ['a\u0301', 'á'],
    ['x\u0323\u0321', 'x\\u{321}\\u{323}'],
    ['disk 😀', 'disk \\u{1f600}'],
    ['世界', '世界'],
  ])('%j is shown as %s', (name, shown) => {
    expect(showable(name, UTF8)).toBe(shown);
  });

  it('in ASCII nothing beyond it is sent', () => {
    expect(showable('Büro 世', ASCII)).toBe('B\\u{fc}ro \\u{4e16}');
  });

  it('what does not fit is cut where it is seen, halves of wide characters are blanks', () => {
    expect(fitted('webserver', 6, UTF8)).toBe('webse~');
    expect(fitted('世界世界', 6, UTF8)).toBe('世界 ~');
    expect(fitted('12', 5, UTF8, 'right')).toBe('   12');
  });
});

const TEXT = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ unit: 'grapheme', maxLength: 30 }),
  fc
    .array(fc.constantFrom('世', 'é', 'ａ', ' ', 'ab', '\u0301', '\u200d', '👩‍👧', '\x9b', '\ufeff', '한'), {
      maxLength: 20,
    })
    .map((parts) => parts.join('')),
);

describe('properties', () => {
  it('a fitted text has exactly its columns and nothing that a terminal acts on', () => {
    fc.assert(
      fc.property(TEXT, fc.integer({ min: 1, max: 40 }), fc.boolean(), (text, columns, isAscii) => {
        const shown = fitted(text, columns, isAscii ? ASCII : UTF8);
        expect(cellsOf(shown)).toHaveLength(columns);
        expect(shown).not.toMatch(/\p{Cc}|\p{Cf}|\p{M}|\p{Cs}|\p{Zl}|\p{Zp}/u);
        if (isAscii) expect(shown).toMatch(/^[\x20-\x7e]*$/);
      }),
      { numRuns: 2_000 },
    );
  });

  it('broken lines hold all of the text and are no wider than asked', () => {
    fc.assert(
      fc.property(TEXT, fc.integer({ min: 2, max: 40 }), (text, columns) => {
        const lines = wrap(text, columns, UTF8);
        for (const line of lines) expect(cellsOf(line).length).toBeLessThanOrEqual(columns);
        expect(lines.join('').replaceAll(' ', '')).toBe(showable(text, UTF8).replaceAll(' ', ''));
      }),
      { numRuns: 2_000 },
    );
  });

  it('lines of an indented text are all indented', () => {
    expect(wrap('   phd list   lists archives', 20, UTF8)).toEqual(['   phd list   lists', '   archives']);
    expect(
      wrap(`${' '.repeat(30)}x`, 20, UTF8)
        .at(-1)
        ?.trim(),
    ).toBe('x');
  });

  it('a terminal gives a text the columns that are counted for it', async () => {
    const emulator = new headless.Terminal({ cols: 200, rows: 3, allowProposedApi: true });
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: fc.constantFrom(...'aé世한ａ界ñ -~ßÅДΩ'), maxLength: 30 }),
        async (text) => {
          await new Promise<void>((resolve) => emulator.write(`\r\x1b[K${showable(text, UTF8)}`, resolve));
          expect(emulator.buffer.active.cursorX).toBe(cellsOf(showable(text, UTF8)).length);
        },
      ),
      { numRuns: 300 },
    );
    emulator.dispose();
  });
});

/** What is typed, pasted or clicked has one outcome, however it is cut into reads and whatever comes with it. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { StageScreen, type StageScreenOptions } from './in-process.ts';

const opened: StageScreen[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

async function openScreen(options: StageScreenOptions = {}): Promise<StageScreen> {
  const one = new StageScreen(options);
  opened.push(one);
  await one.settle();
  return one;
}

/** The screen after these reads; a click may follow to see that nothing is pending. */
async function outcome(pieces: (string | Buffer)[], options: StageScreenOptions = {}): Promise<string> {
  const one = await openScreen(options);
  await one.send(...pieces);
  const picture = one.picture();
  await one.close();
  opened.splice(opened.indexOf(one), 1);
  return picture;
}

/** Input of a person, and what the screen must hold in the end. */
const SCENARIOS: [what: string, bytes: string, holds: string][] = [
  ['down to the third entry and its word', '\x1b[B\x1b[Bt', 'answer: none yet'],
  ['a row of the list by arrows', 'l\x1b[B\x1b[B\x1bOB\r', 'answer: list: archive-0004'],
  ['a row by PgDn and End of two dialects', 'l\x1b[6~\x1b[4~\r', 'answer: list: archive-0040'],
  ['Home of the Linux console', 'l\x1b[6~\x1b[1~\r', 'answer: list: archive-0001'],
  ['a filter with a letter of two bytes taken back', 'l/00é\x7f07\r\r', 'answer: list: archive-0007'],
  ['a line with its cursor moved', 'i\x1b[D\x1b[D\x1b[3~\x1bOFx\r', 'answer: ask: wbx'],
  ['a question', 'yn', 'answer: confirm: false'],
  [
    'the wheel and a click on a row, then on it again',
    'l\x1b[<65;9;9M\x1b[<0;9;9M\x1b[<0;9;9m\x1b[<0;9;9M',
    'archive-0006',
  ],
  ['help by F1 of PuTTY and back', '\x1b[11~\x1b[B\x1b[Bq', 'answer: none yet'],
  ['a bracketed paste into a menu', '\x1b[200~yqd\r\x1b[201~', 'answer: none yet'],
  ['a bracketed paste into a line', 'i\x15\x1b[200~a b\nc\x1b[201~\r', 'answer: ask: a b c'],
];

describe('cut at each byte', () => {
  it.each(SCENARIOS)('%s', async (_what, typed, holds) => {
    const bytes = Buffer.from(typed);
    const whole = await outcome([bytes]);
    expect(whole).toContain(holds);
    expect(await outcome(Array.from(bytes, (one) => Buffer.of(one)))).toBe(whole);
    for (let at = 1; at < bytes.length; at++) {
      expect(await outcome([bytes.subarray(0, at), bytes.subarray(at)])).toBe(whole);
    }
  });
});

describe('Escape', () => {
  it('is a key when nothing follows in time; the rest of a sequence that comes after that is dropped', async () => {
    const one = await openScreen({ env: { ESCDELAY: '20' } });
    await one.send('l', '\x1b');
    while (!one.text.includes('answer: list: back')) await one.settle();
    const before = one.picture();
    await one.send('[', 'B');
    expect(one.picture()).toBe(before);
    await one.send('\x1b[B');
    expect(one.text).toContain('> Y  Yes or no');
  });

  it('leaves a finder, then the list', async () => {
    const one = await openScreen({ env: { ESCDELAY: '20' } });
    await one.send('l', '/', '003', '\x1b');
    while (!one.text.includes('1/40')) await one.settle();
    expect(one.text).not.toContain('[/003]');
    await one.send('\x1b');
    while (!one.text.includes('answer: list: back')) await one.settle();
  });
});

describe('questions that destroy', () => {
  it('are not answered by what was typed before they were seen', async () => {
    for (const typed of ['dy', 'd\x1b[D\r', 'd\r', 'dyyyy', 'dn']) {
      const one = await openScreen();
      await one.send(typed);
      expect(one.text).toContain('Overwrite it?');
      expect(one.text).toContain('answer: none yet');
      await one.send('\r');
      expect(one.text).toContain('answer: destroy: false');
    }
  });

  it('default to No, and a word must be typed, not pasted', async () => {
    const one = await openScreen();
    await one.send('t', '\x1b[200~SALVAGE\x1b[201~', '\r');
    expect(one.text).toContain('answer: typed: false');
    await one.send('t', 'SALVAG', '\r');
    expect(one.text).toContain('that is not the word');
    await one.send('E', '\r');
    expect(one.text).toContain('answer: typed: true');
  });
});

describe('pastes', () => {
  it('without brackets, where the terminal knows none, fire no keys and fill a line', async () => {
    const one = await openScreen({ term: 'linux' });
    await one.send('quit all of this\ny\n');
    expect(one.text).toContain('answer: none yet');
    await one.send('i', '\x15', 'backup of 2026\n');
    expect(one.text).toContain('> backup of 2026');
    await one.send('\r');
    expect(one.text).toContain('answer: ask: backup of 2026');
  });

  it('hold no line end and no escape codes', async () => {
    const one = await openScreen();
    await one.send('i', '\x15', '\x1b[200~a\x1b[31mb\tc\r\n\x1b[201~', '\r');
    expect(one.text).toContain('answer: ask: a [31mb c');
  });
});

describe('the mouse', () => {
  it('a click chooses a row, one more opens it; entries of a menu too; hints of the footer act', async () => {
    const one = await openScreen({ words: { look: 'rich', mouse: true } });
    const click = (row: number, column: number): string => `\x1b[<0;${column + 1};${row + 1}M`;
    const rowOf = (text: string): number => one.screen().findIndex((row) => row.includes(text));
    await one.send(click(rowOf('Yes or no'), 5));
    expect(one.text).toContain('>  Y  Yes or no'.replace('>  ', '> '));
    await one.send(click(rowOf('Yes or no'), 5));
    expect(one.text).toContain('Restore it?');
    const foot = one.screen().length - 1;
    await one.send(click(foot, one.screen()[foot]?.indexOf('N no') ?? -1));
    expect(one.text).toContain('answer: confirm: false');
    await one.send('l');
    await one.send(click(foot, one.screen()[foot]?.indexOf('? help') ?? -1));
    expect(one.text).toContain('Help: Archives');
    await one.send(click(foot, 79));
    expect(one.text).toContain('Help: Archives');
  });

  it('wheel, keys and clicks in one read all count', async () => {
    const one = await openScreen({ words: { mouse: true } });
    await one.send('l\x1b[<65;1;5Mj\x1b[<64;1;5Mk\x1b[<65;1;5M\r');
    expect(one.text).toContain('answer: list: archive-0004');
  });
});

describe('anything', () => {
  it('no bytes at all throw, leave the screen torn, or answer a question that destroys', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.constantFrom(
              '\x1b[B',
              '\x1b[A',
              'l',
              'y',
              'n',
              'i',
              'r',
              'o',
              '/',
              '\r',
              ' ',
              '5',
              'd',
              't',
              '?',
              '\x1b[6~',
            ),
            fc.constantFrom(
              '\x1b[<0;5;6M',
              '\x1b[<65;5;6M',
              '\x1b[200~x\x1b[201~',
              '\x0c',
              '\x1b[',
              '世',
              '\u0301',
            ),
            fc.string({ maxLength: 4 }).filter((text) => !/[sqp\x1a]/i.test(text)),
          ),
          { maxLength: 25 },
        ),
        async (pieces) => {
          const one = await openScreen({ words: { mouse: true } });
          await one.send(...pieces, '\x18');
          const before = one.picture();
          await one.send('\x0c');
          expect(one.picture()).toBe(before);
          await one.close();
          opened.splice(opened.indexOf(one), 1);
        },
      ),
      { numRuns: 60 },
    );
  });
});

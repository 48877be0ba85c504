/** Bytes of terminals as keys, whole, torn, late and at random. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPasteWithoutBrackets, KeyDecoder, type KeyEvent } from '../../screens/terminal/key-decoder.ts';

/** Events of bytes that come in these pieces without a pause. */
function decode(...pieces: (string | Uint8Array)[]): KeyEvent[] {
  const decoder = new KeyDecoder();
  return pieces.flatMap((piece) => decoder.push(Buffer.from(piece as string)));
}

/** The same with a pause after the last, as long as any patience. */
function decodeToEnd(...pieces: (string | Uint8Array)[]): KeyEvent[] {
  const decoder = new KeyDecoder();
  const events = pieces.flatMap((piece) => decoder.push(Buffer.from(piece as string)));
  while (decoder.awaited !== 'nothing') events.push(...decoder.timeOut());
  return events;
}

function names(events: readonly KeyEvent[]): string[] {
  return events.map((event) => {
    if (event.kind === 'key') return event.name;
    if (event.kind === 'mouse') return `${event.action} ${event.row} ${event.column}`;
    return event.kind === 'paste' ? `paste ${event.text}` : event.text;
  });
}

/** What terminals send, by the name of the key. */
const DIALECTS: [dialect: string, name: string, bytes: string][] = [
  ['xterm', 'up', '\x1b[A'],
  ['xterm, application', 'up', '\x1bOA'],
  ['xterm with Ctrl', 'right', '\x1b[1;5C'],
  ['xterm', 'home', '\x1b[H'],
  ['PuTTY, Linux', 'home', '\x1b[1~'],
  ['rxvt', 'home', '\x1b[7~'],
  ['xterm, application', 'home', '\x1bOH'],
  ['xterm', 'end', '\x1b[F'],
  ['PuTTY, Linux', 'end', '\x1b[4~'],
  ['rxvt', 'end', '\x1b[8~'],
  ['all', 'pageup', '\x1b[5~'],
  ['all', 'pagedown', '\x1b[6~'],
  ['all', 'delete', '\x1b[3~'],
  ['xterm', 'f1', '\x1bOP'],
  ['PuTTY', 'f1', '\x1b[11~'],
  ['Linux', 'f1', '\x1b[[A'],
  ['xterm with Shift', 'f1', '\x1b[1;2P'],
  ['xterm', 'f4', '\x1bOS'],
  ['PuTTY', 'f4', '\x1b[14~'],
  ['Linux', 'f5', '\x1b[[E'],
  ['xterm', 'f5', '\x1b[15~'],
  ['all', 'f6', '\x1b[17~'],
  ['all', 'f10', '\x1b[21~'],
  ['all', 'f12', '\x1b[24~'],
  ['all', 'backtab', '\x1b[Z'],
  ['DEC', 'backspace', '\x7f'],
  ['PC', 'backspace', '\b'],
  ['all', 'enter', '\r'],
  ['keypad', 'enter', '\x1bOM'],
  ['keypad', '5', '\x1bOu'],
  ['keypad', '+', '\x1bOk'],
  ['all', 'ctrl-l', '\x0c'],
  ['SGR', 'press 4 9', '\x1b[<0;10;5M'],
  ['SGR', 'wheel-down 0 299', '\x1b[<65;300;1M'],
];

describe('keys of terminals', () => {
  it.each(DIALECTS)('%s: %s', (_dialect, name, bytes) => {
    expect(names(decode(bytes))).toEqual([name]);
    // Byte by byte, and before and after another key.
    expect(names(decode(...bytes))).toEqual([name]);
    expect(names(decode(`j${bytes}k`))).toEqual(['j', name, 'k']);
  });

  it('a lone ESC is a key when nothing followed in time, and so is each of two', () => {
    const decoder = new KeyDecoder();
    expect(decoder.push(Buffer.from('\x1b'))).toEqual([]);
    expect(decoder.awaited).toBe('escape');
    expect(names(decoder.timeOut())).toEqual(['escape']);
    expect(names(decodeToEnd('\x1b\x1b'))).toEqual(['escape', 'escape']);
  });

  it('keys and mouse events of one read all arrive, and releases are no clicks', () => {
    const bytes = 'j\x1b[<65;4;9M\x1b[B\x1b[<0;1;1M\x1b[<0;1;1mq';
    expect(names(decode(bytes))).toEqual(['j', 'wheel-down 8 3', 'down', 'press 0 0', 'q']);
  });

  it('characters of any script come whole, invalid bytes not at all', () => {
    expect(names(decode('ä', '世', Buffer.from('😀').subarray(0, 2), Buffer.from('😀').subarray(2)))).toEqual(
      ['ä', '世', '😀'],
    );
    expect(names(decode(Buffer.from([0xff, 0x41, 0xc3])))).toEqual(['A']);
  });
});

describe('what is torn or unknown', () => {
  it.each([
    ['an unknown CSI', '\x1b[?62;22c'],
    ['Alt and a letter', '\x1bq'],
    ['kitty', '\x1b[113;5u'],
    ['focus', '\x1b[I'],
    ['the colour of the background, asked for by another program', '\x1b]11;rgb:0000/0000/0000\x07'],
    ['a version string', '\x1bP>|XTerm(390)\x1b\\'],
    ['a mouse event in the old form', '\x1b[M !!'],
    ['a torn CSI', '\x1b[1;'],
    ['a torn mouse event', '\x1b[<0;1'],
  ])('%s fires nothing', (_what, bytes) => {
    expect(names(decodeToEnd(bytes))).toEqual([]);
    expect(names(decodeToEnd(...bytes))).toEqual([]);
  });

  it('a sequence whose rest came after ESC was taken for the key fires no letter', () => {
    for (const rest of ['[B', '[1;5C', 'OP', '[[A', '[<0;1;1M']) {
      const decoder = new KeyDecoder();
      decoder.push(Buffer.from('\x1b'));
      expect(names(decoder.timeOut())).toEqual(['escape']);
      expect(names([...rest].flatMap((one) => decoder.push(Buffer.from(one))))).toEqual([]);
      expect(names(decoder.push(Buffer.from('k')))).toEqual(['k']);
    }
  });

  it('letters typed after Escape are letters, O among them', () => {
    const decoder = new KeyDecoder();
    decoder.push(Buffer.from('\x1b'));
    decoder.timeOut();
    expect(names(decoder.push(Buffer.from('q')))).toEqual(['q']);
    decoder.push(Buffer.from('\x1b'));
    decoder.timeOut();
    expect(decoder.push(Buffer.from('o'))).toHaveLength(1);
    decoder.push(Buffer.from('\x1b'));
    decoder.timeOut();
    expect(decoder.push(Buffer.from('O'))).toEqual([]);
    expect(names(decoder.timeOut())).toEqual(['O']);
  });

  it('Enter after a torn sequence is Enter', () => {
    expect(names(decode('\x1b[1', '\r', 'k'))).toEqual(['enter', 'k']);
    expect(names(decode('\x1b]11', '\r'))).toEqual(['enter']);
  });
});

describe('pastes', () => {
  it('bracketed: one event, no keys, no line ends, however long', () => {
    expect(names(decode('\x1b[200~yq\r\nrm\x1b[201~k'))).toEqual(['paste yq rm', 'k']);
    const long = 'abcdefgh'.repeat(20_000);
    const events = decode(`\x1b[200~${long}\x1b[201~k`);
    expect(events.map(({ kind }) => kind).slice(0, -1)).toEqual(events.slice(0, -1).map(() => 'paste'));
    expect(events.map((event) => (event.kind === 'paste' ? event.text : '')).join('')).toBe(long);
    expect(events.at(-1)).toEqual({ kind: 'text', text: 'k' });
  });

  it('escape codes within a paste are no keys', () => {
    expect(names(decode('\x1b[200~a\x1b[Bq\x1b[201~'))).toEqual(['paste a [Bq']);
  });

  it('a paste that stalls is still a paste', () => {
    const decoder = new KeyDecoder();
    decoder.push(Buffer.from('\x1b[200~one '));
    expect(decoder.awaited).toBe('paste');
    expect(names(decoder.push(Buffer.from('two\x1b[201~')))).toEqual(['paste one two']);
  });

  it('without brackets: much different text at once; a held key and typing ahead are none', () => {
    expect(isPasteWithoutBrackets(Buffer.from('rm -rf /tmp/nothing\n'))).toBe(true);
    expect(isPasteWithoutBrackets(Buffer.from('j'.repeat(200)))).toBe(false);
    expect(isPasteWithoutBrackets(Buffer.from('ecv\r\r'))).toBe(false);
    expect(isPasteWithoutBrackets(Buffer.from('\x1b[B'.repeat(50)))).toBe(false);
  });
});

/** Bytes near to what matters: parts of sequences, letters, controls, anything. */
const SCRAPS = fc.oneof(
  fc.constantFrom(...DIALECTS.map(([, , bytes]) => bytes)),
  fc.constantFrom(
    '\x1b',
    '[',
    'O',
    '\x1b[200~',
    '\x1b[201~',
    ';',
    '1',
    '~',
    'M',
    '<',
    ']',
    '\x07',
    '\\',
    'é',
    '世',
  ),
  fc.string({ maxLength: 3 }),
);
const STREAM = fc.oneof(
  fc.array(SCRAPS, { maxLength: 12 }).map((parts) => Buffer.from(parts.join(''))),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
);

describe('properties', () => {
  it('any bytes give the same events however they are cut', () => {
    fc.assert(
      fc.property(STREAM, fc.array(fc.nat({ max: 60 }), { maxLength: 20 }), (bytes, cuts) => {
        const places = [...new Set([0, ...cuts.filter((at) => at < bytes.length), bytes.length])].sort(
          (a, b) => a - b,
        );
        const pieces = places.slice(1).map((to, at) => bytes.subarray(places[at], to));
        expect(decodeToEnd(...pieces)).toEqual(decodeToEnd(bytes));
        expect(decodeToEnd(...Array.from(bytes, (one) => Uint8Array.of(one)))).toEqual(decodeToEnd(bytes));
      }),
      { numRuns: 3_000 },
    );
  });

  it('no known sequence, torn anywhere and never continued, yields a letter or any key but Escape', () => {
    for (const [, , bytes] of DIALECTS.filter(([, , one]) => one.length > 1)) {
      for (let at = 1; at < bytes.length; at++) {
        const whole = decodeToEnd(bytes.slice(0, at));
        expect(names(whole).filter((name) => name !== 'escape')).toEqual([]);
      }
    }
  });

  it('no known sequence yields a letter, however late its rest comes', () => {
    for (const [, name, bytes] of DIALECTS.filter(([, , one]) => one.length > 1)) {
      for (let at = 1; at < bytes.length; at++) {
        const decoder = new KeyDecoder();
        const events = decoder.push(Buffer.from(bytes.slice(0, at)));
        if (decoder.awaited === 'escape') events.push(...decoder.timeOut());
        events.push(...decoder.push(Buffer.from(bytes.slice(at))));
        expect([[name], ['escape']]).toContainEqual(names(events));
      }
    }
  });

  it('what follows a whole sequence or a pause is understood', () => {
    fc.assert(
      fc.property(STREAM, (bytes) => {
        const decoder = new KeyDecoder();
        decoder.push(bytes);
        while (decoder.awaited !== 'nothing') decoder.timeOut();
        // The end of a cut UTF-8 character is still held: one more makes it end.
        decoder.push(Buffer.from('x'));
        expect(names(decoder.push(Buffer.from('\x1b[B')))).toEqual(['down']);
      }),
      { numRuns: 1_000 },
    );
  });
});

/**
 * Text records: the manifest of a DELTA and the head of a FULL (FORMAT.md section 2).
 * Lines `key value...`; a value never holds a blank, so a shell can split it with `read -r`.
 */
import { PhdError } from '../errors.ts';

export interface RecordLine {
  key: string;
  fields: string[];
}

/** No manifest needs more; a hostile one gets no more. */
const MAX_LINES = 100_000;

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Encodes one field: every byte outside `!`..`~`, and `%`, becomes `%XX`; empty becomes `-`. */
export function encodeField(value: string): string {
  if (value === '') return '-';
  if (value === '-') return '%2D';
  let text = '';
  for (const byte of Buffer.from(value, 'utf8')) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x25;
    text += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}

/** Undoes `encodeField`. Throws ARCHIVE_DAMAGED on anything an encoder would not have written. */
export function decodeField(field: string): string {
  if (field === '-') return '';
  const bytes: number[] = [];
  for (let at = 0; at < field.length; at += 1) {
    if (field[at] !== '%') {
      const code = field.charCodeAt(at);
      if (code <= 0x20 || code >= 0x7f) throw damaged(`a raw byte ${code} in a field`);
      bytes.push(code);
      continue;
    }
    const hex = field.slice(at + 1, at + 3);
    if (!/^[0-9A-F]{2}$/.test(hex)) throw damaged('a broken %XX in a field');
    bytes.push(Number.parseInt(hex, 16));
    at += 2;
  }
  try {
    return decoder.decode(Uint8Array.from(bytes));
  } catch (cause) {
    throw new PhdError('ARCHIVE_DAMAGED', 'text record: a field is not UTF-8', { cause });
  }
}

export function printRecord(lines: readonly RecordLine[]): Buffer {
  return Buffer.from(
    lines.map((line) => [line.key, ...line.fields.map(encodeField)].join(' ') + '\n').join(''),
    'latin1',
  );
}

export function parseRecord(bytes: Uint8Array): RecordLine[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  if (!text.endsWith('\n')) throw damaged('it does not end with a line end');
  const lines = text.slice(0, -1).split('\n');
  if (lines.length > MAX_LINES) throw damaged(`more than ${MAX_LINES} lines`);
  return lines.map((line, index) => {
    const [key, ...fields] = line.split(' ');
    if (!/^[A-Za-z0-9-]{1,40}$/.test(key ?? '')) throw damaged(`line ${index + 1} has no key`);
    return { key: key as string, fields: fields.map(decodeField) };
  });
}

/** Typed access to the lines of a record; every accessor throws ARCHIVE_DAMAGED naming the key. */
export class RecordFields {
  readonly #byKey = new Map<string, string[][]>();

  constructor(lines: readonly RecordLine[]) {
    for (const line of lines) {
      const known = this.#byKey.get(line.key);
      if (known) known.push(line.fields);
      else this.#byKey.set(line.key, [line.fields]);
    }
  }

  /** All lines of a key that may repeat, each with exactly `count` fields. */
  all(key: string, count: number): string[][] {
    const lines = this.#byKey.get(key) ?? [];
    for (const fields of lines)
      if (fields.length !== count) throw damaged(`"${key}" has not ${count} fields`);
    return lines;
  }

  optional(key: string): string | undefined {
    const lines = this.all(key, 1);
    if (lines.length > 1) throw damaged(`"${key}" stands ${lines.length} times`);
    return lines[0]?.[0];
  }

  text(key: string): string {
    const value = this.optional(key);
    if (value === undefined) throw damaged(`"${key}" is missing`);
    return value;
  }

  matching(key: string, pattern: RegExp): string {
    const value = this.text(key);
    if (!pattern.test(value)) throw damaged(`"${key}" is malformed`);
    return value;
  }

  oneOf<T extends string>(key: string, values: readonly T[]): T {
    const value = this.text(key);
    if (!values.includes(value as T)) throw damaged(`"${key}" is none of ${values.join(', ')}`);
    return value as T;
  }

  flag(key: string): boolean {
    return this.oneOf(key, ['0', '1']) === '1';
  }

  /** Decimal, 0 .. max (at most 2^53 - 1). */
  decimal(key: string, max: number = Number.MAX_SAFE_INTEGER): number {
    return parseDecimal(this.text(key), key, max);
  }
}

/** A plain decimal without sign or leading zeros, 0 .. max. `name` is for the message. */
export function parseDecimal(value: string, name: string, max: number = Number.MAX_SAFE_INTEGER): number {
  const number = /^(0|[1-9][0-9]{0,15})$/.test(value) ? Number(value) : Number.NaN;
  if (!(number <= max)) throw damaged(`"${name}" is not a number from 0 to ${max}`);
  return number;
}

function damaged(what: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `text record: ${what}`);
}

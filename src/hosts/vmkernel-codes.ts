/** Status codes of the ESX kernel: what a number or a name in a host's answer means, and what to do about it. */
import { nearNames } from '../model/near-names.ts';
import { VMKERNEL_ADVICE } from './vmkernel-advice.ts';
import { VMKERNEL_ROWS } from './vmkernel-table.ts';

export interface VmkernelCode {
  /** 0, 0xbad0001 .. 0xbad00f0 or 0x2bad0000. */
  number: number;
  /** `0xbad0023`; `0` for the one that is no error. */
  hex: string;
  /** `VMK_FS_LOCKED` */
  name: string;
  /** The errno that programs on the host see; `OK` for none. */
  errno: string;
  meaning: string;
  /** What to do; null where nothing better than the meaning can be said. */
  advice: string | null;
}

const FIRST = 0xbad0000;
const GENERIC_LINUX_ERROR = 0x2bad0000;

/** All codes, by number. */
export const VMKERNEL_CODES: readonly VmkernelCode[] = [
  ...VMKERNEL_ROWS.map(([name, errno, meaning], at) =>
    codeOf(at === 0 ? 0 : FIRST + at, name, errno, meaning),
  ),
  codeOf(GENERIC_LINUX_ERROR, 'GENERIC_LINUX_ERROR', 'EIO', "an error of the service console's Linux"),
];

function codeOf(number: number, name: string, errno: string, meaning: string): VmkernelCode {
  const hex = number === 0 ? '0' : `0x${number.toString(16)}`;
  return { number, hex, name: `VMK_${name}`, errno, meaning, advice: VMKERNEL_ADVICE.get(name) ?? null };
}

const BY_NUMBER = new Map(VMKERNEL_CODES.map((code) => [code.number, code]));
const BY_NAME = new Map(VMKERNEL_CODES.map((code) => [code.name, code]));

/** Longer texts are looked through up to here: a host may send any amount. */
const MOST_CHARACTERS = 65_536;
/** `0xbad0023`, `Status (bad0023)`, `195887139`, `VMK_FS_LOCKED`. */
const IN_TEXT = /\b(?:0x0*)?(2?bad0[0-9a-f]{3})\b|\b(1958\d{5}|732758016)\b|\b(VMK_[A-Z0-9_]+)\b/gi;

/** The codes that stand in a text, each once, in their order; VMK_OK only by its name. */
export function vmkernelCodesIn(text: string): VmkernelCode[] {
  const found = new Set<VmkernelCode>();
  for (const [, hex, decimal, name] of text.slice(0, MOST_CHARACTERS).matchAll(IN_TEXT)) {
    const code =
      name === undefined
        ? BY_NUMBER.get(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16))
        : BY_NAME.get(name.toUpperCase());
    if (code !== undefined) found.add(code);
  }
  return [...found];
}

/** `0xbad0023 VMK_FS_LOCKED: the file is locked by someone else (what to do)` */
export function vmkernelLine({ hex, name, meaning, advice }: VmkernelCode): string {
  return `${hex} ${name}: ${meaning}${advice === null ? '' : ` (${advice})`}`;
}

/** A message with what the codes in it, or in the output it is about, mean; unchanged where there is none. */
export function withVmkernelCodes(message: string, output = ''): string {
  const errors = vmkernelCodesIn(`${message}\n${output}`).filter(({ number }) => number !== 0);
  return errors.length === 0 ? message : `${message}; ${errors.slice(0, 3).map(vmkernelLine).join('; ')}`;
}

export interface Explained {
  codes: VmkernelCode[];
  /** Where no code was found: those that may be meant, */
  near: VmkernelCode[];
  /** and why there is none, in one line. */
  reason: string | null;
}

/** What a person typed or pasted: a number (hexadecimal with or without `0x`, decimal), a name, a whole line. */
export function explainVmkernel(typed: string): Explained {
  const text = typed.trim();
  const alone = aloneIn(text);
  const codes = alone === undefined ? vmkernelCodesIn(text) : [alone];
  if (codes.length > 0) return { codes, near: [], reason: null };
  const near = nearTo(text);
  return { codes, near, reason: reasonOf(text) };
}

function aloneIn(text: string): VmkernelCode | undefined {
  if (/^(0x)?0+$/i.test(text)) return BY_NUMBER.get(0);
  if (/^\d{9,10}$/.test(text)) return BY_NUMBER.get(Number(text));
  const name = text.toUpperCase().replace(/^(VMK_)?/, 'VMK_');
  return BY_NAME.get(name);
}

/** Names alike; a small number may be the end of a code (`0x23`, `bad23`). */
function nearTo(text: string): VmkernelCode[] {
  const [, hex] = /^(?:0x)?(?:bad)?0*([0-9a-f]{1,2})$/i.exec(text) ?? [];
  const byEnd = hex === undefined ? undefined : BY_NUMBER.get(FIRST + Number.parseInt(hex, 16));
  const names = nearNames(text.toUpperCase().replace(/^(VMK_)?/, 'VMK_'), BY_NAME.keys());
  const byName = names.map((name) => BY_NAME.get(name)).filter((code) => code !== undefined);
  return byEnd === undefined ? byName : [byEnd, ...byName];
}

function reasonOf(text: string): string {
  const [, hex] = /\b(?:0x0*)?(2?bad[0-9a-f]{4})\b/i.exec(text) ?? [];
  const decimal = /^\d{9,10}$/.test(text) ? Number(text) : Number.NaN;
  const number = hex === undefined ? decimal : Number.parseInt(hex, 16);
  if (number >= FIRST && number <= FIRST + 0xffff) {
    const last = (FIRST + VMKERNEL_ROWS.length - 1).toString(16);
    return `0x${number.toString(16)} has the form of a vmkernel code, but the ones known end at 0x${last}: newer hosts have more`;
  }
  return 'no vmkernel code is in it: expected a number such as 0xbad0023 or 195887139, a name such as VMK_FS_LOCKED, or a line with one';
}

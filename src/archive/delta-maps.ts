/** Lines of part `maps` of a DELTA (FORMAT.md section 9): printed and parsed one at a time, so size does not matter. */
import { PhdError } from '../errors.ts';
import { DIGEST_BYTES, ZERO_MARK } from './geometry.ts';
import { parseDecimal } from './text-record.ts';

/** A run of blocks of one kind: `u` as in the FULL, `c` from part blocks, `z` zero. */
export interface PlanRun {
  kind: 'u' | 'c' | 'z';
  start: number;
  count: number;
  /** Of the run's members; 0 for `z`, and for `u` of an lzop FULL. */
  offsetBytes: number;
  sizeBytes: number;
}

export interface PayloadBlock {
  block: number;
  memberBytes: number;
  digest: Buffer;
}

export interface RegionDigests {
  region: number;
  disk: Buffer;
  full: Buffer;
}

export type MapsLine =
  | { key: 'phd-maps' }
  | { key: 'digest'; of: 'full' | 'disk'; digest: Buffer }
  | { key: 'p'; run: PlanRun }
  | { key: 'b'; entry: PayloadBlock }
  | { key: 'r'; entry: RegionDigests }
  | { key: 'end'; lines: number };

export function digestText(digest: Buffer): string {
  return digest.equals(ZERO_MARK) ? '0' : digest.toString('hex');
}

function digestOf(text: string | undefined): Buffer {
  if (text === '0') return ZERO_MARK;
  if (!/^[0-9a-f]{64}$/.test(text ?? '')) throw damaged('a digest is malformed');
  return Buffer.from(text as string, 'hex');
}

export function printPlanRun(run: PlanRun): string {
  const place = run.kind === 'z' ? '' : ` ${run.offsetBytes} ${run.sizeBytes}`;
  return `p ${run.kind} ${run.start} ${run.count}${place}\n`;
}

export function printPayloadBlock(entry: PayloadBlock): string {
  return `b ${entry.block} ${entry.memberBytes} ${digestText(entry.digest)}\n`;
}

export function printRegionDigests(entry: RegionDigests): string {
  const full = entry.full.equals(entry.disk) ? '=' : digestText(entry.full);
  return `r ${entry.region} ${digestText(entry.disk)} ${full}\n`;
}

/** Throws ARCHIVE_DAMAGED. */
export function parseMapsLine(text: string): MapsLine {
  const fields = text.split(' ');
  const number = (at: number): number => parseDecimal(fields[at] ?? '', 'maps');
  const requireCount = (count: number): void => {
    if (fields.length !== count) throw damaged('a line has the wrong number of fields');
  };
  switch (fields[0]) {
    case 'phd-maps':
      if (text !== 'phd-maps 1') throw damaged('its version is unknown');
      return { key: 'phd-maps' };
    case 'digest': {
      requireCount(3);
      const of = fields[1];
      if (of !== 'full' && of !== 'disk') throw damaged('a digest line is malformed');
      const digest = digestOf(fields[2]);
      if (digest.length !== DIGEST_BYTES) throw damaged('a digest line is malformed');
      return { key: 'digest', of, digest };
    }
    case 'p': {
      const kind = fields[1];
      if (kind !== 'u' && kind !== 'c' && kind !== 'z') throw damaged('a plan line is malformed');
      requireCount(kind === 'z' ? 4 : 6);
      const isPlaced = kind !== 'z';
      const run: PlanRun = {
        kind,
        start: number(2),
        count: number(3),
        offsetBytes: isPlaced ? number(4) : 0,
        sizeBytes: isPlaced ? number(5) : 0,
      };
      return { key: 'p', run };
    }
    case 'b':
      requireCount(4);
      return { key: 'b', entry: { block: number(1), memberBytes: number(2), digest: digestOf(fields[3]) } };
    case 'r': {
      requireCount(4);
      const disk = digestOf(fields[2]);
      return {
        key: 'r',
        entry: { region: number(1), disk, full: fields[3] === '=' ? disk : digestOf(fields[3]) },
      };
    }
    case 'end':
      requireCount(2);
      return { key: 'end', lines: number(1) };
    default:
      throw damaged('a line is of no known kind');
  }
}

function damaged(what: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `part maps of the DELTA: ${what}`);
}

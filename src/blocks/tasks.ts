/** What the main thread asks of a block worker, and what comes back. Bulk data stays in the shared slots. */
import type { ErrorCode } from '../errors.ts';
import type { Codec } from '../model/archive.ts';

/** Blocks handled by one task: enough to pay for the message, few enough to keep the slots small. */
export const BATCH_BLOCKS = 8;

/** Memory shared by all threads: `raw` holds plain blocks, `packed` members or frames, BATCH_BLOCKS of each. */
export interface Slot {
  index: number;
  raw: Buffer;
  packed: Buffer;
}

export interface WorkerSetup {
  blockBytes: number;
  raw: SharedArrayBuffer[];
  packed: SharedArrayBuffer[];
}

export interface Packing {
  codec: Exclude<Codec, 'lzop'>;
  level: number;
}

/**
 * Blocks `blocks` (ascending) of the disk open as `fd`; each has blockBytes but for the last of the disk. With fd -1
 * they lie in `raw` already, blockBytes apart.
 */
interface DiskBlocks {
  slot: number;
  fd: number;
  diskBytes: number;
  blocks: number[];
}

export type Task =
  /** Read and digest; with `packing` also write members into `packed`. */
  | ({ kind: 'pack'; packing: Packing | null } & DiskBlocks)
  /** Read a whole region, a batch at a time, and compare its blocks with those of the FULL. */
  | {
      kind: 'scan';
      slot: number;
      fd: number;
      diskBytes: number;
      firstBlock: number;
      count: number;
      /** Of the FULL: 32 bytes a block, and of the region. */
      fullDigests: Uint8Array;
      fullRegionDigest: Uint8Array;
    }
  /**
   * Hash so many zeros, then what lies in `raw`, into the running region digest. One worker does all of these, in
   * order. A region of zeros alone needs none.
   */
  | {
      kind: 'region';
      slot: number;
      zeroBytesBefore: number;
      bytes: number;
      /** First of its region: what a scan that was given up left behind is dropped. */
      isFirst: boolean;
      isLast: boolean;
    }
  /** Check members in `packed` (one after the other) and write their blocks to the disk. */
  | ({
      kind: 'unpack';
      codec: Exclude<Codec, 'lzop'>;
      memberBytes: number[];
      digests: Uint8Array;
      check: boolean;
    } & DiskBlocks)
  /** Check plain blocks in `raw` and write them to the disk. */
  | ({ kind: 'place'; digests: Uint8Array; check: boolean } & DiskBlocks)
  /** Read blocks of the disk and compare with their digests. */
  | ({ kind: 'prove'; digests: Uint8Array } & DiskBlocks)
  /** Write zeros, where the disk holds anything else. */
  | ({ kind: 'zero' } & DiskBlocks);

export interface BlockFailure {
  block: number;
  reason: string;
}

export interface TaskResult {
  /** pack, scan: 32 bytes a block, zero marks included. */
  digests?: Uint8Array;
  /** scan: blocks that are not as in the FULL. */
  changedBlocks?: number;
  /** pack: bytes of each member. */
  memberBytes?: Uint32Array;
  /** region: the digest, when it was the last piece; scan: the digest. */
  regionDigest?: Uint8Array;
  /** unpack, place, prove: blocks that are not what their digest says. They were not written. */
  failures?: BlockFailure[];
  /** zero: blocks that had to be written. */
  writtenBlocks?: number;
}

export interface TaskError {
  /** Translated where it arose: an error loses its errno between threads. */
  code: ErrorCode;
  message: string;
}

export type WorkerReply = { id: number; result: TaskResult } | { id: number; error: TaskError };

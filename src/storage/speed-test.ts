/** Measures a target with zeros, up and then down: the most that line, server and its disks give. */
import { randomUUID } from 'node:crypto';
import { PhdError } from '../errors.ts';
import type { Storage } from './storage.ts';
import { zeros } from './target-test.ts';
import { withCleanUpOwed } from './upload-proof.ts';

export const SPEED_TEST_BYTES = 200 * 1000 * 1000;

export interface SpeedTestOptions {
  /** Default 200 MB. */
  bytes?: number;
  progress?: (direction: 'up' | 'down', bytes: number, totalBytes: number) => void;
  signal?: AbortSignal;
}

export interface SpeedTestResult {
  bytes: number;
  upBytesPerSecond: number;
  downBytesPerSecond: number;
  /** What to look at if it is slow, one sentence each; empty if it is not. */
  advice: string[];
}

/** Less than this is slow, says the manual: "a couple of meg a second". */
const SLOW_BYTES_PER_SECOND = 2_000_000;
/** What a link of 100 Mbit/s can give. */
const FAST_ETHERNET_BYTES_PER_SECOND = 12_500_000;

/** Throws what the target throws; the test file is removed in any case, or named as clean-up owed. */
export async function speedTest(storage: Storage, options: SpeedTestOptions = {}): Promise<SpeedTestResult> {
  const bytes = options.bytes ?? SPEED_TEST_BYTES;
  const path = `phd-speed-test-${randomUUID()}.part`;
  const { signal, progress } = options;
  let uploadEnd = 0;
  const uploadBegin = performance.now();
  await storage.write(path, zeros(bytes), {
    ...(signal ? { signal } : {}),
    readBack: 'tail',
    onBytes: (done) => {
      progress?.('up', done, bytes);
    },
  });
  uploadEnd = performance.now();
  let downloadMs = 0;
  try {
    const begin = performance.now();
    let done = 0;
    for await (const chunk of storage.read(path, { offsetBytes: 0, lengthBytes: bytes }, signal)) {
      done += chunk.length;
      progress?.('down', done, bytes);
    }
    downloadMs = performance.now() - begin;
  } catch (error) {
    if (!(error instanceof PhdError)) throw error;
    throw await storage.remove(path).then(
      () => error,
      (why: unknown) => withCleanUpOwed(error, path, why),
    );
  }
  await storage.remove(path);
  const upBytesPerSecond = rate(bytes, uploadEnd - uploadBegin);
  const downBytesPerSecond = rate(bytes, downloadMs);
  return {
    bytes,
    upBytesPerSecond,
    downBytesPerSecond,
    advice: adviceFor(storage, upBytesPerSecond, downBytesPerSecond),
  };
}

function rate(bytes: number, milliseconds: number): number {
  return Math.round((bytes * 1000) / Math.max(1, milliseconds));
}

/** The manual's questions for a slow target. */
export function adviceFor(storage: Pick<Storage, 'transport'>, up: number, down: number): string[] {
  const slowest = Math.min(up, down);
  if (slowest >= FAST_ETHERNET_BYTES_PER_SECOND) return [];
  const advice: string[] = [];
  if (slowest < SLOW_BYTES_PER_SECOND) {
    advice.push('Less than 2 MB/s: something is wrong. Is the server out of space, or are its disks busy?');
    if (storage.transport !== 'vmfs') {
      advice.push(
        'Is the duplex setting of the network cards right on both ends? Does the switch count errors?',
      );
      advice.push("Try the server's address instead of its name.");
    }
  }
  if (storage.transport !== 'vmfs') {
    advice.push(
      'A link of 100 Mbit/s gives at most 12.5 MB/s: a gigabit card and switch make backups faster.',
    );
  }
  return advice;
}

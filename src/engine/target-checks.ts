/** Test and speed test of a configured target; a measured rate is kept for the choice among copies. */
import { PhdError } from '../errors.ts';
import type { SpeedTestResult } from '../storage/speed-test.ts';
import type { TargetTestResult, TargetTestStep } from '../storage/target-test.ts';
import type { EngineContext } from './context.ts';
import type { ProgressEvent } from './progress.ts';
import { Progress } from './progress.ts';

export type { SpeedTestResult } from '../storage/speed-test.ts';
export type { TargetTestResult, TargetTestStep } from '../storage/target-test.ts';

/** Tries all that a target must be able to do. Failures are steps of the result. Throws NOT_FOUND, CANCELLED. */
export async function testTarget(
  context: EngineContext,
  targetNumber: number,
  options: { largeFile?: boolean; signal?: AbortSignal; onStep?: (step: TargetTestStep) => void } = {},
): Promise<TargetTestResult> {
  const storage = await context.storage(targetNumber);
  const settings = context.config.targets.find((one) => one.number === targetNumber);
  const { testTarget: test } = await import('../storage/target-test.ts');
  return test(storage, { ...options, ...(settings === undefined ? {} : { settings }) });
}

/** Writes and reads 200 MB of zeros and keeps the rate of reading. Throws what the target throws. */
export async function speedTestTarget(
  context: EngineContext,
  targetNumber: number,
  options: { signal?: AbortSignal; onProgress?: (event: ProgressEvent) => void } = {},
): Promise<SpeedTestResult> {
  const storage = await context.storage(targetNumber);
  if (storage.readOnly) {
    throw new PhdError('TARGET_REFUSED', `target ${targetNumber} (${storage.name}) is set to readOnly`);
  }
  const { SPEED_TEST_BYTES, speedTest } = await import('../storage/speed-test.ts');
  const counters = new Map<string, Progress>();
  const result = await speedTest(storage, {
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    progress: (direction, bytes) => {
      let counter = counters.get(direction);
      if (counter === undefined) {
        const about = {
          label: `${storage.name} ${direction}`,
          phase: direction,
          totalBytes: SPEED_TEST_BYTES,
        };
        counter = new Progress(options.onProgress, about);
        counters.set(direction, counter);
      }
      counter.add(bytes - counter.bytes);
    },
  });
  context.index.recordRate(targetNumber, result.downBytesPerSecond);
  return result;
}

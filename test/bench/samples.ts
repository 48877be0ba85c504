/** What was measured: samples of one program in one job, and what failed. */

export interface Sample {
  seconds: number;
  /** Peak resident memory of the process; null where it was not looked at. */
  peakBytes: number | null;
}

export interface Measured {
  job: string;
  program: string;
  isOurs: boolean;
  samples: Sample[];
  medianSeconds: number;
  leastSeconds: number;
  mostSeconds: number;
  peakBytes: number | null;
}

export interface Failure {
  job: string;
  program: string;
  isOurs: boolean;
  reason: string;
}

/** Middle value, mean of the two middle ones; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(half)] ?? Number.NaN)
    : ((sorted[half - 1] ?? 0) + (sorted[half] ?? 0)) / 2;
}

export class Samples {
  readonly #byKey = new Map<string, { job: string; program: string; isOurs: boolean; samples: Sample[] }>();
  readonly failures: Failure[] = [];

  add(job: string, program: string, isOurs: boolean, sample: Sample): void {
    const key = `${job}\n${program}`;
    const entry = this.#byKey.get(key) ?? { job, program, isOurs, samples: [] };
    entry.samples.push(sample);
    this.#byKey.set(key, entry);
  }

  /** Keeps the first reason of each program in each job. */
  fail(failure: Failure): void {
    const isKnown = this.failures.some(
      (one) => one.job === failure.job && one.program === failure.program && one.reason === failure.reason,
    );
    if (!isKnown) this.failures.push(failure);
  }

  /** By job in the order of their first sample. */
  all(): Measured[] {
    return [...this.#byKey.values()].map(({ job, program, isOurs, samples }) => {
      const seconds = samples.map((one) => one.seconds);
      const peaks = samples.map((one) => one.peakBytes).filter((one) => one !== null);
      return {
        job,
        program,
        isOurs,
        samples,
        medianSeconds: median(seconds),
        leastSeconds: Math.min(...seconds),
        mostSeconds: Math.max(...seconds),
        peakBytes: peaks.length === 0 ? null : Math.max(...peaks),
      };
    });
  }

  find(job: string, program: string): Measured | undefined {
    return this.all().find((one) => one.job === job && one.program === program);
  }
}

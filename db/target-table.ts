/** The targets as the index knows them: their place, when they were listed, how that ended, how fast they read. */
import type { Transport } from '../src/model/archive.ts';
import { type ListingOutcome, type TargetState, targetOfRow } from './archive-rows.ts';
import { IndexFile } from './index-file.ts';

export class TargetTable extends IndexFile {
  /** Makes the table of targets agree with the configuration; rows of targets that are gone or moved go. */
  syncTargets(
    targets: readonly { number: number; name: string; transport: Transport; place: string }[],
  ): void {
    const known = this.targets();
    const isSame =
      known.length === targets.length &&
      known.every((state) =>
        targets.some(
          (one) =>
            one.number === state.number &&
            one.name === state.name &&
            one.place === state.place &&
            one.transport === state.transport,
        ),
      );
    if (isSame) return;
    this.transaction(() => {
      const drop = this.database.prepare('DELETE FROM targets WHERE number = ?');
      const put = this.database.prepare(
        `INSERT INTO targets (number, name, transport, place) VALUES (@number, @name, @transport, @place)
           ON CONFLICT (number) DO UPDATE SET name = excluded.name`,
      );
      for (const state of known) {
        const target = targets.find((one) => one.number === state.number);
        if (target?.place !== state.place || target.transport !== state.transport) drop.run(state.number);
      }
      for (const { number, name, transport, place } of targets) put.run({ number, name, transport, place });
    });
  }

  /** State of the index of each target, by number. */
  targets(): TargetState[] {
    return this.rows('SELECT * FROM targets ORDER BY number').map(targetOfRow);
  }

  /** Records how a listing of a target ended; the time of the last complete one stays. */
  finishTarget(end: {
    number: number;
    triedMs: number;
    outcome: ListingOutcome;
    error: string | null;
  }): void {
    this.run(
      `UPDATE targets SET tried_ms = @triedMs, outcome = @outcome, error = @error,
         listed_ms = CASE @outcome WHEN 'complete' THEN @triedMs ELSE listed_ms END WHERE number = @number`,
      { ...end },
    );
  }

  /** Keeps a measured rate of reading from a target, for the choice among copies. */
  recordRate(targetNumber: number, bytesPerSecond: number): void {
    this.run('UPDATE targets SET bytes_per_second = @rate WHERE number = @targetNumber', {
      targetNumber,
      rate: Math.round(bytesPerSecond),
    });
  }

  /** Numbers of all targets, ascending. */
  protected numbers(): number[] {
    return this.statement('SELECT number FROM targets ORDER BY number').pluck().all() as number[];
  }
}

/**
 * The full screen of the console over data of its own: a menu that opens each kind of view, so that their bytes, times
 * and behaviour can be measured without a restore. One argument: StageOptions as JSON. At its end it writes a
 * StageReport to the file that was named.
 */
import { writeFileSync } from 'node:fs';
import { UNKNOWN_STATE } from '../../menus/state.ts';
import { FullFace } from '../../screens/full/full-face.ts';
import { chooseLook, type LookWords, terminalName } from '../../screens/look.ts';
import { Stage, type StageData } from './stage-views.ts';

export interface StageOptions extends StageData {
  words?: LookWords;
  report?: string;
}

export interface StageReport {
  /** Longest time that the event loop was not at hand. */
  worstGapMs: number;
  /** Most bytes that waited in the output at once. */
  mostQueuedBytes: number;
  residentBytes: number;
}

/** Looks at the loop every few milliseconds. */
function watchLoop(report: StageReport): NodeJS.Timeout {
  const everyMs = 5;
  let lastMs = performance.now();
  return setInterval(() => {
    const nowMs = performance.now();
    report.worstGapMs = Math.max(report.worstGapMs, nowMs - lastMs - everyMs);
    report.mostQueuedBytes = Math.max(report.mostQueuedBytes, process.stdout.writableLength);
    report.residentBytes = Math.max(report.residentBytes, process.memoryUsage.rss());
    lastMs = nowMs;
  }, everyMs);
}

const options = JSON.parse(process.argv[2] ?? '{}') as StageOptions;
const name = terminalName(process.env);
if (!('name' in name)) throw new Error(name.whyNone);
const face = new FullFace({
  terminalName: name.name,
  streams: process,
  env: process.env,
  look: chooseLook(process.env, null, options.words),
  state: () => UNKNOWN_STATE,
  onGone: () => process.exit(129),
});
const report: StageReport = { worstGapMs: 0, mostQueuedBytes: 0, residentBytes: 0 };
// What is loaded and painted first is no gap of the work.
const watching = options.report === undefined ? undefined : setTimeout(() => watchLoop(report), 500);
await new Stage(face, options).run();
clearTimeout(watching);
await face.close();
if (options.report !== undefined) writeFileSync(options.report, JSON.stringify(report));
process.exit(0);

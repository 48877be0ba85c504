/** Progress on standard error: a bar on a terminal, a line every few seconds elsewhere; JSON lines with --json. */
import type { SingleBar } from 'cli-progress';
import { cutToWidth, escapeText, formatSeconds } from '../engine/display-text.ts';

/** Figures of one moment; rates in bytes a second. */
export interface ProgressFigures {
  label: string;
  /** Stable names for JSON lines, where they are known. */
  archive?: string;
  disk?: string;
  percent: number;
  bytes: number;
  totalBytes: number;
  bytesPerSecond: number;
  meanBytesPerSecond: number;
  elapsedSeconds: number;
  /** null until it can be told. */
  remainingSeconds: number | null;
}

export interface ProgressView {
  show(figures: ProgressFigures): void;
  /** Takes the bar off the screen; safe to repeat. */
  end(): void;
}

const LINE_EVERY_MS = 5000;
const MB = 1024 * 1024;

/** Chooses the view that suits the stream. `write` of JSON lines is that of standard output. */
export async function openProgress(
  streams: { stdout: NodeJS.WritableStream; stderr: NodeJS.WriteStream },
  isJson: boolean,
  nowMs: () => number = () => performance.now(),
): Promise<ProgressView> {
  if (isJson) return jsonView(streams.stdout, nowMs);
  if (streams.stderr.isTTY) return barView(streams.stderr);
  return lineView(streams.stderr, nowMs);
}

/** `Exchange.vmdk: 45 %, 2300 of 5120 MB, 14.0 MB/s (mean 13.1), elapsed 02:41, remaining 03:21`; `web.xva: 2300 MB, ...`: no total. */
export function progressLine(figures: ProgressFigures): string {
  const { bytes, totalBytes, bytesPerSecond, meanBytesPerSecond, elapsedSeconds, remainingSeconds } = figures;
  const remaining = remainingSeconds === null ? '' : `, remaining ${formatSeconds(remainingSeconds)}`;
  const done =
    totalBytes === 0 && bytes > 0
      ? `${Math.floor(bytes / MB)} MB`
      : `${Math.floor(figures.percent)} %, ${Math.floor(bytes / MB)} of ${Math.ceil(totalBytes / MB)} MB`;
  return (
    `${escapeText(figures.label)}: ${done}, ${(bytesPerSecond / MB).toFixed(1)} MB/s ` +
    `(mean ${(meanBytesPerSecond / MB).toFixed(1)}), elapsed ${formatSeconds(elapsedSeconds)}${remaining}`
  );
}

function lineView(stream: NodeJS.WritableStream, nowMs: () => number): ProgressView {
  const isDue = pacer(nowMs);
  return {
    show(figures) {
      if (isDue(figures)) stream.write(`${progressLine(figures)}\n`);
    },
    end() {},
  };
}

/** Keys that every JSON line has. */
const NO_NAMES = { event: 'progress', archive: null, disk: null, code: null, message: null };

function jsonView(stream: NodeJS.WritableStream, nowMs: () => number): ProgressView {
  const isDue = pacer(nowMs);
  return {
    show(figures) {
      if (isDue(figures)) stream.write(`${JSON.stringify({ ...NO_NAMES, ...figures })}\n`);
    },
    end() {},
  };
}

async function barView(stream: NodeJS.WriteStream): Promise<ProgressView> {
  const { default: cliProgress } = await import('cli-progress');
  let bar: SingleBar | undefined;
  return {
    show(figures) {
      if (bar === undefined) {
        const columns = stream.columns || 80;
        bar = new cliProgress.SingleBar({
          stream,
          clearOnComplete: true,
          hideCursor: true,
          fps: 4,
          format: (_options, _parameters, payload) => barText(payload as ProgressFigures, columns),
        });
        bar.start(100, 0, figures);
      }
      bar.update(Math.min(100, figures.percent), figures);
    },
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}

const BAR_COLUMNS = 12;

function barText(figures: ProgressFigures, columns: number): string {
  const full = Math.round((Math.min(100, Math.max(0, figures.percent)) / 100) * BAR_COLUMNS);
  const bar = `[${'#'.repeat(full)}${'.'.repeat(BAR_COLUMNS - full)}] `;
  return cutToWidth(bar + progressLine(figures), columns - 1);
}

/** True for the first figures of a label, then every few seconds, and for 100 %. */
function pacer(nowMs: () => number): (figures: ProgressFigures) => boolean {
  let label: string | undefined;
  let percent = -1;
  let shownMs = 0;
  return (figures) => {
    const isEnd = figures.percent >= 100 && percent < 100;
    const isNew = figures.label !== label;
    if (!isNew && !isEnd && nowMs() - shownMs < LINE_EVERY_MS) return false;
    label = figures.label;
    percent = figures.percent;
    shownMs = nowMs();
    return true;
  };
}

/** The growth table as an SVG: seconds over used GiB, and peak MiB over the size of the disk. */
import type { GrowthRow, Operation } from './growth.ts';

const OPERATIONS: { name: Operation; colour: string }[] = [
  { name: 'FULL', colour: '#1f77b4' },
  { name: 'DELTA', colour: '#2ca02c' },
  { name: 'restore', colour: '#d62728' },
  { name: 'verify', colour: '#9467bd' },
];
const PANEL = { width: 380, height: 260, left: 60, top: 40 } as const;
const MEMORY_LIMIT_MIB = 256;

interface Series {
  name: string;
  colour: string;
  points: { x: number; y: number }[];
}

/** Both panels side by side; axes begin at 0, the second x axis is logarithmic where a sparse disk makes it long. */
export function drawGrowth(rows: readonly GrowthRow[]): string {
  const real = rows.filter((row) => !row.isSparse);
  const seconds = seriesOf(
    real,
    (row) => row.usedBytes / 1024 ** 3,
    (row, one) => row.seconds[one],
  );
  const memory = seriesOf(
    rows,
    (row) => Math.log2(row.diskBytes / 1024 ** 2),
    (row, one) => (row.peakBytes[one] ?? Number.NaN) / 1024 ** 2,
  );
  const limit: Series = { name: 'goal', colour: '#999999', points: [] };
  const xs = memory.flatMap((one) => one.points.map((point) => point.x));
  if (xs.length > 0)
    limit.points = [Math.min(...xs), Math.max(...xs)].map((x) => ({ x, y: MEMORY_LIMIT_MIB }));
  const width = 2 * (PANEL.width + PANEL.left) + 40;
  const height = PANEL.height + PANEL.top + 60;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    panel(0, 'seconds, by GiB in use', seconds, 0, (x) => x.toFixed(1)),
    panel(PANEL.width + PANEL.left, 'peak MiB, by size of the disk', [...memory, limit], null, sizeLabel),
    '</svg>',
    '',
  ].join('\n');
}

function seriesOf(
  rows: readonly GrowthRow[],
  x: (row: GrowthRow) => number,
  y: (row: GrowthRow, one: Operation) => number | undefined,
): Series[] {
  return OPERATIONS.map(({ name, colour }) => ({
    name,
    colour,
    points: rows
      .map((row) => ({ x: x(row), y: y(row, name) ?? Number.NaN }))
      .filter((point) => !Number.isNaN(point.y))
      .sort((a, b) => a.x - b.x),
  }));
}

function sizeLabel(log2Mib: number): string {
  const mib = 2 ** log2Mib;
  if (mib >= 1024 ** 2) return `${(mib / 1024 ** 2).toFixed(0)} TiB`;
  return mib >= 1024 ? `${(mib / 1024).toFixed(0)} GiB` : `${mib.toFixed(0)} MiB`;
}

function panel(
  shift: number,
  title: string,
  series: readonly Series[],
  fromX: number | null,
  label: (x: number) => string,
): string {
  const points = series.flatMap((one) => one.points);
  const xs = points.map((point) => point.x);
  const least = fromX ?? Math.min(...xs);
  const spanX = Math.max(...xs) - least || 1;
  const mostY = niceTop(Math.max(1e-9, ...points.map((point) => point.y)));
  const left = shift + PANEL.left;
  const bottom = PANEL.top + PANEL.height;
  const px = (x: number): string => (left + ((x - least) / spanX) * (PANEL.width - 60)).toFixed(1);
  const py = (y: number): string => (bottom - (y / mostY) * PANEL.height).toFixed(1);
  const lines = [`<text x="${left}" y="${PANEL.top - 16}" font-weight="bold">${title}</text>`];
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const y = py(part * mostY);
    lines.push(`<line x1="${left}" x2="${left + PANEL.width - 60}" y1="${y}" y2="${y}" stroke="#dddddd"/>`);
    lines.push(`<text x="${left - 6}" y="${y}" text-anchor="end" dy="4">${tick(part * mostY)}</text>`);
  }
  for (const x of new Set(xs)) {
    lines.push(`<text x="${px(x)}" y="${bottom + 18}" text-anchor="middle">${label(x)}</text>`);
  }
  series.forEach(({ name, colour, points: own }, at) => {
    if (own.length === 0) return;
    const path = own.map((point) => `${px(point.x)},${py(point.y)}`).join(' ');
    lines.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of own)
      lines.push(`<circle cx="${px(point.x)}" cy="${py(point.y)}" r="3" fill="${colour}"/>`);
    lines.push(`<text x="${left + at * 62}" y="${bottom + 42}" fill="${colour}">${name}</text>`);
  });
  return lines.join('\n');
}

function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((top) => top >= value) ?? 10 * power;
}

function tick(value: number): string {
  return String(Number(value.toPrecision(3)));
}

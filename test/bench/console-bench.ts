/**
 * What the console costs a line and a person: bytes beside those of dialog and whiptail on the same rows, time to the
 * first paint, a list over a million archives, a reader that stalls. `npm run bench:console [-- --archives N] [--runs N]
 * [--keep FOLDER]`: the filled index stays in FOLDER and is used again.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { IndexDb } from '../../db/index-db.ts';
import { type ConsolePty, type ConsolePtyOptions, closeAll, MAIN, open } from '../support/console-pty.ts';
import { type Peer, peer } from '../support/peers.ts';
import { vmName } from './archive-names.ts';
import type { StageOptions, StageReport } from './console-stage.ts';
import { ARCHIVES_OF_A_VM, fillIndex, TARGETS } from './name-filter.ts';
import { median } from './samples.ts';
import { stageRow } from './stage-views.ts';

const STAGE = fileURLToPath(new URL('console-stage.js', import.meta.url));
const TERMS = ['xterm-256color', 'linux', 'putty-256color'] as const;
const LIST_ROWS = 40;
/** A program has painted when nothing comes for so long. */
const PAINTED_MS = 250;
const KEY_MS = 60;
const STALL_MS = 4_000;

/** Bytes of one program on one terminal; null: it has no such thing, or does not start there. */
interface Bytes {
  firstPaint: number | null;
  downInView: number | null;
  downScrolling: number | null;
  question: number | null;
  gauge: number | null;
}

interface Goal {
  what: string;
  value: number;
  limit: number;
  unit: string;
}

const HEADINGS: Record<keyof Bytes, { title: string; limit: number }> = {
  firstPaint: { title: 'first paint', limit: 1_800 },
  downInView: { title: 'Down in view', limit: 60 },
  downScrolling: { title: 'Down scrolling', limit: 150 },
  question: { title: 'yes/no', limit: 900 },
  gauge: { title: 'progress', limit: 60 },
};

function print(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** Mean bytes of each of these keys, pressed one by one, in the mode of the cursor keys that the program wants. */
async function meanOf(shown: ConsolePty, key: string, times: number): Promise<number> {
  let bytes = 0;
  for (let at = 0; at < times; at++) {
    shown.forgetBytes();
    if (key === 'down' && shown.modes.hasApplicationCursor) shown.write('\x1bOB');
    else shown.press(key);
    await shown.waitForQuiet(KEY_MS);
    bytes += shown.bytes.length;
  }
  return Math.round(bytes / times);
}

/** First paint of a program; null if it ends at once, as those do that do not know the terminal. */
async function firstPaintOf(shown: ConsolePty): Promise<number | null> {
  try {
    await shown.waitForBytes('\x1b', 5_000);
  } catch {
    return null;
  }
  await shown.waitForQuiet(PAINTED_MS);
  return shown.isRunning ? shown.bytes.length : null;
}

async function ourBytes(term: string): Promise<Bytes> {
  const options: StageOptions = { words: { look: 'thin' }, listRows: LIST_ROWS, stepMs: 1_000 };
  const shown = open({ term, command: [process.execPath, STAGE, JSON.stringify(options)] });
  await shown.waitFor('answer: none yet');
  await shown.waitForQuiet(PAINTED_MS);
  const begin = shown.bytes.length;
  shown.press('l');
  await shown.waitFor('archive-0001');
  await shown.waitForQuiet(PAINTED_MS);
  // The whole of what a tool pays that starts with this list: its begin as well.
  const firstPaint = Math.max(begin, shown.bytes.length);
  const downInView = await meanOf(shown, 'down', 17);
  const downScrolling = await meanOf(shown, 'down', 15);
  shown.press('ctrl-c');
  await shown.waitFor('list: back');
  await shown.waitForQuiet(KEY_MS);
  const question = (await meanOf(shown, 'y', 1)) + (await meanOf(shown, 'n', 1));
  shown.press('p');
  await shown.waitFor('0.3 %');
  const costs: number[] = [];
  for (let step = 4; step <= 8; step++) {
    shown.forgetBytes();
    await shown.waitFor(` ${(step / 10).toFixed(1)} %`);
    await shown.waitForFrame();
    costs.push(shown.bytes.length);
  }
  await shown.close();
  const gauge = Math.round(costs.reduce((sum, one) => sum + one, 0) / costs.length);
  return { firstPaint, downInView, downScrolling, question, gauge };
}

/** A peer with the terminal descriptions of its package. */
function environmentOf({ env, root }: Peer): NodeJS.ProcessEnv {
  const folders = ['/etc/terminfo', '/lib/terminfo', '/usr/share/terminfo'];
  if (root !== null) folders.push(path.join(root, 'usr/share/terminfo'));
  return { ...env, TERMINFO_DIRS: folders.join(':') };
}

async function peerBytes(tool: Peer, term: string): Promise<Bytes> {
  const start = (...words: string[]): ConsolePty =>
    open({ term, env: environmentOf(tool), command: [tool.path, ...words] });
  const rows = Array.from({ length: LIST_ROWS }, (_, at) => [String(at + 1), stageRow(at)]).flat();
  const menu = (): ConsolePty => start('--menu', 'Archives', '24', '80', '16', ...rows);
  const list = menu();
  const firstPaint = await firstPaintOf(list);
  if (firstPaint === null) {
    await list.close();
    return { firstPaint, downInView: null, downScrolling: null, question: null, gauge: null };
  }
  const downInView = await meanOf(list, 'down', 14);
  await meanOf(list, 'down', 3);
  const downScrolling = await meanOf(list, 'down', 15);
  await list.close();
  const question = start('--yesno', 'Restore it?', '7', '60');
  const asked = await firstPaintOf(question);
  await question.close();
  return {
    firstPaint,
    downInView,
    downScrolling,
    // A script starts the question as a new process, and its menu anew after it.
    question: asked === null ? null : asked + firstPaint,
    gauge: await gaugeBytes(tool, term),
  };
}

/** A step of one percent, as a script feeds it. */
async function gaugeBytes(tool: Peer, term: string): Promise<number | null> {
  const feed = 'echo 10; sleep 1; for n in 11 12 13 14 15; do echo $n; sleep 0.3; done; sleep 5';
  const script = `(${feed}) | "$0" --gauge 'Restore web-flat.vmdk' 8 70 0`;
  const shown = open({
    term,
    env: environmentOf(tool),
    command: ['/bin/sh', '-c', script, tool.path],
  });
  if ((await firstPaintOf(shown)) === null) return null;
  shown.forgetBytes();
  await shown.waitFor('15%');
  await shown.waitForQuiet(KEY_MS);
  const bytes = Math.round(shown.bytes.length / 5);
  await shown.close();
  return bytes;
}

async function compareBytes(): Promise<Goal[]> {
  const tools: [string, Peer | undefined][] = [
    ['dialog', await peer('dialog')],
    ['whiptail', await peer('whiptail')],
  ];
  const goals: Goal[] = [];
  const columns = Object.entries(HEADINGS) as [keyof Bytes, { title: string; limit: number }][];
  print(
    `bytes, 80x24, ${LIST_ROWS} rows of 44 columns`.padEnd(38) +
      columns.map(([, one]) => one.title.padStart(15)).join(''),
  );
  for (const term of TERMS) {
    const table: [string, Bytes][] = [['phd (thin)', await ourBytes(term)]];
    for (const [name, tool] of tools) {
      if (tool === undefined) print(`${name} cannot be had`);
      else table.push([name, await peerBytes(tool, term)]);
    }
    for (const [name, bytes] of table) {
      const cells = columns.map(([key]) => String(bytes[key] ?? '-').padStart(15));
      print(`${term.padEnd(16)} ${name.padEnd(21)}${cells.join('')}`);
    }
    const [, ours] = table[0] as [string, Bytes];
    for (const [key, { title, limit }] of columns) {
      goals.push({ what: `${title}, ${term}`, value: ours[key] ?? Number.NaN, limit, unit: 'B' });
    }
  }
  return goals;
}

/** Milliseconds from the start of a process to what it paints. */
async function startMs(options: ConsolePtyOptions, until: string): Promise<number> {
  const startedMs = performance.now();
  const shown = open(options);
  await shown.waitForBytes(until);
  const tookMs = performance.now() - startedMs;
  await shown.close();
  return tookMs;
}

/** Bare node and the console in turns, so that a busy minute hits both. */
async function compareStart(home: string, runs: number): Promise<Goal[]> {
  const bare: number[] = [];
  const ours: number[] = [];
  for (let run = 0; run < runs; run++) {
    bare.push(await startMs({ command: [process.execPath, '-e', 'process.stdout.write("there")'] }, 'there'));
    ours.push(await startMs({ args: ['--thin'], env: { PHD_HOME: home } }, 'Main menu'));
  }
  const [bareMs, oursMs] = [median(bare), median(ours)];
  print();
  print(
    `start to first paint, median of ${runs}: bare node ${bareMs.toFixed(0)} ms, phd ${oursMs.toFixed(0)} ms`,
  );
  return [{ what: 'start, more than bare node', value: oursMs - bareMs, limit: 150, unit: 'ms' }];
}

/** A home with three targets whose index was listed just now. */
function makeHome(folder: string, archiveCount: number): string {
  const home = path.join(folder, `home-${archiveCount}`);
  const state = path.join(home, 'state');
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const targets = TARGETS.map(({ number, name, place }) => {
    return `  - { number: ${number}, name: ${JSON.stringify(name)}, transport: vmfs, path: ${JSON.stringify(place)} }`;
  });
  const settings = [
    'targets:',
    ...targets,
    `datastores: [ ${JSON.stringify(home)} ]`,
    'index: { maxAgeMinutes: 100000 }',
  ];
  writeFileSync(path.join(home, 'phd.yaml'), `${settings.join('\n')}\n`, { mode: 0o600 });
  if (archiveCount === 0) return home;
  const file = path.join(state, 'index.db');
  if (existsSync(file)) return home;
  fillIndex(file, Math.ceil(archiveCount / ARCHIVES_OF_A_VM));
  const index = IndexDb.open(file);
  const triedMs = Date.now();
  for (const { number } of TARGETS) index.finishTarget({ number, triedMs, outcome: 'complete', error: null });
  index.close();
  return home;
}

/** Milliseconds from a key to the whole frame that answers it. */
async function keyMs(shown: ConsolePty, key: string, until: (screen: string[]) => boolean): Promise<number> {
  shown.forgetBytes();
  const startedMs = performance.now();
  shown.press(key);
  await shown.waitForFrame();
  await shown.waitFor(until);
  return performance.now() - startedMs;
}

/** The list of VMs over an index of a million archives, as a person walks and filters it. */
async function measureLists(folder: string, archiveCount: number): Promise<Goal[]> {
  const home = makeHome(folder, archiveCount);
  const shown = open({ args: ['--thin'], env: { PHD_HOME: home } });
  await shown.waitFor('> E  Restore');
  shown.press('e');
  await shown.waitFor('> C  Restore');
  shown.press('c');
  await shown.waitFor('> V  VM name');
  const openMs = await keyMs(shown, 'v', (screen) => /^> +1 /.test(screen[3] ?? ''));
  // The count and the order of all rows are read in slices between the keys.
  await shown.waitFor((screen) => /\/[\d,]+$/.test(screen[0] ?? ''), 120_000);
  await shown.waitForQuiet(1_000);
  const downs: number[] = [];
  for (let row = 2; row <= 60; row++) {
    downs.push(
      await keyMs(shown, 'down', (screen) =>
        screen.some((one) => one.startsWith('>') && one.slice(1).trim().startsWith(`${row} `)),
      ),
    );
  }
  const endMs = await keyMs(shown, 'end', (screen) => screen.some((one) => /^> *[\d]{4,} /.test(one)));
  await keyMs(shown, 'home', (screen) => screen.some((one) => /^> +1 /.test(one)));
  const letters: number[] = [];
  for (const part of [
    vmName(17),
    vmName(4_711),
    vmName(80_000 % Math.ceil(archiveCount / ARCHIVES_OF_A_VM)),
    'e',
    'zzzz',
  ]) {
    shown.press('/');
    await shown.waitFor((screen) => screen.at(-1) === '/');
    let typed = '';
    for (const letter of part.slice(0, 8)) {
      typed += letter;
      letters.push(
        await keyMs(
          shown,
          letter,
          (screen) => screen.at(-1) === `/${typed}` && (screen[0] ?? '').includes(`[/${typed}]`),
        ),
      );
    }
    shown.press('esc');
    await shown.waitFor((screen) => (screen.at(-1) ?? '').startsWith('Enter choose'));
  }
  const status = readFileSync(`/proc/${shown.pid}/status`, 'utf8');
  const peakMegabytes = Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1]) / 1024;
  await shown.close();
  print();
  print(
    `${archiveCount.toLocaleString('en-US')} archives, key to whole frame at the other end of the terminal:`,
  );
  const figures = (name: string, values: number[]): void =>
    print(
      `  ${name.padEnd(26)} median ${median(values).toFixed(1)} ms, worst ${Math.max(...values).toFixed(1)} ms of ${values.length}`,
    );
  figures('opening the list', [openMs]);
  figures('Down', downs);
  figures('End', [endMs]);
  figures('a letter of the filter', letters);
  print(`  most memory                ${peakMegabytes.toFixed(0)} MiB`);
  return [
    { what: 'Down (median)', value: median(downs), limit: 10, unit: 'ms' },
    { what: 'a letter of the filter (median)', value: median(letters), limit: 50, unit: 'ms' },
    { what: 'a letter of the filter (worst)', value: Math.max(...letters), limit: 50, unit: 'ms' },
    { what: 'most memory', value: peakMegabytes, limit: 200, unit: 'MiB' },
  ];
}

async function measureStall(folder: string): Promise<Goal[]> {
  const report = path.join(folder, 'report.json');
  const options: StageOptions = { words: { look: 'rich' }, stepMs: 50, report };
  const shown = open({ command: [process.execPath, STAGE, JSON.stringify(options)] });
  await shown.waitFor('answer: none yet');
  shown.press('p');
  await shown.waitFor('Restore web-flat.vmdk');
  shown.stall();
  // Full repaints: far more than fits between the two ends of the terminal.
  const repaints = setInterval(() => shown.press('ctrl-l'), 5);
  await new Promise((resolve) => setTimeout(resolve, STALL_MS));
  clearInterval(repaints);
  shown.goOn();
  await shown.waitForQuiet(10);
  shown.press('k');
  await shown.waitFor('progress: kill');
  shown.press('q');
  await shown.exit();
  const { worstGapMs, mostQueuedBytes } = JSON.parse(readFileSync(report, 'utf8')) as StageReport;
  print();
  print(
    `a reader that stalls for ${STALL_MS / 1000} s while all is painted again and again: worst gap of the event loop ${worstGapMs.toFixed(0)} ms, at most ${mostQueuedBytes} bytes waited`,
  );
  return [{ what: 'gap of the event loop', value: worstGapMs, limit: 100, unit: 'ms' }];
}

function printGoals(goals: readonly Goal[]): void {
  print();
  for (const { what, value, limit, unit } of goals) {
    const verdict = value <= limit ? 'reached' : 'MISSED';
    print(
      `${verdict.padEnd(8)} ${what.padEnd(34)} ${value.toFixed(value < 100 ? 1 : 0).padStart(8)} of ${limit} ${unit}`,
    );
  }
}

const { values } = parseArgs({
  options: {
    archives: { type: 'string', default: '1000000' },
    runs: { type: 'string', default: '11' },
    keep: { type: 'string' },
  },
});
const folder = mkdtempSync(path.join(tmpdir(), 'phd-bench-console-'));
try {
  const [load = 0] = loadavg();
  print(`node ${process.version}, ${availableParallelism()} cores, load ${load.toFixed(1)}, ${MAIN}`);
  if (load > availableParallelism()) print('other programs hold the cores: times are theirs as well');
  print();
  const goals = [
    ...(await compareBytes()),
    ...(await compareStart(makeHome(folder, 0), Number(values.runs))),
    ...(await measureStall(folder)),
    ...(await measureLists(values.keep ?? folder, Number(values.archives))),
  ];
  printGoals(goals);
} finally {
  await closeAll();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);

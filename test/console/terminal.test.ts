/** The terminal is taken and given back: signals, stops, faults, kills, lines that stall or go away, sizes. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ConsolePty, childrenOf, closeAll, MAIN, open } from '../support/console-pty.ts';
import type { TempHome } from '../support/temp-home.ts';
import { makeConsoleHome, openUnderShell, readyStage, writeFaultMaker } from './stage.ts';

let home: TempHome;
beforeEach(() => {
  home = makeConsoleHome();
});
afterEach(async () => {
  await closeAll();
  home.remove();
});

/** Settings as `stty -a` printed them before and after the program. */
function settingsOf(shown: ConsolePty): string[] {
  const [before = '', after = ''] = shown.text.split(/status \d+/).map((part) => {
    return part.slice(part.indexOf('speed')).replace(/(over|phd: fault)[\s\S]*$/, '');
  });
  return [before, after].map((text) => text.replace(/\s+/g, ' ').trim());
}

/** The shell went on with this status, and nothing of the console is left on its terminal. */
async function expectGivenBack(shown: ConsolePty, status: number): Promise<void> {
  await shown.waitFor('over');
  await shown.waitFor(`status ${status}`);
  expect(shown.isAlternateScreen).toBe(false);
  expect(shown.modes).toEqual({ isMouseOn: false, isPasteBracketed: false, hasApplicationCursor: false });
  expect(shown.cursor.isVisible).toBe(true);
  const [before, after] = settingsOf(shown);
  expect(before).toContain(' icanon ');
  expect(after).toBe(before);
}

/** Process of the program under the shell. */
async function programOf(shown: ConsolePty): Promise<number> {
  await shown.waitFor('> E  Restore');
  const [pid] = childrenOf(shown.pid);
  return pid as number;
}

describe('the terminal is given back', () => {
  it('at a normal end', async () => {
    const shown = openUnderShell(home, { args: ['--rich'] });
    await shown.waitFor('Main menu');
    expect(shown.isAlternateScreen).toBe(true);
    expect(shown.modes).toMatchObject({ isMouseOn: true, isPasteBracketed: true });
    shown.press('q');
    await expectGivenBack(shown, 0);
  });

  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGHUP', 129],
    ['SIGQUIT', 131],
  ] as const)('at %s, with status %i', async (signal, status) => {
    const shown = openUnderShell(home);
    shown.signal(signal, await programOf(shown));
    await expectGivenBack(shown, status);
  });

  it.each(['throw', 'reject'] as const)(
    'at a fault of the program (%s), which is told after it',
    async (kind) => {
      const env = { NODE_OPTIONS: `--require=${writeFaultMaker(home, kind)}` };
      const shown = openUnderShell(home, { env });
      shown.signal('SIGUSR2', await programOf(shown));
      await expectGivenBack(shown, 70);
      expect(shown.text).toMatch(/phd: fault in the program: Error: boom/);
    },
  );

  it('when it is killed with SIGKILL', async () => {
    const shown = openUnderShell(home);
    const pid = await programOf(shown);
    // The guard is there some moments after the first paint.
    shown.press('down');
    await shown.waitFor(() => childrenOf(pid).some((one) => commandOf(one).includes('phd-terminal-guard')));
    shown.signal('SIGKILL', pid);
    await shown.waitFor(() => !shown.isAlternateScreen);
    // A line ends by Enter only where the terminal is as it was.
    shown.press('enter');
    expect(await shown.exit()).toEqual({ code: 0, signal: 0 });
    expect(shown.modes.isPasteBracketed).toBe(false);
    expect(shown.cursor.isVisible).toBe(true);
  });

  it('on the Linux console, which has one screen: it is cleared', async () => {
    const shown = openUnderShell(home, { term: 'linux' });
    await programOf(shown);
    shown.press('q');
    await shown.waitFor('over');
    expect(shown.text).not.toContain('Main menu');
    expect(shown.bytes.includes('\x1b)0')).toBe(false);
    expect(shown.bytes.includes('?1049')).toBe(false);
  });
});

function commandOf(pid: number): string {
  try {
    return readFileSync(path.join('/proc', String(pid), 'cmdline'), 'utf8');
  } catch {
    return '';
  }
}

describe('stops', () => {
  /** A shell with job control, in which the program is stopped and continued. */
  async function openJobShell(): Promise<ConsolePty> {
    const shown = open({
      env: { ...home.env, PS1: 'shell$ ', ENV: '' },
      command: ['/bin/bash', '--norc', '-i'],
    });
    await shown.waitFor('shell$');
    shown.type(`${process.execPath} ${MAIN} --thin\r`);
    await shown.waitFor('> E  Restore');
    await shown.waitFor('Status: idle');
    return shown;
  }

  it('^Z and fg, twice: the shell has its terminal, then the console paints all again', async () => {
    const shown = await openJobShell();
    for (const at of ['> K  Backup', '> C  Configuration']) {
      shown.press('down');
      await shown.waitFor(at);
      shown.press('ctrl-z');
      await shown.waitFor('Stopped');
      expect(shown.isAlternateScreen).toBe(false);
      expect(shown.cursor.isVisible).toBe(true);
      shown.type('stty -a | grep -o " icanon"; echo "is $((40 + 2))"\r');
      await shown.waitFor('is 42');
      await shown.waitFor(/^ icanon$/m);
      shown.type('clear; fg\r');
      await shown.waitFor(at);
      expect(shown.isAlternateScreen).toBe(true);
      await shown.assertRepaintIsEqual();
    }
    shown.press('q');
    await shown.waitFor(() => !shown.isAlternateScreen);
    shown.type('exit\r');
    expect((await shown.exit()).signal).toBe(0);
  });

  it('a stop from outside (kill -TSTP) gives the terminal back as well', async () => {
    const shown = await openJobShell();
    const [pid] = childrenOf(shown.pid);
    shown.signal('SIGTSTP', pid);
    await shown.waitFor('Stopped');
    expect(shown.isAlternateScreen).toBe(false);
    shown.type('fg\r');
    await shown.waitFor('> E  Restore');
    shown.press('down');
    await shown.waitFor('> K  Backup');
  });

  it('where nobody could continue it (the program is the session), ^Z leaves the console open', async () => {
    const shown = open({ args: ['--thin'], env: home.env });
    await shown.waitFor('> E  Restore');
    shown.forgetBytes();
    await shown.waitFor('Status: idle');
    shown.press('ctrl-z');
    await shown.waitForBytes('\x1b[?1049l');
    await shown.waitFor('> E  Restore');
    shown.press('down');
    await shown.waitFor('> K  Backup');
    await shown.close({ comparing: true });
  });

  it('after a stop that nobody is told of (SIGSTOP) the terminal is taken again and all is painted', async () => {
    const shown = open({ args: ['--thin'], env: home.env });
    await shown.waitFor('Status: idle');
    shown.forgetBytes();
    shown.signal('SIGSTOP');
    shown.signal('SIGCONT');
    await shown.waitForBytes('\x1b[?1049h');
    await shown.waitForBytes('Main menu');
    await shown.waitFor('> E  Restore');
  });

  it('a program that the terminal is lent to has it, then all is painted again', async () => {
    const shown = await readyStage();
    shown.press('s');
    await shown.waitFor('the terminal is lent');
    expect(shown.isAlternateScreen).toBe(false);
    expect(shown.cursor.isVisible).toBe(true);
    shown.press('enter');
    await shown.waitFor('answer: lend: 0');
    await shown.close({ comparing: true });
  });
});

describe('lines that stall or go away', () => {
  it('a terminal that is closed ends the console with the status of a hang-up', async () => {
    const script = 'trap "" HUP; "$@"; echo "status $?" > "$STATUS"';
    const status = home.write('status', '');
    const shown = open({
      env: { ...home.env, STATUS: status },
      command: ['/bin/sh', '-c', script, 'sh', process.execPath, MAIN, '--thin'],
    });
    await shown.waitFor('> E  Restore');
    shown.hangUp();
    await shown.exit();
    expect(readFileSync(status, 'utf8')).toBe('status 129\n');
  });

  it('a terminal that is not read for four seconds holds nothing up: the loop runs, one frame at most waits', async () => {
    const report = home.write('report.json', '');
    const shown = await readyStage({ report, stepMs: 50, words: { look: 'rich' } });
    shown.press('p');
    await shown.waitFor('Restore web-flat.vmdk');
    shown.stall();
    // Full repaints: far more than fits between the two ends of the terminal.
    const repaints = setInterval(() => shown.press('ctrl-l'), 5);
    const ownGapMs = await worstGapDuring(4_000);
    clearInterval(repaints);
    shown.goOn();
    shown.forgetBytes();
    await shown.waitForFrame();
    shown.press('k');
    await shown.waitFor('answer: progress: kill');
    shown.press('q');
    await shown.exit();
    const { worstGapMs, mostQueuedBytes } = JSON.parse(readFileSync(report, 'utf8'));
    // A machine that is busy holds up every process: this one is the measure of it.
    expect(worstGapMs).toBeLessThan(Math.max(100, 3 * ownGapMs));
    expect(worstGapMs).toBeLessThan(1_000);
    // It did stall, and no second frame was made.
    expect(mostQueuedBytes).toBeGreaterThan(0);
    expect(mostQueuedBytes).toBeLessThan(4_096);
  });

  it('a signal ends the console though its terminal takes nothing any more', async () => {
    const shown = open({ args: ['--rich'], env: home.env });
    await shown.waitFor('Main menu');
    shown.stall();
    // Enough repaints that the pipe between them is full.
    for (let at = 0; at < 400; at++) shown.press('ctrl-l', 'down', 'up');
    await elapsed(500);
    shown.signal('SIGTERM');
    expect(await shown.exit(10_000)).toEqual({ code: 143, signal: 0 });
  });
});

/** Not a wait for something to happen: the time a line stalls. */
function elapsed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Longest time in which this process did not get its turn. */
async function worstGapDuring(ms: number): Promise<number> {
  let worstMs = 0;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    worstMs = Math.max(worstMs, nowMs - lastMs - 5);
    lastMs = nowMs;
  }, 5);
  await elapsed(ms);
  clearInterval(timer);
  return worstMs;
}

describe('keys of terminals, in the program itself', () => {
  it.each([
    ['linux', '\x1b[[A', '\x1b[4~', '\x1b[1~'],
    ['putty-256color', '\x1b[11~', '\x1b[4~', '\x1b[1~'],
    ['xterm-256color', '\x1bOP', '\x1b[F', '\x1b[H'],
    ['xterm-256color', '\x1bOP', '\x1bOF', '\x1bOH'],
  ])('%s: F1 %j, End %j, Home %j', async (term, f1, end, first) => {
    const shown = open({ args: ['--thin'], env: home.env, term });
    await shown.waitFor('> E  Restore');
    shown.write(end);
    await shown.waitFor('> Q  Quit');
    shown.write(first);
    await shown.waitFor('> 1  Status');
    shown.write(f1);
    await shown.waitFor('Help: Main menu');
  });
});

describe('sizes', () => {
  it('a storm of sizes down to 20x5 and back leaves the same screen, and too small a window takes no action', async () => {
    const shown = await readyStage();
    shown.press('l');
    await shown.waitFor('>   1 archive-0001');
    shown.press('down', 'down', 'down');
    await shown.waitFor('>   4 archive-0004');
    const before = shown.screen();
    for (let columns = 79, rows = 24; columns >= 20; columns -= 7, rows = Math.max(5, rows - 3)) {
      shown.resize(columns, rows);
    }
    shown.resize(20, 5);
    await shown.waitFor('too small: 20x5');
    expect(shown.text).toMatch(/needs/);
    shown.press('enter', 'down', ' ');
    for (const [columns, rows] of [
      [132, 43],
      [59, 24],
      [80, 14],
      [60, 15],
      [80, 24],
    ] as const) {
      shown.resize(columns, rows);
    }
    await shown.waitFor((screen) => screen.join('\n') === before.join('\n'));
    await shown.close({ comparing: true });
  });

  it('a line that knows no size is taken for 80x24', async () => {
    const shown = open({
      env: home.env,
      command: ['/bin/sh', '-c', 'stty rows 0 columns 0; exec "$@"', 'sh', process.execPath, MAIN, '--thin'],
    });
    await shown.waitFor('> E  Restore');
    expect(shown.screen().at(-1)).toContain('Enter choose');
  });
});

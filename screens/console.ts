/** The console: chooses its face by the terminal, runs the main menu, and gives the terminal back however it ends. */
import { readlinkSync } from 'node:fs';
import { isatty } from 'node:tty';
import { Desk } from './desk.ts';
import type { Dialogue } from './dialogue.ts';
import { chooseLook, type LookWords, terminalName } from './look.ts';
import { writeAtOnce } from './terminal/restore-terminal.ts';
import type { TerminalStreams } from './terminal/terminal.ts';

export interface ConsoleOptions {
  env: NodeJS.ProcessEnv;
  streams: TerminalStreams & { stderr: NodeJS.WriteStream };
  words: LookWords & { plain?: boolean };
  /** A line shown first of all. */
  greeting?: string;
}

/** Figures of signals that end a process; its status is 128 and this. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;
/** Jobs, daemon and locks are looked at so often. */
const LOOK_EVERY_MS = 1_000;
/** The first paint is out by then. */
const SETTLE_MS = 100;
/** Exit status of a fault of the program itself (EX_SOFTWARE of sysexits.h). */
const FAULT_STATUS = 70;
/** Descriptors of the streams. */
const STDOUT = 1;
const STDERR = 2;

/** As node:events has it. */
// biome-ignore lint/suspicious/noExplicitAny: each event has words of its own.
type Listener = (...words: any[]) => void;

interface Face extends Dialogue {
  /** It holds the terminal in raw mode. */
  readonly isFullScreen?: boolean;
  /** ^C as a signal: true if what is going on takes it. */
  interrupt?(): boolean;
  /** False: the line stalls and has not taken the last bytes. */
  close(): Promise<unknown>;
  closeNow(): void;
}

/** Runs the console until the person leaves it; returns the exit status. Jobs go on without it. */
export async function openConsole(options: ConsoleOptions): Promise<number> {
  const { env, streams, words } = options;
  const look = chooseLook(env, deviceOf(streams.stdout), words);
  const desk = new Desk(env, look);
  const name = terminalName(env);
  const whyPlain = whyPlainOf(streams, words, name);
  let end: (status: number) => void = () => undefined;
  const ended = new Promise<number>((resolve) => {
    end = resolve;
  });
  const face =
    whyPlain === undefined && 'name' in name
      ? await openFullFace(options, desk, name.name, () => end(128 + SIGNALS.SIGHUP))
      : await openPlainFace(options, desk, whyPlain);
  desk.dialogue = face;
  const release = holdProcess(face, end, streams);
  const { mainMenu } = await import('./flows/main-menu.ts');
  const ticking = setInterval(() => void desk.refreshState(), LOOK_EVERY_MS);
  const settling = setTimeout(() => void takeSavedLook(desk, options), SETTLE_MS);
  let fault: unknown;
  const status = await Promise.race([mainMenu(desk).then(() => 0), ended]).catch((error: unknown) => {
    fault = error;
    return FAULT_STATUS;
  });
  clearInterval(ticking);
  clearTimeout(settling);
  const isGivenBack = (await face.close()) !== false;
  if (fault !== undefined) streams.stderr.write(faultText(fault));
  // What was under way when a signal came, and bytes that a dead line never takes, would keep the process.
  if (status !== 0 || !isGivenBack) leaveNow(status, streams);
  release();
  await desk.close();
  return status;
}

/**
 * Ends the process at once. Where the terminal is gone, Node would abort over its settings that cannot be set back
 * (tcsetattr, EIO): the signal of a hang-up ends it as well.
 */
function leaveNow(status: number, { stdin, stdout }: TerminalStreams): never {
  if ((stdin.isTTY && !isatty(0)) || (stdout.isTTY && !isatty(STDOUT))) {
    process.removeAllListeners('SIGHUP');
    process.kill(process.pid, 'SIGHUP');
  }
  process.exit(status);
}

async function takeSavedLook(desk: Desk, { words, streams }: ConsoleOptions): Promise<void> {
  const { applySavedLook } = await import('./saved-look.ts');
  await applySavedLook(desk, words, deviceOf(streams.stdout));
}

/** File of the terminal; null where the system does not tell. */
function deviceOf(stdout: NodeJS.WriteStream): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${(stdout as { fd?: number }).fd}`);
  } catch {
    return null;
  }
}

function faultText(error: unknown): string {
  return `phd: fault in the program: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`;
}

function whyPlainOf(
  { stdin, stdout }: TerminalStreams,
  words: ConsoleOptions['words'],
  name: ReturnType<typeof terminalName>,
): string | undefined {
  if (words.plain) return '';
  if (!stdin.isTTY || !stdout.isTTY) return 'this is no terminal';
  return 'whyNone' in name ? name.whyNone : undefined;
}

async function openFullFace(
  { env, streams }: ConsoleOptions,
  desk: Desk,
  name: string,
  onGone: () => void,
): Promise<Face> {
  const { FullFace } = await import('./full/full-face.ts');
  const face = new FullFace({
    terminalName: name,
    streams,
    env,
    look: desk.look,
    state: () => desk.state,
    onGone,
    onFirstPaint: () => void face.guard(),
  });
  return face;
}

async function openPlainFace(
  { streams }: ConsoleOptions,
  desk: Desk,
  why: string | undefined,
): Promise<Face> {
  const { PlainFace } = await import('./plain/plain-face.ts');
  const state = async () => {
    await desk.refreshState();
    return desk.state;
  };
  return new PlainFace({ streams, look: desk.look, state, why: why ?? '' });
}

/** The terminal is given back first, whatever ends the process; the status says what it was. */
function holdProcess(
  face: Face,
  end: (status: number) => void,
  streams: ConsoleOptions['streams'],
): () => void {
  const { stdout, stderr } = streams;
  const undo: (() => void)[] = [];
  const hold = (emitter: NodeJS.EventEmitter, event: string, listener: Listener): void => {
    const before = emitter.listeners(event) as Listener[];
    emitter.removeAllListeners(event);
    emitter.on(event, listener);
    undo.push(() => {
      emitter.off(event, listener);
      for (const one of before) emitter.on(event, one);
    });
  };
  for (const [name, number] of Object.entries(SIGNALS)) {
    hold(process, name, () => {
      if (name === 'SIGINT' && face.interrupt?.()) return;
      end(128 + number);
    });
  }
  const onFault = (error: unknown): void => {
    face.closeNow();
    writeAtOnce(STDERR, faultText(error));
    leaveNow(FAULT_STATUS, streams);
  };
  hold(process, 'uncaughtException', onFault);
  hold(process, 'unhandledRejection', onFault);
  // Node would print it across the screen.
  hold(process, 'warning', ({ message }: Error) => face.notice(message, 'warning'));
  // A terminal that is gone tells so at each write.
  const onGone = (): void => end(128 + SIGNALS.SIGHUP);
  if (face.isFullScreen) {
    hold(stdout, 'error', onGone);
    hold(stderr, 'error', onGone);
  }
  const onExit = (): void => face.closeNow();
  process.on('exit', onExit);
  undo.push(() => process.off('exit', onExit));
  return () => {
    for (const one of undo) one();
  };
}

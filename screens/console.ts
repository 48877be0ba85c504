/** The console: chooses its face by the terminal, runs the main menu, and gives the terminal back however it ends. */
import { Desk } from './desk.ts';
import type { Dialogue } from './dialogue.ts';
import { chooseLook, type LookWords, terminalName } from './look.ts';
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
/** Exit status of a fault of the program itself (EX_SOFTWARE of sysexits.h). */
const FAULT_STATUS = 70;

interface Face extends Dialogue {
  /** ^C as a signal: true if what is going on takes it. */
  interrupt?(): boolean;
  close(): Promise<void>;
  closeNow(): void;
}

/** Runs the console until the person leaves it; returns the exit status. Jobs go on without it. */
export async function openConsole(options: ConsoleOptions): Promise<number> {
  const { env, streams, words } = options;
  const look = chooseLook(env, null, words);
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
  const release = holdSignals(face, end, streams.stderr);
  const { mainMenu } = await import('./flows/main-menu.ts');
  const ticking = setInterval(() => void desk.refreshState(), LOOK_EVERY_MS);
  try {
    return await Promise.race([mainMenu(desk).then(() => 0), ended]);
  } catch (error) {
    await face.close();
    streams.stderr.write(`phd: ${(error as Error).stack ?? String(error)}\n`);
    return FAULT_STATUS;
  } finally {
    clearInterval(ticking);
    await face.close();
    release();
    await desk.close();
  }
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
  return new FullFace({ terminalName: name, streams, env, look: desk.look, state: () => desk.state, onGone });
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
function holdSignals(face: Face, end: (status: number) => void, stderr: NodeJS.WriteStream): () => void {
  const before = new Map(
    Object.keys(SIGNALS).map((name) => [name, process.listeners(name as NodeJS.Signals)]),
  );
  const ours = new Map<string, () => void>();
  for (const [name, number] of Object.entries(SIGNALS)) {
    process.removeAllListeners(name);
    const listener = (): void => {
      if (name === 'SIGINT' && face.interrupt?.()) return;
      end(128 + number);
    };
    ours.set(name, listener);
    process.on(name, listener);
  }
  const onFault = (error: unknown): void => {
    face.closeNow();
    stderr.write(
      `phd: fault in the program: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exit(FAULT_STATUS);
  };
  const onExit = (): void => face.closeNow();
  process.on('uncaughtException', onFault);
  process.on('unhandledRejection', onFault);
  process.on('exit', onExit);
  return () => {
    process.off('uncaughtException', onFault);
    process.off('unhandledRejection', onFault);
    process.off('exit', onExit);
    for (const [name, listener] of ours) process.off(name, listener);
    for (const [name, listeners] of before) for (const one of listeners) process.on(name, one);
  };
}

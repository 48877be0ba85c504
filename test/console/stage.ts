/** What the tests of the full screen start: the program in a home with one target, or the stage of all views. */
import { fileURLToPath } from 'node:url';
import type { StageOptions } from '../bench/console-stage.ts';
import { type ConsolePty, type ConsolePtyOptions, MAIN, open } from '../support/console-pty.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const STAGE = fileURLToPath(new URL('../../dist/test/bench/console-stage.js', import.meta.url));

/** A home whose console opens at the main menu. */
export function makeConsoleHome(): TempHome {
  const home = makeTempHome();
  const path = JSON.stringify(home.folder('backups'));
  const volumes = JSON.stringify(home.folder('volumes'));
  home.writeConfig(
    `targets:\n  - { number: 1, name: local, transport: vmfs, path: ${path} }\ndatastores: [ ${volumes} ]\n`,
  );
  return home;
}

/** All kinds of views, over data of their own. */
export function openStage(
  stage: StageOptions = {},
  options: Omit<ConsolePtyOptions, 'args' | 'command'> = {},
): ConsolePty {
  return open({ ...options, command: [process.execPath, STAGE, JSON.stringify(stage)] });
}

/** The stage at its menu, in the thin look unless told otherwise. */
export async function readyStage(
  stage: StageOptions = {},
  options: Omit<ConsolePtyOptions, 'args' | 'command'> = {},
): Promise<ConsolePty> {
  const console_ = openStage({ words: { look: 'thin' }, ...stage }, options);
  await console_.waitFor('answer: none yet');
  await console_.waitForFrame();
  return console_;
}

/**
 * The program under a shell that goes on after it: prints its status and the settings of the terminal before and after.
 * Ends when a line is typed.
 */
export function openUnderShell(home: TempHome, options: ConsolePtyOptions = {}): ConsolePty {
  const script = 'stty -a; "$@"; echo "status $?"; stty -a; echo over; head -n 1 >/dev/null';
  const words = [process.execPath, MAIN, ...(options.args ?? ['--thin'])];
  return open({
    rows: 60,
    ...options,
    env: { ...home.env, ...options.env },
    command: ['/bin/sh', '-c', script, 'sh', ...words],
  });
}

/** A file for `node --require` that makes a fault in the program when SIGUSR2 comes. */
export function writeFaultMaker(home: TempHome, kind: 'throw' | 'reject'): string {
  const fault = kind === 'throw' ? 'throw new Error("boom")' : 'Promise.reject(new Error("boom"))';
  return home.write('fault.cjs', `process.on('SIGUSR2', () => { ${fault}; });\n`);
}

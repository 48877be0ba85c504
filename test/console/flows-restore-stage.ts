/** What the tales of the restore flow begin with: a farm with archives, and the console at its main menu. */
import { type ConsolePty, open } from '../support/console-pty.ts';
import type { Tale } from '../tales/tale.ts';

/** One thing a person does, and what the screen then shows. */
export type Move = [keys: readonly string[] | string, shows: string | RegExp];

/** Presses keys (an array) or types text, and waits for what comes; a frame must follow each move. */
export async function go(console_: ConsolePty, moves: readonly Move[]): Promise<void> {
  for (const [keys, shows] of moves) {
    if (typeof keys === 'string') console_.type(keys);
    else console_.press(...keys);
    await console_.waitFor(shows);
  }
}

/** The console over the tale's home, at its main menu. */
export async function atMainMenu(
  tale: Tale,
  options: { args?: readonly string[]; columns?: number; rows?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<ConsolePty> {
  const { args = ['--thin'], env = {}, ...size } = options;
  const console_ = open({ args, env: { ...tale.home.env, ...env }, ...size });
  await console_.waitFor('Main menu');
  await console_.waitFor('Status: idle');
  return console_;
}

/** From the main menu to the archives of a VM. */
export function toArchives(vm: string): Move[] {
  return [
    [['e'], /^Restore$/m],
    [['c'], /^Search by$/m],
    [['v'], /^ +VM +runs/m],
    [`/${vm}`, new RegExp(`\\[/${vm}\\][\\s\\S]*> +1 ${vm} `)],
    [['enter'], /^Enter choose/m],
    [['enter'], `Dates of VM ${vm}`],
    [['enter'], /tgt +size +type/],
  ];
}

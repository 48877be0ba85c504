/** A person's own pager or editor over one file; it has the terminal until it ends. */
import type { Desk } from '../desk.ts';

/**
 * `words` as an environment variable holds them (`less -R`): the shell splits them, the file is no part of the script.
 * Returns why it could not be run, or undefined.
 */
export async function runOverFile(desk: Desk, words: string, file: string): Promise<string | undefined> {
  const { spawn } = await import('node:child_process');
  return await desk.dialogue.lend(
    () =>
      new Promise<string | undefined>((resolve) => {
        const program = spawn('sh', ['-c', `${words} "$1"`, 'sh', file], { stdio: 'inherit', env: desk.env });
        program.once('error', (error) => resolve(error.message));
        program.once('exit', (status) =>
          resolve(status === 126 || status === 127 ? `there is no program ${words}` : undefined),
        );
      }),
  );
}

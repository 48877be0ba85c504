/** `phd explain`: what a vmkernel code means. Needs no configuration. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import type { VmkernelCode } from '../hosts/vmkernel-codes.ts';
import type { Cli } from './cli.ts';

export function registerExplain(program: Command, cli: Cli): void {
  program
    .command('explain')
    .summary('say what a status code of an ESX host means')
    .description(
      'say what a status code of an ESX host (vmkernel) means and what to do: 0xbad0023, bad0023, 195887139, ' +
        'VMK_FS_LOCKED, or a whole line in which one stands',
    )
    .argument('<CODE...>', 'number, name, or line of an error; all words are taken together')
    .option('--json', 'print JSON lines')
    .action(async (words: string[], options: { json?: boolean }) => {
      const { explainVmkernel } = await import('../hosts/vmkernel-codes.ts');
      const { codes, near, reason } = explainVmkernel(words.join(' '));
      if (reason !== null) {
        const meant = near.map(({ hex, name }) => `${hex} ${name}`).join(', ');
        throw new PhdError('NOT_FOUND', meant === '' ? reason : `${reason}; did you mean ${meant}?`);
      }
      for (const code of codes) {
        if (options.json === true) cli.printJson({ ...code });
        else for (const line of linesOf(code)) cli.print(line);
      }
    });
}

function linesOf({ number, hex, name, errno, meaning, advice }: VmkernelCode): string[] {
  const head = number === 0 ? `0 ${name}` : `${hex} ${name} (${number}, ${errno})`;
  return [head, `  ${meaning}`, ...(advice === null ? [] : [`  What to do: ${advice}`])];
}

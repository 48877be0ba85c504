/** `phd vmx`: VMX, NVRAM and logs of an archive into a folder. */
import type { Command } from 'commander';
import type { PhdError } from '../errors.ts';

/** What the command asks of the engine: fetches the files from a DELTA and places them, never over others. */
export type RestoreVmx = (
  archive: string,
  options: { to: string; signal: AbortSignal },
) => Promise<{ written: string[]; failed: { name: string; error: PhdError }[] }>;

/** The part of the frame that this command needs. */
interface Output {
  readonly signal: AbortSignal;
  print(line: string): void;
  reportError(error: unknown): PhdError;
  setStatusOf(failures: readonly PhdError[]): void;
}

export function registerVmx(program: Command, cli: Output, restoreVmx: RestoreVmx): void {
  program
    .command('vmx')
    .summary('restore VMX, NVRAM and logs of a VM')
    .description('write VMX, NVRAM and logs of an archive into a folder; existing files are never touched')
    .argument('<ARCHIVE>', 'path of a DELTA, or N:folder/file on target N')
    .requiredOption('--to <FOLDER>', 'folder to write into, made if missing')
    .action(async (archive: string, options: { to: string }) => {
      const { written, failed } = await restoreVmx(archive, { to: options.to, signal: cli.signal });
      for (const path of written) cli.print(path);
      cli.setStatusOf(failed.map(({ error }) => cli.reportError(error)));
    });
}

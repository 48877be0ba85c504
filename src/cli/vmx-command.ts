/** `phd vmx`: VMX, NVRAM and logs of an archive into a folder. */
import type { Command } from 'commander';
import type { PhdError } from '../errors.ts';

/** What the command asks of the engine: fetches the files from a DELTA and places them, never over others. */
export type RestoreVmx = (
  archive: string,
  options: { to: string },
) => Promise<{ written: string[]; failed: { name: string; error: PhdError }[] }>;

/** Adds the command. Each file written is a line; the first that failed is thrown when all were tried. */
export function registerVmx(program: Command, restoreVmx: RestoreVmx): void {
  program
    .command('vmx')
    .summary('restore VMX, NVRAM and logs of a VM')
    .description('Writes VMX, NVRAM and logs of an archive into a folder. Existing files are never touched.')
    .argument('<archive>', 'path of a DELTA, or N:folder/file on target N')
    .requiredOption('--to <folder>', 'folder to write into, made if missing')
    .action(async (archive: string, options: { to: string }) => {
      const { written, failed } = await restoreVmx(archive, options);
      for (const path of written) process.stdout.write(`${path}\n`);
      for (const { error } of failed.slice(1)) process.stderr.write(`${error.message}\n`);
      if (failed[0]) throw failed[0].error;
    });
}

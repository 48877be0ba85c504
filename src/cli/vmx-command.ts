/** `phd vmx`: VMX, NVRAM and logs of an archive into a folder. */
import type { Command } from 'commander';
import type { Cli } from './cli.ts';

export function registerVmx(program: Command, cli: Cli): void {
  program
    .command('vmx')
    .summary('restore VMX, NVRAM and logs of a VM')
    .description('write VMX, NVRAM and logs of an archive into a folder; existing files are never touched')
    .argument('<ARCHIVE>', 'path of a file, or N:folder/file on target N')
    .requiredOption('--to <FOLDER>', 'folder to write into, made if missing')
    .option('--json', 'JSON lines')
    .action(async (archive: string, options: { to: string; json?: boolean }) => {
      const isJson = options.json ?? false;
      await cli.withContext(async (context) => {
        const { archiveRef } = await import('../engine/choose-run.ts');
        const { restoreVmx } = await import('../engine/restore-vmx.ts');
        const request = { archive: await archiveRef(context, archive), to: options.to };
        const { written, failed } = await restoreVmx(context, request, { signal: cli.signal });
        for (const path of written) {
          if (isJson) cli.printJson({ event: 'done', archive, path, code: null, message: null });
          else cli.print(path);
        }
        cli.setStatusOf(failed.map(({ error }) => cli.reportItemError(error, { archive }, isJson)));
      });
    });
}

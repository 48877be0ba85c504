/** `phd vmx`: VMX, NVRAM and logs of an archive into a folder. */
import type { Command } from 'commander';
import type { VmxFit } from '../engine/restore-vmx.ts';
import { PhdError } from '../errors.ts';
import { type Cli, parseChoice } from './cli.ts';

interface Words {
  to: string;
  rewrite?: string;
  displayName?: string;
  dryRun?: boolean;
  json?: boolean;
}

export const REWRITE_HELP =
  'fit the VMX to its place: moved (disks and paths) or copy (also another UUID, other MAC addresses, network unplugged)';

/** Words of `--rewrite` as the engine takes them. Throws USAGE. */
export function vmxFit({ rewrite, displayName }: Pick<Words, 'rewrite' | 'displayName'>): VmxFit | undefined {
  if (rewrite === undefined) {
    if (displayName !== undefined) throw new PhdError('USAGE', '--display-name goes with --rewrite');
    return undefined;
  }
  const isCopy = parseChoice(rewrite, '--rewrite', ['moved', 'copy']) === 'copy';
  return {
    identity: isCopy ? 'new' : 'keep',
    disconnectNetwork: isCopy,
    ...(displayName === undefined ? {} : { displayName }),
  };
}

export function registerVmx(program: Command, cli: Cli): void {
  program
    .command('vmx')
    .summary('restore VMX, NVRAM and logs of a VM')
    .description('write VMX, NVRAM and logs of an archive into a folder; existing files are never touched')
    .argument('<ARCHIVE>', 'path of a file, or N:folder/file on target N')
    .requiredOption('--to <FOLDER>', 'folder to write into, made if missing')
    .option('--rewrite <HOW>', REWRITE_HELP)
    .option('--display-name <NAME>', 'with --rewrite: another name in the VMX')
    .option('--dry-run', 'with --rewrite: print the changed lines and write nothing')
    .option('--json', 'JSON lines')
    .action(async (archive: string, options: Words) => {
      const isJson = options.json ?? false;
      const fit = vmxFit(options);
      if (options.dryRun && fit === undefined) throw new PhdError('USAGE', '--dry-run goes with --rewrite');
      await cli.withContext(async (context) => {
        const { archiveRef } = await import('../engine/choose-run.ts');
        const { changeLines, previewVmx, readVmFiles, restoreVmx, rewriteFor } = await import(
          '../engine/restore-vmx.ts'
        );
        const ref = await archiveRef(context, archive);
        if (options.dryRun && fit !== undefined) {
          const files = await readVmFiles(context, ref, { signal: cli.signal });
          const preview = previewVmx(files, rewriteFor(files, options.to, fit), options.to);
          for (const line of changeLines(preview?.changes ?? [])) cli.print(line);
          return;
        }
        const request = { archive: ref, to: options.to, ...(fit && { fit }) };
        const { written, failed, changes } = await restoreVmx(context, request, { signal: cli.signal });
        if (!isJson) for (const line of changeLines(changes)) cli.print(line);
        for (const path of written) {
          if (isJson) cli.printJson({ event: 'done', archive, path, code: null, message: null });
          else cli.print(path);
        }
        cli.setStatusOf(failed.map(({ error }) => cli.reportItemError(error, { archive }, isJson)));
      });
    });
}

/** `phd host export` and `import`: XenServer's own forms. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import type { XenForm } from '../engine/export-from-xen.ts';
import { PhdError } from '../errors.ts';
import type { XvaPacking } from '../hosts/xen/xen-export.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';

const EXPORT_HELP = `
Of hosts of type xen. What runs is exported from a snapshot, which goes
afterwards. Files are those that xe takes back: an XVA by vm-import, a disk
by vdi-import, metadata by vm-import metadata=true, the database by
pool-restore-database. A disk holds no checksums of its data, an XVA does.

Examples:
  phd host export xen1/web --as xva --to /backup/web.xva --compress zstd
  phd host export xen1/web --as vhd --to /backup/web/
  phd host export xen1 --as pool-db --to /backup/pool.xml`;

const IMPORT_HELP = `
Into a pool of XenServer: an XVA becomes a VM, a VHD or a raw disk a disk. An
XVA is proved here before it is sent; a disk is read back and compared.

Examples:
  phd host import xen1 /backup/web.xva --sr "Local storage"
  phd host import xen1 /backup/web.xva --preserve-macs`;

interface ExportWords {
  as: XenForm;
  to: string;
  compress: XvaPacking;
  json?: boolean;
}

interface ImportWords {
  sr?: string;
  preserveMacs?: boolean;
  json?: boolean;
}

export function registerHostXen(host: Command, cli: Cli): void {
  host
    .command('export')
    .summary("XenServer's own exports")
    .description('export a VM of XenServer, its disks, its metadata, or the database of its pool into files')
    .argument('<HOST/VM>', 'a VM of a host of type xen; for the database the host alone')
    .addOption(
      new Option('--as <FORM>', 'what to export')
        .choices(['xva', 'vhd', 'raw', 'metadata', 'pool-db'])
        .makeOptionMandatory(),
    )
    .requiredOption('--to <PATH>', 'file, or folder; for disks a folder')
    .addOption(
      new Option('--compress <HOW>', 'of an XVA, by the host')
        .choices(['none', 'gzip', 'zstd'])
        .default('none'),
    )
    .option('--json', 'JSON lines')
    .addHelpText('after', EXPORT_HELP)
    .action(async (what: string, words: ExportWords) => {
      await cli.withContext((context) => exportThere(cli, context, what, words));
    });
  host
    .command('import')
    .summary('put an XVA, a VHD or a raw disk into a pool')
    .description('put an XVA, a VHD or a raw disk into a pool of XenServer')
    .argument('<HOST>', 'a host of type xen')
    .argument('<FILE>', 'XVA (also gzip or zstd), VHD, or a raw disk')
    .option('--sr <SR>', "name or UUID of a storage repository (default: the pool's)")
    .option('--preserve-macs', 'the VM keeps its UUID and MAC addresses')
    .option('--json', 'JSON lines')
    .addHelpText('after', IMPORT_HELP)
    .action(async (name: string, file: string, words: ImportWords) => {
      await cli.withContext((context) => importThere(cli, context, name, file, words));
    });
}

async function exportThere(
  cli: Cli,
  context: EngineContext,
  what: string,
  { as, to, compress: packing, json = false }: ExportWords,
): Promise<void> {
  const { exportFromXen } = await import('../engine/export-from-xen.ts');
  const slash = what.indexOf('/');
  const [host, vm] = slash < 0 ? [what, null] : [what.slice(0, slash), what.slice(slash + 1)];
  if (as === 'pool-db' && vm !== null)
    throw new PhdError('USAGE', '--as pool-db is of the whole pool: name the host alone');
  const { files, failed } = await withHooks(cli, json, (hooks) =>
    exportFromXen(context, { host, vm, as, to, packing }, hooks),
  );
  for (const { file, bytes, sha256, proof } of files) {
    if (json) cli.printJson({ event: 'done', host, vm, file, bytes, sha256, proof });
    else {
      cli.print(`${escapeText(file)}: ${formatBytes(bytes)}, ${proof}`);
      cli.print(`SHA-256 ${sha256}, as read back`);
    }
  }
  cli.setStatusOf(
    failed.map(({ file, error }) => cli.reportItemError(error, { disk: path.basename(file) }, json)),
  );
}

async function importThere(
  cli: Cli,
  context: EngineContext,
  name: string,
  file: string,
  { sr, preserveMacs = false, json = false }: ImportWords,
): Promise<void> {
  const { importToXen } = await import('../engine/import-to-xen.ts');
  const request = { host: name, file, repository: sr ?? null, preserveMacs };
  const { repository, vm, vdi, proof } = await withHooks(cli, json, (hooks) =>
    importToXen(context, request, hooks),
  );
  if (json) return cli.printJson({ event: 'done', host: name, file, repository, vm, vdi, proof });
  const made = vm === null ? `disk ${vdi}` : `VM ${escapeText(vm.name)} (${vm.uuid}), off,`;
  cli.print(`${made} on ${escapeText(repository)} of ${name}: ${proof}`);
}

/** `phd stub`: a descriptor for a flat that has none. Needs no configuration. */
import { type Command, Option } from 'commander';

/** What the command asks of the engine: writes the stub beside the flat and gives its path. */
export type WriteStub = (
  flatPath: string,
  type: 'vmfs' | 'monolithicFlat',
  adapterType: string | null,
) => Promise<string>;

export function registerStub(
  program: Command,
  cli: { print(line: string): void },
  writeStub: WriteStub,
): void {
  program
    .command('stub')
    .summary('write the descriptor that a flat lacks')
    .description(
      'write the descriptor of a flat beside it: NAME-flat.vmdk gets NAME.vmdk; an existing one is never touched',
    )
    .argument('<FLAT>', 'path of the flat (NAME-flat.vmdk) or raw image')
    .addOption(
      new Option('--type <TYPE>', 'vmfs for ESX; monolithicFlat for Server, GSX, Workstation and qemu')
        .choices(['vmfs', 'monolithicFlat'])
        .default('vmfs'),
    )
    .addOption(
      new Option('--adapter <ADAPTER>', 'controller of the disk')
        .choices(['ide', 'buslogic', 'lsilogic', 'legacyESX'])
        .default('lsilogic'),
    )
    .action(async (flat: string, options: { type: 'vmfs' | 'monolithicFlat'; adapter: string }) => {
      cli.print(await writeStub(flat, options.type, options.adapter));
    });
}

/** `phd stub`: a descriptor for a flat that has none. Needs no configuration. */
import { type Command, Option } from 'commander';

/** What the command asks of the engine: writes the stub beside the flat and gives its path. */
export type WriteStub = (
  flatPath: string,
  type: 'vmfs' | 'monolithicFlat',
  adapterType: string | null,
) => Promise<string>;

/** Adds the command; errors pass as PhdError to the frame. */
export function registerStub(program: Command, writeStub: WriteStub): void {
  program
    .command('stub')
    .summary('write the descriptor that a flat lacks')
    .description(
      'Writes the descriptor of a flat beside it: NAME-flat.vmdk gets NAME.vmdk. An existing descriptor is never touched.',
    )
    .argument('<flat>', 'path of the flat (NAME-flat.vmdk) or raw image')
    .addOption(
      new Option('--type <type>', 'vmfs for ESX; monolithicFlat for Server, GSX, Workstation and qemu')
        .choices(['vmfs', 'monolithicFlat'])
        .default('vmfs'),
    )
    .addOption(
      new Option('--adapter <adapter>', 'controller of the disk')
        .choices(['ide', 'buslogic', 'lsilogic', 'legacyESX'])
        .default('lsilogic'),
    )
    .action(async (flat: string, options: { type: 'vmfs' | 'monolithicFlat'; adapter: string }) => {
      const stubPath = await writeStub(flat, options.type, options.adapter);
      process.stdout.write(`${stubPath}\n`);
    });
}

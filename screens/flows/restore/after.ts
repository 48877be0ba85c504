/** After the disks: the VMX, fitted to its place if wanted, and registration where the host can. */
import path from 'node:path';
import type { Desk } from '../../desk.ts';
import type { Draft } from './draft.ts';
import { placeVmx } from './vmx.ts';

export async function afterRestore(draft: Draft): Promise<void> {
  const { desk, folder = '', disks } = draft;
  const [first] = disks;
  if (first === undefined || !first.checked.carriesVmx) return;
  const restored = disks.map(({ checked, name }) => ({ scsiId: checked.scsiId, name }));
  const vmxPath = await placeVmx(draft, { archive: first.checked.archive, folder, restored });
  if (vmxPath !== undefined && draft.by === 'vm') await register(desk, vmxPath);
}

/** Asked only where `vim-cmd` exists; elsewhere it is said what would register it. */
export async function register(desk: Desk, vmxPath: string): Promise<void> {
  const { findRegistrar, registerCommand, registerVm } = await import('../../../src/engine/register-vm.ts');
  const registrar = await findRegistrar(desk.env.PATH ?? '');
  const command = registerCommand(vmxPath);
  if (registrar === null) {
    await desk.dialogue.tell('Register', [
      'This host has no vim-cmd, so nothing is registered. An ESX host registers it by:',
      command,
    ]);
    return;
  }
  const isWanted = await desk.dialogue.confirm({
    title: 'Register',
    lines: [`This is run: ${command}`],
    question: `Register ${path.basename(vmxPath)} with this host?`,
    preset: false,
  });
  if (!isWanted) return;
  try {
    const said = await desk.dialogue.busy('Registering', () => registerVm(registrar, vmxPath));
    await desk.dialogue.tell('Registered', [{ text: `${vmxPath} is registered: ${said}`, mark: 'good' }]);
  } catch (error) {
    await desk.dialogue.tell('Not registered', [{ text: (error as Error).message, mark: 'bad' }]);
  }
}

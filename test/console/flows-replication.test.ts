/** Replication from its menu: names are loaded, a line is edited, told why, run, and shown as restored. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { closeAll } from '../support/console-pty.ts';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, Tale } from '../tales/tale.ts';
import { atMainMenu, go } from './flows-restore-stage.ts';

let tale: Tale;
let digest: string;

beforeAll(async () => {
  tale = new Tale();
  const vm = await tale.makeVm('Crm', [{ name: 'Crm.vmdk', sizeBytes: 2 * MIB }]);
  await tale.backup(vm.folder, ['--full']);
  digest = fileDigest(vm.disks[0]?.flatPath ?? '');
  await tale.phd(['index']);
  mkdirSync(tale.path('vmfs', 'standby'));
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());
afterEach(closeAll);

it('loads names, edits a line, tells why, runs a pass and shows what was restored', async () => {
  const goal = tale.path('vmfs/standby/Crm.vmdk');
  // An editor that changes the line as a person would, then leaves a broken one behind.
  const editor = tale.path('edit');
  writeFileSync(
    editor,
    `#!/bin/sh\nsed -i 's,^#RESTORE:\\(.*\\)|[^|]*$,RESTORE:\\1|${goal},' "$1"\necho 'RESTORE:half' >>"$1"\n`,
  );
  chmodSync(editor, 0o700);
  const console_ = await atMainMenu(tale, { env: { EDITOR: editor, VISUAL: '' } });
  await go(console_, [
    [['e'], /^Restore$/m],
    [['r'], /Replication is off\. No vmdks\.auto yet/],
    [['f'], '1 line added, commented out; 0 there already.'],
    [['enter'], '0 lines in vmdks.auto.'],
    [['e'], /Lines that cannot be read[\s\S]*line \d+: /],
    [['esc'], /1 line in vmdks\.auto\.[\s\S]*1 line that cannot be read/],
    [['y'], /What each line would do[\s\S]*line \d+: restore:/],
    [['esc'], /^> Y /m],
    [['r'], /Run it\?/],
    [['y'], 'The pass has ended.'],
    [['esc'], /Last pass: .*1 restored, 0 failed/],
    [['v'], /restored \S+standby/],
    [['esc'], /^> V /m],
    [['s'], 'Replication is on, a pass every 60 min.'],
    [['d'], 'Delete it?'],
    [['enter'], /^> D /m],
  ]);
  expect(fileDigest(tale.path('vmfs/standby/Crm-flat.vmdk'))).toBe(digest);
});

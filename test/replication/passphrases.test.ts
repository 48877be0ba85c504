/** Passphrases in vmdks.auto: honoured for archives that the configuration cannot open, and told to nobody. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { fileDigest, only, runProgram, Tale } from '../tales/tale.ts';

it('#USE_SPASS opens what the configured passphrases do not; no output, log or job holds it', async () => {
  const tale = new Tale();
  try {
    const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 524_288 }]);
    tale.home.write('secrets/system', 'open sesame\n');
    tale.configure({ config: 'encryption: { systemPassphraseFile: secrets/system }\n' });
    only((await tale.backup(vm.folder, ['--encrypt'])).disks);
    tale.home.write('secrets/system', 'other words\n');
    const goal = tale.path('vmfs', 'CRM2', 'CRM.vmdk');
    const pass = (head: string) => {
      writeFileSync(tale.path('vmdks.auto'), `${head}RESTORE:CRM|*|00|CRM.vmdk|${goal}\n`, { mode: 0o600 });
      return tale.phd(['replicate', 'run', '--assume-off']);
    };
    const without = await pass('');
    expect(without.status).toBe(7);
    expect(without.stderr).toContain('none of the known passphrases opens it');
    const opened = await pass('#USE_SPASS=open sesame\n');
    expect(opened.status, opened.stderr).toBe(0);
    expect(fileDigest(tale.path('vmfs', 'CRM2', 'CRM-flat.vmdk'))).toBe(
      fileDigest(vm.disks[0]?.flatPath ?? ''),
    );
    expect(opened.stdout + opened.stderr).not.toContain('sesame');
    const kept = await runProgram('grep', ['-rla', 'sesame', tale.path('state'), tale.path('log')]);
    expect([kept.status, kept.stdout]).toEqual([1, '']);
  } finally {
    tale.remove();
  }
});

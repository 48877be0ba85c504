import { Command } from 'commander';
import { expect, it } from 'vitest';
import { type RestoreVmx, registerVmx } from '../../src/cli/vmx-command.ts';
import { PhdError } from '../../src/errors.ts';

it('phd vmx prints each file written, and reports each that was not', async () => {
  const asked: unknown[] = [];
  const lines: string[] = [];
  const statuses: number[] = [];
  const taken = new PhdError('EXISTS', 'a.vmx exists');
  const restoreVmx: RestoreVmx = async (archive, { to }) => {
    asked.push(archive, to);
    return { written: ['/vm/vmware.log'], failed: [{ name: 'a.vmx', error: taken }] };
  };
  const cli = {
    signal: new AbortController().signal,
    print: (line: string) => void lines.push(line),
    reportError: (error: unknown) => {
      lines.push(`phd: ${(error as PhdError).message}`);
      return error as PhdError;
    },
    setStatusOf: (failures: readonly PhdError[]) =>
      void statuses.push(...failures.map((one) => one.exitStatus)),
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  registerVmx(program, cli, restoreVmx);
  await program.parseAsync(['vmx', '2:folder/a.phd', '--to', '/vm'], { from: 'user' });
  expect(asked).toEqual(['2:folder/a.phd', '/vm']);
  expect(lines).toEqual(['/vm/vmware.log', 'phd: a.vmx exists']);
  expect(statuses).toEqual([1]);
  await expect(program.parseAsync(['vmx', 'x'], { from: 'user' })).rejects.toMatchObject({
    code: 'commander.missingMandatoryOptionValue',
  });
});

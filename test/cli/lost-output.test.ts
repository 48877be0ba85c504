/** What a command says may be lost; what it does is not, and its status tells of both. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileDigest, HOOK_TIMEOUT_MS, type Run, runProgram, Tale } from '../tales/tale.ts';

const PROGRAM = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));

let tale: Tale;
let diskDigest: string;

beforeAll(async () => {
  tale = new Tale();
  const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 1_048_576 }]);
  await tale.backup(vm.folder);
  diskDigest = fileDigest(path.join(vm.folder, 'CRM-flat.vmdk'));
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

/** Runs a script of bash in which `PHD` is the program. */
function shell(script: string): Promise<Run> {
  const text = `PHD() { "${process.execPath}" "${PROGRAM}" "$@"; }
${script}`;
  return runProgram('bash', ['-c', text], { env: { ...process.env, ...tale.home.env } });
}

describe('a command whose words nobody takes', () => {
  it('restores to the end when the reader of both streams has gone, with the status of the restore', async () => {
    const goal = tale.newFolder();
    const run = await shell(`PHD restore --vm CRM --to "${goal}" 2>&1 | : ; echo \${PIPESTATUS[0]}`);
    expect(run.stdout).toBe('0\n');
    expect(fileDigest(path.join(goal, 'CRM-flat.vmdk'))).toBe(diskDigest);
    expect(existsSync(path.join(goal, 'CRM-flat.vmdk.part'))).toBe(false);
  });

  it('restores to the end on a full standard output and says so, with status 6', async () => {
    const goal = tale.newFolder();
    const run = await shell(`PHD restore --vm CRM --to "${goal}" > /dev/full`);
    expect(run.status).toBe(6);
    expect(run.stderr).toMatch(/\nphd: cannot write to standard output: no space left on device\n$/);
    expect(fileDigest(path.join(goal, 'CRM-flat.vmdk'))).toBe(diskDigest);
  });

  it('does its work when standard error is full', async () => {
    expect(await shell('PHD verify --target 1 2> /dev/full')).toMatchObject({ status: 0 });
  });

  it('ends without a word when it only lists and the reader has gone', async () => {
    const run = await shell(`PHD list | : ; echo \${PIPESTATUS[0]}`);
    expect(run).toMatchObject({ status: 0, stdout: '0\n', stderr: '' });
  });
});

import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { closeAll, open } from '../support/console-pty.ts';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, Tale } from '../tales/tale.ts';
import { PlainProcess } from './plain-process.ts';

const MENU = 'Number, letter or word, ? help> ';
const LIST = '? help> ';

let tale: Tale;
let digests: Map<string, string>;
let console_: PlainProcess;

beforeAll(async () => {
  tale = new Tale();
  digests = new Map();
  for (const vmName of ['Crm', 'Mail', 'Web']) {
    const vm = await tale.makeVm(vmName, [{ name: `${vmName}.vmdk`, sizeBytes: 2 * MIB }]);
    await tale.backup(vm.folder, ['--full']);
    digests.set(vmName, fileDigest(vm.disks[0]?.flatPath ?? ''));
    rmSync(vm.folder, { recursive: true });
  }
  await tale.phd(['index']);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());
afterEach(async () => {
  console_.kill();
  await closeAll();
});

async function toPlans(): Promise<void> {
  console_ = new PlainProcess(tale.home.env, ['--plain']);
  await answerAll([MENU, 'e'], [MENU, 'c'], [MENU, 'p']);
}

async function toVmList(): Promise<void> {
  console_ = new PlainProcess(tale.home.env, ['--plain']);
  await console_.answer(MENU, 'e');
  await console_.answer(MENU, 'c');
  await console_.answer(MENU, 'v');
}

/** Answers each prompt in turn. */
async function answerAll(...pairs: [string, string][]): Promise<void> {
  for (const [prompt, line] of pairs) await console_.answer(prompt, line);
}

describe('a plan over several VMs', () => {
  it('is made of marked VMs, ordered, saved, run as one group, and proved', async () => {
    await toVmList();
    const list = await console_.answer(LIST, 'm 1 3');
    expect(list).toContain('VM: 1-3 of 3');
    await answerAll([LIST, 'p'], ['T type a path, b back, ? help> ', '1']);
    const plan = await console_.answer(LIST, 'u 2');
    expect(plan).toMatch(/> 1 Crm +2026-\S+ \S+ +\S+ \S+ +\S+\/vmfs\/Crm/);
    expect(plan).toMatch(/^[\d.]+ [KMGT]?B of [\d.]+ [KMGT]B free at \S+vmfs$/m);
    expect(await console_.answer(LIST, 'x')).toMatch(/1 Web[\s\S]*2 Crm/);
    await answerAll([MENU, 'copy of the vm'], [LIST, 'f'], [LIST, 'w']);
    await answerAll(['Under which name?: ', '../evil']);
    await console_.sees('! letters, digits');
    await answerAll(['Under which name?: ', 'site one'], [LIST, 'r']);
    const changes = await console_.answer('Write them so? (yes/no) [yes]: ', '');
    expect(changes).toContain('+ uuid.action = "create"');
    await console_.sees('2 of 2');
    await answerAll([LIST, 'b']);
    for (const vm of ['Crm', 'Web']) {
      const folder = tale.path('vmfs', vm);
      expect(fileDigest(path.join(folder, `${vm}-flat.vmdk`))).toBe(digests.get(vm));
      expect(readFileSync(path.join(folder, `${vm}.vmx`), 'utf8')).toContain('uuid.action = "create"');
      expect(existsSync(path.join(folder, `${vm}.vmx.original`))).toBe(true);
    }
    expect(existsSync(tale.path('vmfs', 'Mail'))).toBe(false);
    expect(readFileSync(tale.path('plans', 'site one.yaml'), 'utf8')).toMatch(
      /vm: Web[\s\S]*vm: Crm[\s\S]*lastGroup: \d/,
    );
  });

  it('runs again from the list of plans; what is there is replaced only on a yes, and its VMX stays', async () => {
    const vmx = readFileSync(tale.path('vmfs/Web/Web.vmx'), 'utf8');
    writeFileSync(tale.path('vmfs/Web/Web-flat.vmdk'), 'broken');
    truncateSync(tale.path('vmfs/Web/Web-flat.vmdk'), 2 * MIB);
    await toPlans();
    expect(await console_.answer(LIST, '1')).toMatch(/1 site one +2 newest +Web, Crm/);
    await answerAll([LIST, 'r'], ['Replace these 2 disks? (yes/no) [no]: ', '']);
    await answerAll([LIST, 'r'], ['Replace these 2 disks? (yes/no) [no]: ', 'yes']);
    // Where all processes can be seen there is no doubt that the VMs are off.
    const question = await console_.seesOneOf('Type yes to go on', 'VMX files that');
    if (question.startsWith('Type')) await console_.answer('Enter alone leaves it: ', 'yes');
    expect(await console_.sees('2 of 2')).toContain('VMX files that are there already stay as they are');
    await answerAll([LIST, 'b']);
    for (const vm of ['Crm', 'Web']) {
      expect(fileDigest(tale.path('vmfs', vm, `${vm}-flat.vmdk`))).toBe(digests.get(vm));
    }
    expect(readFileSync(tale.path('vmfs/Web/Web.vmx'), 'utf8')).toBe(vmx);
  });

  it('tries again what failed in its last run, also another day', async () => {
    await toVmList();
    await answerAll([LIST, 'p 2'], ['T type a path, b back, ? help> ', '1']);
    await answerAll([LIST, 'w'], ['Under which name?: ', 'mail']);
    const folder = readdirSync(tale.path('one')).find((name) => name.includes('-Mail.')) ?? '';
    await console_.sees('Restore now');
    renameSync(tale.path('one', folder), tale.path('away'));
    await answerAll([LIST, 'r']);
    await answerAll(['failed', ''], [LIST, 'b']);
    await console_.end();
    renameSync(tale.path('away'), tale.path('one', folder));
    await toPlans();
    await answerAll([LIST, '1']);
    expect(await console_.answer(LIST, 'y')).toContain('last run: 1 not done (Y tries again)');
    await console_.answer('Enter go on, L log, E pager, b back, ? help\n', '');
    await console_.sees('Plan mail');
    expect(fileDigest(tale.path('vmfs/Mail/Mail-flat.vmdk'))).toBe(digests.get('Mail'));
  });

  it('a VM that cannot be restored is told, and the others go on without it only on a yes', async () => {
    const file = tale.path('plans', 'two.yaml');
    const entry = (vm: string, to: string) => `  - { vm: ${vm}, uuid: "", to: ${tale.path(to)} }\n`;
    writeFileSync(file, `vms:\n${entry('Nobody', 'x')}${entry('Crm', 'y')}${entry('Crm', 'y')}`, {
      mode: 0o600,
    });
    await toPlans();
    await answerAll([LIST, '3'], [LIST, 'r']);
    expect(await console_.answer('without it? (yes/no) [no]: ', 'yes')).toContain('! Nobody: there is no');
    await console_.sees('two disks of this plan go to the same place');
    expect(existsSync(tale.path('y'))).toBe(false);
  });

  it('is made on the full screen by Space and P', async () => {
    const screen = open({ args: ['--thin'], env: tale.home.env, columns: 60, rows: 15 });
    await screen.waitFor('Main menu');
    screen.press('e');
    await screen.waitFor('VMX restore');
    screen.press('c');
    await screen.waitFor('Search by');
    screen.press('v');
    await screen.waitFor('1 Crm');
    screen.press('space', 'space');
    await screen.waitFor('2 marked');
    screen.press('p');
    await screen.waitFor('/vmfs');
    screen.press('enter');
    await screen.waitFor(/1 Crm[^\n]*\n[^\n]*2 Mail/);
    screen.press('down', 'down', 'd');
    await screen.waitFor(/1 Mail[^\n]*\n>[^\n]*2 Crm/);
    await screen.assertRepaintIsEqual();
    screen.press('esc');
    await screen.waitFor('This plan is not saved.');
    screen.press('n');
    await screen.waitFor('Submit to the background');
  });

  it('is not deleted by what was typed before the question could be read', async () => {
    const screen = open({ args: ['--plain'], env: tale.home.env });
    await screen.waitFor('help>');
    screen.type('e\rc\rp\r');
    await screen.waitFor('mail');
    screen.type('d 1\ryes\ryes\r');
    await screen.waitFor('Delete this plan? (yes/no) [no]:');
    screen.type('\r');
    await screen.waitFor((rows) => rows.filter((row) => row.includes('Restore plans')).length > 1);
    screen.type('b\rq\r');
    expect(readdirSync(tale.path('plans'))).toContain('mail.yaml');
  });

  it('runs from the command line: told first, refused whole if one VM is faulty, proved', async () => {
    const listed = await tale.phd(['plan', 'list']);
    expect(listed.stdout).toMatch(/^mail +1 +newest +Mail$/m);
    const dry = await tale.phd(['plan', 'run', 'site one', '--dry-run']);
    expect(dry.status).toBe(0);
    expect(dry.stdout).toMatch(/^Web +2026-\S+ \S+ +\S+ \S+ +\S+\/vmfs\/Web$/m);
    expect(dry.stdout).not.toContain('queued');
    const faulty = await tale.phd(['plan', 'run', 'two']);
    expect(faulty.status).toBe(1);
    expect(faulty.stderr).toContain('Nobody: there is no');
    expect(faulty.stderr).toContain('nothing is restored: --without-faulty');
    const twice = await tale.phd(['plan', 'run', 'two', '--without-faulty']);
    expect(twice.status).toBe(2);
    expect(twice.stderr).toContain('go to the same place');
    const disk = tale.path('vmfs/Mail/Mail-flat.vmdk');
    writeFileSync(disk, Buffer.alloc(2 * MIB, 7));
    const run = await tale.phd(['plan', 'run', 'mail', '--assume-off']);
    expect({ status: run.status, stderr: run.stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(run.stdout).toMatch(/^job \d+ done/m);
    expect(fileDigest(disk)).toBe(digests.get('Mail'));
    expect((await tale.phd(['plan', 'run', 'nowhere'])).status).toBe(1);
  }, 120_000);

  it('is deleted on a yes', async () => {
    await toPlans();
    await answerAll([LIST, 'd 3'], ['Delete this plan? (yes/no) [no]: ', 'yes'], [LIST, 'b']);
    expect(readdirSync(tale.path('plans'))).toEqual(['mail.yaml', 'site one.yaml']);
  });
});

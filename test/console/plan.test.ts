import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
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
afterEach(() => console_.kill());

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
    expect(await console_.answer(LIST, 's')).toMatch(/1 Web[\s\S]*2 Crm/);
    await answerAll(['Under which name?: ', '../evil']);
    await console_.sees('! letters, digits');
    await answerAll(['Under which name?: ', 'site one'], [LIST, 'x'], [MENU, 'copy of the vm']);
    await answerAll([LIST, 'f'], [LIST, 'r']);
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
});

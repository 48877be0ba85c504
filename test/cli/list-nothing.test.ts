/** A list without rows says why, a target that is dead says so once and holds nobody up. */
import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type BackedUp, HOOK_TIMEOUT_MS, linesOf, only, type Run, Tale } from '../tales/tale.ts';

let tale: Tale;
let disk: BackedUp;
/** Takes connections and never says a word. */
let deaf: Server;
let deafPort: number;

beforeAll(async () => {
  tale = new Tale();
  deaf = createServer();
  await new Promise<void>((resolve) => deaf.listen(0, '127.0.0.1', resolve));
  deafPort = (deaf.address() as { port: number }).port;
  const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 262_144 }]);
  disk = only((await tale.backup(vm.folder)).disks);
}, HOOK_TIMEOUT_MS);
afterEach(() => tale.configure({}));
afterAll(() => {
  deaf.close();
  tale.remove();
});

const lines = (run: Run): string[] => run.stderr.split('\n').filter((line) => line !== '');

async function listed(words: string[] = []): Promise<string[]> {
  const run = await tale.phd(['list', ...words]);
  expect(run).toMatchObject({ status: 0, stdout: '' });
  expect(await tale.phd(['list', '--json', ...words])).toMatchObject({ status: 0, stdout: '' });
  return lines(run);
}

describe('phd list without a row says in one line', () => {
  it('that nothing matches, and how much there is', async () => {
    await tale.phd(['index']);
    expect(await listed(['--vm', 'ERP'])).toEqual([
      'phd: nothing matches; the index holds 2 archives in all',
    ]);
  });

  it('that there is no target', async () => {
    tale.home.writeConfig('datastores: [vmfs]\n');
    expect(await listed()).toEqual([
      `phd: there is nothing to list: ${tale.path('phd.yaml')} names no target; phd target add adds one`,
    ]);
  });

  it('that the index was never made', async () => {
    rmSync(tale.path('state', 'index.db'));
    expect(await listed()).toEqual([
      'phd: there is nothing to list yet: the index was never made, run phd index',
    ]);
    await tale.phd(['index']);
  });

  it('that the targets are empty', async () => {
    tale.configure({ targets: ['empty'] });
    await tale.phd(['index']);
    expect(await listed()).toEqual(['phd: there are no archives on the targets, as far as the index knows']);
    tale.configure({});
    await tale.phd(['index']);
  });
});

describe('a dead target', () => {
  const TIMEOUT_SECONDS = 6;
  const withDeaf = (): void =>
    tale.home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one }
  - { number: 2, name: deaf, transport: ftp, host: 127.0.0.1, port: ${deafPort}, user: u, passwordEnv: HOME, path: '', timeoutSeconds: ${TIMEOUT_SECONDS} }
datastores: [vmfs]
`);

  it('warns once and is waited for once: what comes after goes on without it', async () => {
    withDeaf();
    const first = await tale.phd(['index']);
    expect(first.status).toBe(4);
    const failed = lines(first).filter((line) => line.includes('deaf'));
    expect(failed).toEqual([expect.stringMatching(/^phd: target 2 \(deaf\): .*Timeout/)]);
    const connections: number[] = [];
    deaf.on('connection', () => connections.push(1));
    const restore = await tale.phd(['restore', '--vm', 'CRM', '--to', tale.newFolder()]);
    const list = await tale.phd(['list']);
    const verify = await tale.phd(['verify', disk.archive]);
    deaf.removeAllListeners('connection');
    expect([restore.status, list.status, verify.status]).toEqual([0, 0, 0]);
    expect(connections).toEqual([]);
    const told = (run: Run): string[] => lines(run).filter((line) => /deaf|target 2/.test(line));
    expect(told(restore)).toEqual([expect.stringMatching(/Timeout.* \(tried \d+ min ago\)$/)]);
    expect(told(list)).toEqual([
      expect.stringMatching(
        /^phd: target 2 \(deaf\) could not be listed \d+ min ago, it was never listed: see phd target list$/,
      ),
    ]);
    expect(told(verify)).toEqual([]);
  });

  it('is asked again by phd index, and by a command that names it', async () => {
    withDeaf();
    const asked: number[] = [];
    deaf.on('connection', () => asked.push(1));
    expect((await tale.phd(['verify', '--target', '2'])).status).toBe(4);
    deaf.removeAllListeners('connection');
    expect(asked.length).toBeGreaterThan(0);
  });
});

describe('what cannot be seen', () => {
  it('is told once in a run, however many disks the VM has', async () => {
    const disks = (count: number) =>
      Array.from({ length: count }, (_, at) => ({ name: `d${at}.vmdk`, sizeBytes: 262_144 }));
    const one = await tale.makeVm('ONE', disks(1));
    const three = await tale.makeVm('THREE', disks(3));
    const unseen = (run: Run): string[] => lines(run).filter((line) => line.includes('cannot be seen'));
    const few = unseen((await tale.backup(one.folder)).run);
    const many = await tale.phd(['backup', one.folder, three.folder, '--json']);
    expect(linesOf(many, 'done')).toHaveLength(4);
    expect(unseen(many).length).toBe(few.length);
    for (const line of few) expect(line).not.toContain('d0.vmdk');
  });
});

/** A VM onto a datastore of a host (a simulated one) as a job: queued, locked, killed, retried, told of. */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Job } from '../../src/model/job.ts';
import { Queue } from '../../src/queue/queue.ts';
import { factsOf, goalOf, printRequest, readRequest, subjectOf } from '../../src/queue/request.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import { randomLooking } from '../support/disk-images.ts';
import { type SimulatedEsx, startSimulatedEsx } from '../support/servers/esx/simulated-esx.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, linesOf, only, sha256, Tale } from '../tales/tale.ts';

const LOOK_EVERY_MS = 30;
const LIMIT_MS = 60_000;
const CONTENTS = [1, 2].map((disk) => randomLooking(`disk ${disk}`, 2 * BLOCK));

let tale: Tale;
let esx: SimulatedEsx;
let queue: Queue;

beforeAll(async () => {
  tale = new Tale();
  esx = await startSimulatedEsx({ python: true });
  const disks = CONTENTS.map((content, at) => ({ name: `web_${at}.vmdk`, content }));
  esx.addVm({ id: 3, name: 'web', uuid: '564d3333222233334444555566667777', disks });
  tale.home.write('esx.key', esx.privateKey);
  tale.home.write('esx.known', `[127.0.0.1]:${esx.server.port} ${esx.hostKey}\n`);
  tale.configure({
    config: `hosts:\n  - { name: esx, type: esx, host: 127.0.0.1, port: ${esx.server.port}, user: ${esx.server.user}, privateKeyFile: esx.key, knownHostsFile: esx.known, timeoutSeconds: 10 }\n  - { name: iron, type: device, devices: [/dev/sda] }\n`,
  });
  const run = await tale.phd(['backup', 'esx/web']);
  if (run.status !== 0) throw new Error(run.stderr);
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);
afterEach(() => esx.clearFaults());
afterAll(async () => {
  queue.close();
  await esx.stop();
  tale.remove();
});

async function queued(name: string, what = ['web']): Promise<number> {
  const words = ['--datastore', 'datastore1', '--name', name, '--background', '--json'];
  const run = await tale.phd(['host', 'restore', 'esx', ...what, ...words]);
  expect(run.status, run.stderr).toBe(0);
  return Number(only(linesOf(run, 'queued')).job);
}

async function until(id: number, look: (job: Job) => boolean): Promise<Job> {
  const startedMs = performance.now();
  for (;;) {
    const job = queue.job(id);
    if (look(job)) return job;
    if (performance.now() - startedMs > LIMIT_MS) throw new Error(`waited in vain: ${JSON.stringify(job)}`);
    await delay(LOOK_EVERY_MS);
  }
}

const ended = (id: number): Promise<Job> => until(id, ({ state }) => !['waiting', 'running'].includes(state));
const digestsOf = (folder: string): string[] =>
  [0, 1].map((at) => fileDigest(esx.store(folder, `web_${at}-flat.vmdk`)));

it('all disks of the run go in one job, which tells what it does and holds no secret', async () => {
  const id = await queued('new');
  const job = queue.job(id);
  expect(factsOf(job)).toEqual([
    ['VM', 'new'],
    ['From', expect.stringMatching(/^1:.+\/00-web_0.+ and 1 more$/)],
    ['To', 'esx:datastore1/new'],
  ]);
  expect([subjectOf(job), goalOf(job)]).toEqual(['new', 'VM esx:datastore1/new']);
  expect(job.request).not.toMatch(/key|password/i);
  expect((await tale.phd(['jobs', 'start', String(id)])).status).toBe(0);
  const done = await ended(id);
  // The VM it was is still there, so this one is a copy, with a warning.
  expect(done.state, done.errorMessage ?? '').toBe('done with warnings');
  expect(digestsOf('new')).toEqual(CONTENTS.map((content) => sha256(content)));
  expect(JSON.parse(done.result ?? '')).toMatchObject({
    folder: '/vmfs/volumes/datastore1/new',
    disks: [{ disk: 'web_0.vmdk' }, { disk: 'web_1.vmdk' }],
    vmId: expect.stringMatching(/^\d+$/),
  });
  expect(done.progress).toMatchObject({ phase: 'send', percent: 100 });
  expect(readFileSync(queue.logFileOf(id), 'utf8')).toContain('web on esx has the UUID of this VM');
});

it('a lock keeps it waiting; killed in its midst nothing of it stays, and a retry makes it whole', async () => {
  const id = await queued('later');
  await tale.phd(['locks', 'stop', '--restore']);
  const refused = await tale.phd(['jobs', 'start', String(id)]);
  expect([refused.status, queue.job(id).state]).toEqual([5, 'waiting']);
  await tale.phd(['locks', 'clear']);
  esx.setFault('hang', 'after vmkfstools');
  await tale.phd(['jobs', 'start', String(id)]);
  await until(id, () => existsSync(esx.store('later', 'web_0.vmdk')));
  const killed = tale.phd(['jobs', 'kill', String(id)]);
  await until(id, ({ state }) => state === 'cancelled');
  expect((await killed).status).toBe(0);
  expect(existsSync(esx.store('later'))).toBe(false);
  esx.clearFaults();
  await tale.phd(['jobs', 'retry', String(id)]);
  await tale.phd(['jobs', 'start', String(id)]);
  expect((await ended(id)).attempt).toBe(2);
  expect(digestsOf('later')).toEqual(CONTENTS.map((content) => sha256(content)));
});

it('a disk that fails fails the job and leaves the VM unregistered; a retry begins anew', async () => {
  const id = await queued('half');
  esx.setFault('no-space', 'once');
  await tale.phd(['jobs', 'start', String(id)]);
  const failed = await ended(id);
  expect([failed.state, failed.errorCode]).toEqual(['failed', 'NO_SPACE']);
  expect(JSON.parse(failed.result ?? '')).toMatchObject({ disks: [{ disk: 'web_1.vmdk' }], vmId: null });
  await tale.phd(['jobs', 'retry', String(id)]);
  await tale.phd(['jobs', 'start', String(id)]);
  expect(JSON.parse((await ended(id)).result ?? '')).toMatchObject({ vmId: expect.any(String) });
  expect(digestsOf('half')).toEqual(CONTENTS.map((content) => sha256(content)));
});

it('what makes no request is refused when it is queued, and told when it is read', async () => {
  const words = ['web', '--datastore', 'datastore1', '--background'];
  expect((await tale.phd(['host', 'restore', 'iron', ...words])).stderr).toMatch(/iron is of type device/);
  const disks = [{ archive: '1:f/a' }];
  const request = { host: 'esx', datastore: 'datastore1', disks };
  expect(JSON.parse(printRequest('restore', request))).toEqual(request);
  for (const [change, why] of [
    [{ disks: [] }, /disks/],
    [{ disks: [{ archive: 'f/a' }] }, /disks\.0\.archive: expected N:folder\/file or a path/],
    [{ datastore: '' }, /datastore/],
    [{ password: 'words' }, /password/],
  ] as const)
    expect(() => printRequest('restore', { ...request, ...change } as never)).toThrow(why);
  const [job] = queue.submit('restore', [request], submitterOf({}));
  expect(goalOf(job as Job)).toBe('VM esx:datastore1/ as in f');
  expect(() => readRequest('restore', { ...(job as Job), request: '{"host":"esx"}' })).toThrow(/datastore/);
  queue.removePending();
});

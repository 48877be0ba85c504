import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { Queue } from '../../src/queue/queue.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const built = (file: string): string => JSON.stringify(pathToFileURL(path.join(DIST, file)).href);
const JOBS = 60;

let home: TempHome;
let queue: Queue;
let children: ChildProcess[];

beforeEach(() => {
  home = makeTempHome();
  queue = new Queue({ configDir: home.root, stateDir: home.folder('state'), logDir: home.folder('log') });
  children = [];
});

afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  queue.close();
  home.remove();
});

/** Runs a module of the build in a process of its own; it says `ready` and goes on at a line of input. */
function run(code: string): ChildProcess {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

const RACER = (places: string, starts: string): string => `
  import { appendFileSync } from 'node:fs';
  import { once } from 'node:events';
  import { Queue } from ${built('src/queue/queue.js')};
  import { runJob } from ${built('src/queue/run-job.js')};
  const queue = new Queue(${places});
  process.stdout.write('ready');
  await once(process.stdin, 'data');
  const operation = async ({ id, attempt }) => {
    appendFileSync(${starts}, id + ' ' + attempt + ' ' + process.pid + '\\n');
    return { result: null, failures: [] };
  };
  const options = { signal: new AbortController().signal, print: () => undefined };
  for (let next = queue.db.nextWaiting(); next; next = queue.db.nextWaiting())
    await runJob(queue, next.id, operation, options);
  queue.close();
  process.stdin.destroy();
`;

describe('four processes that race for the jobs of one home', () => {
  it('start each of 60 once', async () => {
    const starts = path.join(home.root, 'starts');
    writeFileSync(starts, '');
    const by = { user: 'u', host: 'h', tty: null, sshClient: null };
    queue.submit(
      'verify',
      Array.from({ length: JOBS }, (_, at) => ({ archives: [`1:folder/${at}`] })),
      by,
    );
    const racers = [1, 2, 3, 4].map(() => run(RACER(JSON.stringify(queue.places), JSON.stringify(starts))));
    await Promise.all(racers.map((racer) => once(racer.stdout as NodeJS.ReadableStream, 'data')));
    const ends = racers.map((racer) => once(racer, 'exit'));
    for (const racer of racers) racer.stdin?.write('go\n');
    expect((await Promise.all(ends)).map(([status]) => status)).toEqual([0, 0, 0, 0]);
    const started = readFileSync(starts, 'utf8').trimEnd().split('\n');
    expect(started).toHaveLength(JOBS);
    expect(new Set(started.map((line) => line.split(' ').slice(0, 2).join(' '))).size).toBe(JOBS);
    const jobs = queue.db.jobs();
    expect(new Set(jobs.map(({ state, attempt }) => `${state} ${attempt}`))).toEqual(new Set(['done 1']));
    expect(jobs.flatMap(({ id }) => queue.db.attempts(id))).toHaveLength(JOBS);
  });
});

describe('the lock of a home', () => {
  const HOLDER = (file: string): string => `
    import { ExclusiveLock } from ${built('db/exclusive-lock.js')};
    process.stdout.write(ExclusiveLock.tryTake(${JSON.stringify(file)}) ? 'held' : 'refused');
    setInterval(() => undefined, 1e6);
  `;

  it('is held by one, also while that one is stopped, and free as soon as it is killed', async () => {
    const file = path.join(home.root, 'state', 'daemon.lock');
    const holder = run(HOLDER(file));
    const [said] = (await once(holder.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    expect(said.toString()).toBe('held');
    expect(ExclusiveLock.isHeld(file)).toBe(true);
    holder.kill('SIGSTOP');
    expect(ExclusiveLock.tryTake(file)).toBeUndefined();
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(ExclusiveLock.isHeld(file)).toBe(false);
    const lock = ExclusiveLock.tryTake(file);
    expect(lock).toBeDefined();
    lock?.release();
  });
});

describe('jobs.db opened twice in one process', () => {
  it('keeps its locks when a second connection comes and goes', () => {
    const mine = (): string[] =>
      readFileSync('/proc/locks', 'utf8')
        .split('\n')
        .map((line) => line.replace(/^\d+: /, ''))
        .filter((line) => line.split(/\s+/).includes(String(process.pid)))
        .sort();
    const before = mine();
    expect(before.length).toBeGreaterThan(0);
    const second = new Queue(queue.places);
    expect(mine()).toEqual(before);
    second.close();
    expect(mine()).toEqual(before);
  });
});

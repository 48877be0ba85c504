import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import type { ProcessIdentity } from '../../src/model/job.ts';
import {
  identityOf,
  isAlive,
  ownIdentity,
  signalProcess,
  waitUntilGone,
} from '../../src/queue/process-identity.ts';

const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    process.kill(-(child.pid as number), 'SIGKILL');
    await once(child, 'exit');
  }
});

/** Leads a group of its own, as workers do. */
function start(words: string[]): ChildProcess & { pid: number } {
  const [file = '', ...rest] = words;
  const child = spawn(file, rest, { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  return child as ChildProcess & { pid: number };
}

function stateLetter(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0] ?? '';
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

describe('a process', () => {
  it('is known by more than its number', () => {
    const own = ownIdentity();
    expect(own.pid).toBe(process.pid);
    expect(isAlive(own)).toBe(true);
    expect(isAlive({ ...own, startTicks: '1' })).toBe(false);
    expect(isAlive({ ...own, bootId: 'an earlier boot' })).toBe(false);
  });

  it('that is stopped still lives', async () => {
    const child = start(['sleep', '1000']);
    const identity = identityOf(child.pid) as ProcessIdentity;
    process.kill(child.pid, 'SIGSTOP');
    await until(() => stateLetter(child.pid) === 'T');
    expect(isAlive(identity)).toBe(true);
  });

  it('of which only the entry is left, since nobody asked how it ended, is dead', async () => {
    const parent = start(['sh', '-c', 'sleep 1000 & echo $!; exec sleep 1000']);
    const [text] = (await once(parent.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    const pid = Number(text.toString());
    const identity = identityOf(pid) as ProcessIdentity;
    await until(() => readFileSync(`/proc/${parent.pid}/comm`, 'utf8') === 'sleep\n');
    process.kill(pid, 'SIGKILL');
    await until(() => stateLetter(pid) === 'Z');
    expect(isAlive(identity)).toBe(false);
  });

  it('is not signalled if the number belongs to another by now', () => {
    const child = start(['sleep', '1000']);
    const identity = identityOf(child.pid) as ProcessIdentity;
    expect(signalProcess({ ...identity, startTicks: '1' }, 'SIGKILL')).toBe(false);
    expect(isAlive(identity)).toBe(true);
  });

  it('is killed with the group it leads', async () => {
    const parent = start(['sh', '-c', 'sleep 1000 & echo $!; wait']);
    const [text] = (await once(parent.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    const inner = identityOf(Number(text.toString())) as ProcessIdentity;
    const outer = identityOf(parent.pid) as ProcessIdentity;
    expect(await waitUntilGone(outer, 0)).toBe(false);
    expect(signalProcess(outer, 'SIGKILL', 'group')).toBe(true);
    expect(await waitUntilGone(outer, 10_000)).toBe(true);
    expect(await waitUntilGone(inner, 10_000)).toBe(true);
    expect(signalProcess(outer, 'SIGKILL', 'group')).toBe(false);
  });
});

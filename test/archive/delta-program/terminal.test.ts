import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { flip, locate, Place, SHELLS, type ShellName } from './place.ts';

/** A run on a pseudo-terminal: answers are typed when their question is on the screen. */
function runOnTerminal(
  place: Place,
  shell: ShellName,
  words: string[],
  dialog: [RegExp, string][],
): Promise<{ status: number | null; screen: string }> {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const command = [...place.command(shell), place.deltaPath, ...words].map(quote).join(' ');
  const child = spawn(locate('script'), ['-qec', command, '/dev/null'], {
    cwd: place.out,
    env: {
      PATH: place.path(shell),
      HOME: place.root,
      TMPDIR: place.tmp,
      USE_RPATH: place.out,
      SHELL: '/bin/sh',
      TERM: 'dumb',
    },
    stdio: 'pipe',
  });
  let screen = '';
  let read = 0;
  const steps = [...dialog];
  child.stdout.on('data', (chunk) => {
    screen += chunk;
    const step = steps[0];
    const found = step?.[0].exec(screen.slice(read));
    if (step && found) {
      steps.shift();
      read = screen.length;
      child.stdin.write(step[1]);
    }
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, screen }));
  });
}

describe.each(SHELLS)('on a terminal, %s', (shell) => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make({ passphrases: ['secret-canary'] });
  });
  afterAll(() => place.remove());

  it('asks for the passphrase without echo, shows the proof, and restores', async () => {
    const { status, screen } = await runOnTerminal(
      place,
      shell,
      ['autorun', 'restore'],
      [[/Passphrase of the DELTA: $/, 'secret-canary\r']],
    );
    expect(status, screen).toBe(0);
    expect(screen).not.toContain('canary');
    expect(place.isRestored(place.after)).toBe(true);
    place.emptyOut();
  });

  it('stays at the menu after an error, unless the word exit is given; ^C cancels with status 130', async () => {
    rmSync(place.fullPath, { force: true });
    // The key after ^C: a signal that comes after the shell looked for signals and before it reads
    // is acted upon only when `read` returns, as it is in any shell.
    const dialog: [RegExp, string][] = [
      [/Passphrase of the DELTA: $/, 'secret-canary\r'],
      [/Your Command\? $/, '\x03\r'],
    ];
    const stays = await runOnTerminal(place, shell, ['autorun', 'restore'], dialog);
    expect(stays.screen).toContain('Staying at the menu');
    expect(stays.status).toBe(130);
    const leaves = await runOnTerminal(place, shell, ['autorun', 'restore', 'exit'], dialog);
    expect(leaves.status).toBe(4);
    expect(leaves.screen).not.toContain('Your Command');
    place.put();
    expect(place.leftovers()).toEqual([]);
  });
});

describe.each(SHELLS)('at the menu with the word ignore, %s', (shell) => {
  it('each restore has a list of its own of what was lost', async () => {
    const place = await Place.make();
    const { bytes } = place.full;
    const damaged = (at: number): Buffer => flip(bytes, Math.floor(bytes.length * at));
    const copy = join(place.root, 'copy.phd');
    writeFileSync(place.fullPath, damaged(0.2));
    writeFileSync(copy, damaged(0.4));
    const again = join(place.out, 'again-flat.vmdk');
    const question = /leave\): $/;
    await runOnTerminal(
      place,
      shell,
      [],
      [
        [/Your Command\? $/, 'ignore\r'],
        ...[
          ['\r', '\r'],
          [`${copy}\r`, `${again}\r`],
        ].flatMap(([full, disk]): [RegExp, string][] => [
          [/Your Command\? $/, 'r\r'],
          [question, full as string],
          [question, disk as string],
          [/to leave\): $/, 'yes\r'],
        ]),
        [/Your Command\? $/, 'q\r'],
      ],
    );
    const [first, second] = [place.flat, again].map((flat) =>
      readFileSync(`${flat}.damaged.ranges`, 'utf8').trim().split('\n').slice(1),
    );
    expect(first).toHaveLength(1);
    expect(second).toHaveLength(1);
    expect(first).not.toEqual(second);
    place.remove();
  });
});

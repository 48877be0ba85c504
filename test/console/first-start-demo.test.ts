import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { closeAll, MAIN, open } from '../support/console-pty.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const DEMO_MS = 90_000;

let home: TempHome;
let scratch: string;
beforeEach(() => {
  home = makeTempHome();
  scratch = home.folder('tmp');
});
afterEach(async () => {
  await closeAll();
  home.remove();
});

it('the first start opens the demo farm, its console, and comes back without a trace of it', async () => {
  const one = open({ args: ['--thin'], env: { ...home.env, TMPDIR: scratch } });
  await one.waitFor('Welcome to phd');
  one.press('d');
  await one.waitFor('Enter opens the console', DEMO_MS);
  expect(one.isAlternateScreen).toBe(false);
  const [farm = ''] = readdirSync(scratch);
  one.press('enter');
  await one.waitFor('Main menu');
  one.press('q');
  await one.waitFor('Welcome to phd');
  expect(existsSync(path.join(scratch, farm))).toBe(false);
  one.press('l');
  await one.waitFor('Main menu');
  await one.assertRepaintIsEqual();
  one.press('q');
  expect(await one.exit()).toEqual({ code: 0, signal: 0 });
}, 180_000);

it('phd demo on a terminal: the console by lines if wanted, and a signal leaves nothing behind', async () => {
  const one = open({ args: ['--plain', 'demo'], env: { ...home.env, TMPDIR: scratch } });
  await one.waitFor('Enter opens the console', DEMO_MS);
  one.type('\r');
  await one.waitFor('Number, letter or word');
  one.type('3\r');
  one.signal('SIGTERM');
  expect(await one.exit()).toEqual({ code: 143, signal: 0 });
  expect(readdirSync(scratch)).toEqual([]);
}, 180_000);

it.each([[['--thin']], [['--plain']]])(
  '%j: ^C ends the demo alone, the console stays',
  async (args) => {
    const one = open({ args, env: { ...home.env, TMPDIR: scratch } });
    await one.waitFor('Welcome to phd');
    one.type(args.includes('--plain') ? 'd\r' : 'd');
    await one.waitFor('make a farm', DEMO_MS);
    one.press('ctrl-c');
    await one.waitFor(
      (screen) => screen.join('\n').lastIndexOf('Later: to') > screen.join('\n').indexOf('make a farm'),
    );
    expect(readdirSync(scratch)).toEqual([]);
    one.type(args.includes('--plain') ? 'l\rq\r' : 'l');
    await one.waitFor('Main menu');
    if (!args.includes('--plain')) one.press('q');
    expect(await one.exit()).toEqual({ code: 0, signal: 0 });
  },
  120_000,
);

it('phd keys prints every menu and every key', () => {
  const text = execFileSync(process.execPath, [MAIN, 'keys'], { env: home.env }).toString();
  expect(text).toContain('Main menu\n  1  Status');
  expect(text).toMatch(/^ {2}\^L +paint the whole screen again$/m);
  expect(text).toContain('Numbered dialogue (--plain): lists');
});

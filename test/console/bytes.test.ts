/** What the thin look may cost on the line at 80x24, for each of three terminals. Figures in bytes. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ConsolePty, closeAll, open } from '../support/console-pty.ts';
import type { TempHome } from '../support/temp-home.ts';
import { makeConsoleHome, readyStage } from './stage.ts';

let home: TempHome;
beforeEach(() => {
  home = makeConsoleHome();
});
afterEach(async () => {
  await closeAll();
  home.remove();
});

/** Bytes of the frame that these keys lead to. */
async function cost(shown: ConsolePty, keys: string[], until: string | RegExp): Promise<number> {
  shown.forgetBytes();
  shown.press(...keys);
  await shown.waitFor(until);
  await shown.waitForFrame();
  return shown.bytes.length;
}

describe.each(['xterm-256color', 'linux', 'putty-256color'])('%s', (term) => {
  it('first paint of the program: at most 1.8 kB with its state lines', async () => {
    const shown = open({ args: ['--thin'], env: home.env, term });
    await shown.waitFor('Status: idle');
    await shown.waitForFrame();
    expect(shown.bytes.length).toBeLessThanOrEqual(1_800);
    // No questions to the terminal, no line drawing by another charset.
    expect(shown.bytes.toString('latin1')).not.toMatch(/\x1b\[[\d>?;]*[cnx]|\x1b\[>|\x1b[()][0A-B]|\x0e/);
  });

  it('a list: first paint at most 1.8 kB, Down at most 60 in view and 150 where it scrolls', async () => {
    const shown = await readyStage({}, { term });
    expect(await cost(shown, ['l'], '>   1 archive-0001')).toBeLessThanOrEqual(1_800);
    let worstInView = 0;
    for (let row = 2; row <= 18; row++) {
      worstInView = Math.max(
        worstInView,
        await cost(shown, ['down'], new RegExp(`^>  *${row} archive`, 'm')),
      );
    }
    let worstScrolling = 0;
    for (let row = 19; row <= 36; row++) {
      worstScrolling = Math.max(
        worstScrolling,
        await cost(shown, ['down'], new RegExp(`^> *${row} archive`, 'm')),
      );
    }
    for (let row = 35; row >= 5; row--) {
      worstScrolling = Math.max(
        worstScrolling,
        await cost(shown, ['up'], new RegExp(`^> *${row} archive`, 'm')),
      );
    }
    expect(worstInView).toBeLessThanOrEqual(60);
    expect(worstScrolling).toBeLessThanOrEqual(150);
    await shown.close({ comparing: true });
  });

  it('a question: at most 900 to open and close it', async () => {
    const shown = await readyStage({}, { term });
    const opened = await cost(shown, ['y'], '[Yes]  No');
    const closed = await cost(shown, ['n'], 'answer: confirm: false');
    expect(opened + closed).toBeLessThanOrEqual(900);
  });

  it('progress: at most 60 a frame', async () => {
    const shown = await readyStage({ stepMs: 100 }, { term });
    shown.press('p');
    await shown.waitFor(' 0.5 %');
    const costs: number[] = [];
    for (let step = 6; step <= 15; step++) {
      shown.forgetBytes();
      await shown.waitFor(` ${(step / 10).toFixed(1)} %`);
      await shown.waitForFrame();
      costs.push(shown.bytes.length);
    }
    expect(Math.max(...costs)).toBeLessThanOrEqual(60);
  });

  it('idle: none, though the state is looked at', async () => {
    const shown = open({ args: ['--thin'], env: home.env, term });
    await shown.waitFor('Status: idle');
    await shown.waitForFrame();
    shown.forgetBytes();
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(shown.bytes.length).toBe(0);
  });
});

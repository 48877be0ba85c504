/** Look of the console: turned at once, kept in phd.yaml. */
import { lookMenu } from '../../menus/look-menu.ts';
import type { Desk } from '../desk.ts';
import { chooseLook, type Look } from '../look.ts';
import { takeOn } from '../saved-look.ts';
import { tellFailure } from './tell-failure.ts';

export async function look(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const chosen = await desk.dialogue.menu(lookMenu(desk.look), at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'Not kept', async () => {
      if (chosen === 'default') await forget(desk);
      else await turn(desk, chosen);
    });
  }
}

async function turn(desk: Desk, what: string): Promise<void> {
  const { kind, charset, isMono, hasMouse } = desk.look;
  const turned: Record<string, { change: Partial<Look>; value: string }> = {
    look: kind === 'thin' ? change({ kind: 'rich' }, 'rich') : change({ kind: 'thin' }, 'thin'),
    charset:
      charset === 'ascii' ? change({ charset: 'utf8' }, 'utf8') : change({ charset: 'ascii' }, 'ascii'),
    mono: change({ isMono: !isMono }, String(!isMono)),
    mouse: change({ hasMouse: !hasMouse }, String(!hasMouse)),
  };
  const wanted = turned[what];
  if (wanted === undefined) return;
  takeOn(desk, { ...desk.look, ...wanted.change });
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, `console.${what}`, wanted.value);
}

function change(to: Partial<Look>, value: string): { change: Partial<Look>; value: string } {
  return { change: to, value };
}

/** Takes the settings out of the file and goes by the terminal again. */
async function forget(desk: Desk): Promise<void> {
  const { readConsoleSettings, setSetting } = await import('../../src/engine/configuration.ts');
  const { places } = await desk.queue();
  if ((await readConsoleSettings(places)) !== undefined) await setSetting(places, 'console', null);
  takeOn(desk, { ...chooseLook(desk.env, null, desk.look.isSlow ? { slow: true } : {}) });
}

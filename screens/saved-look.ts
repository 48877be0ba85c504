/** The look that phd.yaml asks for, taken on after the first paint: the start waits for no file. */
import { fromErrno } from '../src/errors.ts';
import type { ConsoleSettings } from '../src/model/config.ts';
import type { Desk } from './desk.ts';
import { chooseLook, type Look, type LookWords } from './look.ts';

/** Words of the command line win over the file, the file over what the terminal tells. */
export function withSaved(words: LookWords, saved: ConsoleSettings): LookWords {
  const look = words.look ?? saved.look;
  const charset = words.charset ?? saved.charset;
  const mono = words.mono ?? saved.mono;
  const mouse = words.mouse ?? saved.mouse;
  return {
    ...(words.slow === undefined ? {} : { slow: words.slow }),
    ...(look === null ? {} : { look }),
    ...(charset === null ? {} : { charset }),
    // NO_COLOR is of this session and stands over a file that is of all.
    ...(mono === null || (mono === false && words.mono === undefined) ? {} : { mono }),
    ...(mouse === null ? {} : { mouse }),
  };
}

/** Takes the saved look on if it differs. A configuration that cannot be read is told by whoever needs it. */
export async function applySavedLook(desk: Desk, words: LookWords, device: string | null): Promise<void> {
  try {
    const { readConsoleSettings } = await import('../src/engine/configuration.ts');
    const { places } = await desk.queue();
    const saved = await readConsoleSettings(places);
    if (saved !== undefined) takeOn(desk, chooseLook(desk.env, device, withSaved(words, saved)));
  } catch (error) {
    desk.dialogue.notice(fromErrno(error, 'the look of the console').message, 'warning');
  }
}

/** Shows all in another look. */
export function takeOn(desk: Desk, look: Look): void {
  if (JSON.stringify(look) === JSON.stringify(desk.look)) return;
  Object.assign(desk.look, look);
  desk.dialogue.restyle();
}

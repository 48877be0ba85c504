/** The menu of the console's look: each entry tells how it is and turns it. */
import type { Menu } from './menu.ts';

/** As they are now. */
export interface LookWords {
  kind: 'thin' | 'rich';
  charset: 'ascii' | 'utf8';
  isMono: boolean;
  hasMouse: boolean;
}

export function lookMenu({ kind, charset, isMono, hasMouse }: LookWords): Menu {
  return {
    id: 'look',
    title: 'Look of the console',
    entries: [
      {
        key: 'l',
        id: 'look',
        label: `Lines: ${kind === 'thin' ? 'thin, few bytes' : 'rich, with frames and gauges'}`,
        help: 'thin for slow lines, rich with frames, a bar and gauges',
      },
      {
        key: 'c',
        id: 'charset',
        label: `Characters: ${charset === 'ascii' ? 'ASCII only' : 'UTF-8'}`,
        help: 'ASCII where the terminal shows signs it should not',
      },
      {
        key: 'o',
        id: 'mono',
        label: `Colours: ${isMono ? 'none' : 'yes'}`,
        help: 'without colours, states are told by words and bold',
      },
      {
        key: 'u',
        id: 'mouse',
        label: `Mouse: ${hasMouse ? 'on' : 'off'}`,
        help: 'click to choose; Shift+drag copies while it is on',
      },
      {
        key: 'd',
        id: 'default',
        label: 'Default: as the terminal allows',
        help: 'forget all of this; the next start finds it out',
      },
      { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'back to the menu before' },
    ],
  };
}

/** As the help and the printed keys show it. */
export const LOOK_MENU: Menu = lookMenu({ kind: 'thin', charset: 'ascii', isMono: false, hasMouse: false });

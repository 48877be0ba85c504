/** How the console appears: decided once from the terminal, the environment and the words of the command line. */

export interface Look {
  /** thin: a marker and no frames, for slow lines; rich: frames and an inverse bar. */
  kind: 'thin' | 'rich';
  isMono: boolean;
  charset: 'ascii' | 'utf8';
  hasMouse: boolean;
  /** Progress once a second and long waits for the rest of a key. */
  isSlow: boolean;
}

/** Words of the command line and of phd.yaml; what is left out is found out. */
export interface LookWords {
  look?: 'thin' | 'rich';
  mono?: boolean;
  charset?: 'ascii' | 'utf8';
  mouse?: boolean;
  slow?: boolean;
}

/** Lines over which every byte takes its time. */
const SERIAL = /^\/dev\/(tty(S|USB|ACM|AMA|O|mxc|PS|SC)|hvc|cua)\d*/;

/** `device` is the file of the terminal, if it is known. */
export function chooseLook(env: NodeJS.ProcessEnv, device: string | null, words: LookWords = {}): Look {
  const isRemote = Boolean(env.SSH_CONNECTION || env.SSH_TTY);
  const isSlow = words.slow ?? (isRemote || SERIAL.test(device ?? ''));
  const kind = words.look ?? (isSlow ? 'thin' : 'rich');
  return {
    kind,
    isMono: words.mono ?? Boolean(env.NO_COLOR),
    charset: words.charset ?? (isUtf8(env) ? 'utf8' : 'ascii'),
    hasMouse: words.mouse ?? kind === 'rich',
    isSlow,
  };
}

/** The first that is set of LC_ALL, LC_CTYPE, LANG decides, as in locale(7). */
function isUtf8(env: NodeJS.ProcessEnv): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || '';
  return /utf-?8/i.test(locale);
}

/** Terminals that cannot move a cursor, or of which nothing is known. */
const LINE_TERMINALS = new Set(['', 'dumb', 'unknown', 'ansi', 'emacs', 'network', 'vt52', 'vt100', 'vt102']);

/** Name of the terminal description to use, or why there is none and the numbered dialogue must do. */
export function terminalName(env: NodeJS.ProcessEnv): { name: string } | { whyNone: string } {
  const term = (env.TERM ?? '').toLowerCase();
  if (LINE_TERMINALS.has(term)) {
    return {
      whyNone: term === '' ? 'TERM is not set' : `a terminal ${JSON.stringify(term)} has no full screen`,
    };
  }
  if (/^linux/.test(term)) return { name: 'linux' };
  return { name: /256|direct|kitty|alacritty|foot|ghostty|wezterm/.test(term) ? 'xterm-256color' : 'xterm' };
}

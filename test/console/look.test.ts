/** How the console appears, decided from the terminal, the environment and the words of the command line. */
import { describe, expect, it } from 'vitest';
import { chooseLook, terminalName } from '../../screens/look.ts';

const LOCAL = { LANG: 'C.UTF-8' };

describe('thin or rich', () => {
  it('rich with a mouse at hand; thin without one over SSH and on serial lines; the word of the command line wins', () => {
    expect(chooseLook(LOCAL, '/dev/pts/3')).toMatchObject({ kind: 'rich', hasMouse: true, isSlow: false });
    expect(chooseLook({ ...LOCAL, SSH_CONNECTION: '1 2 3 4' }, '/dev/pts/3')).toMatchObject({
      kind: 'thin',
      hasMouse: false,
      isSlow: true,
    });
    for (const device of ['/dev/ttyS0', '/dev/ttyUSB1', '/dev/ttyAMA0', '/dev/hvc0']) {
      expect(chooseLook(LOCAL, device)).toMatchObject({ kind: 'thin', isSlow: true });
    }
    expect(chooseLook(LOCAL, '/dev/tty1').kind).toBe('rich');
    expect(chooseLook({ ...LOCAL, SSH_TTY: '/dev/pts/0' }, null, { look: 'rich' })).toMatchObject({
      kind: 'rich',
      isSlow: true,
    });
    expect(chooseLook(LOCAL, null, { slow: true }).kind).toBe('thin');
    expect(chooseLook(LOCAL, null, { mouse: false }).hasMouse).toBe(false);
  });
});

describe('characters and colours', () => {
  it.each([
    [{ LANG: 'de_DE.UTF-8' }, 'utf8'],
    [{ LANG: 'de_DE.utf8' }, 'utf8'],
    [{ LANG: 'C.UTF-8', LC_ALL: 'C' }, 'ascii'],
    [{ LANG: 'C', LC_CTYPE: 'en_GB.UTF-8' }, 'utf8'],
    [{ LANG: 'C.UTF-8', LC_CTYPE: 'POSIX' }, 'ascii'],
    [{}, 'ascii'],
  ])('%j: %s', (env, charset) => {
    expect(chooseLook(env, null).charset).toBe(charset);
  });

  it('NO_COLOR counts if it is not empty', () => {
    expect(chooseLook({ NO_COLOR: '1' }, null).isMono).toBe(true);
    expect(chooseLook({ NO_COLOR: '' }, null).isMono).toBe(false);
    expect(chooseLook({ COLORTERM: 'truecolor' }, null, { mono: true }).isMono).toBe(true);
  });
});

describe('terminals', () => {
  it.each([
    ['xterm', 'xterm'],
    ['xterm-256color', 'xterm-256color'],
    ['putty', 'xterm'],
    ['putty-256color', 'xterm-256color'],
    ['screen', 'xterm'],
    ['tmux-256color', 'xterm-256color'],
    ['alacritty', 'xterm-256color'],
    ['vt220', 'xterm'],
    ['unheard-of', 'xterm'],
    ['linux', 'linux'],
    ['linux-16color', 'linux'],
  ])('%s is painted as %s', (TERM, name) => {
    expect(terminalName({ TERM })).toEqual({ name });
  });

  it.each(['dumb', '', 'ansi', 'vt100', undefined])('%s: no full screen, and why', (TERM) => {
    expect(terminalName({ TERM })).toHaveProperty('whyNone');
  });
});

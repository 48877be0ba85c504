/** The console's own stage: what the tests of the console stand on. */
import { afterEach, expect, it } from 'vitest';
import { closeAll, keyBytes, open } from '../support/console-pty.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

let home: TempHome | undefined;
afterEach(async () => {
  await closeAll();
  home?.remove();
  home = undefined;
});

it('opens the program, presses keys, reads the screen, and sees it end', async () => {
  home = makeTempHome();
  home.writeConfig(
    `targets: [ { number: 1, name: local, transport: vmfs, path: ${home.folder('archives')} } ]\n`,
  );
  const console_ = open({ args: ['--thin'], env: home.env });
  await console_.waitFor('Main menu');
  await console_.waitFor('> E  Restore');
  expect(console_.isAlternateScreen).toBe(true);
  console_.press('down');
  await console_.waitFor('> K  Backup');
  await console_.assertRepaintIsEqual();
  console_.press('q');
  expect(await console_.exit()).toEqual({ code: 0, signal: 0 });
  expect(console_.isAlternateScreen).toBe(false);
});

it('tells what stood on the screen when a wait was in vain, or the program ended', async () => {
  const shown = open({ command: ['/bin/sh', '-c', 'echo hello; read line'] });
  await shown.waitFor('hello');
  await expect(shown.waitFor('good bye', 50)).rejects.toThrow(/50 ms[\s\S]*hello/);
  shown.press('enter');
  await expect(shown.waitFor('good bye')).rejects.toThrow(/the program ended \(\{"code":0/);
});

it('sees when the incremental screen is not what a full repaint shows', async () => {
  const liar = open({
    command: [
      '/bin/sh',
      '-c',
      "stty raw; printf 'one'; head -c 1 >/dev/null; printf '\\033[H\\033[Jtwo'; cat",
    ],
  });
  await liar.waitFor('one');
  await expect(liar.assertRepaintIsEqual()).rejects.toThrow(
    /not what a full repaint shows[\s\S]*one[\s\S]*two/,
  );
});

it('Escape is never sent with a key at its heels', () => {
  expect(keyBytes('ctrl-l')).toBe('\x0c');
  expect(() => keyBytes('nonsense')).toThrow('nonsense');
  const one = open({ command: ['/bin/cat'] });
  expect(() => one.press('esc', 'x')).toThrow('Escape');
});

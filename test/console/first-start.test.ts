import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { closeAll, MAIN, open } from '../support/console-pty.ts';
import { startSshServer } from '../support/servers/sshd.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { PlainProcess } from './plain-process.ts';

let home: TempHome;
beforeEach(() => {
  home = makeTempHome();
});
afterEach(async () => {
  await closeAll();
  home.remove();
});

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** The built program with all its answers in a pipe. */
function phd(lines: readonly string[], words: readonly string[] = []): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...words], { env: home.env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => {
    stdout += bytes.toString();
  });
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  return new Promise((resolve) => child.on('exit', (status) => resolve({ status, stdout, stderr })));
}

function config(): string {
  return readFileSync(path.join(home.root, 'phd.yaml'), 'utf8');
}

describe('the first start', () => {
  it('without a terminal says why it asks by lines, and ends with its input', async () => {
    const { status, stdout, stderr } = await phd([]);
    expect(status).toBe(0);
    expect(stderr).toBe('');
    expect(stdout).toContain('No full screen (this is no terminal)');
    expect(stdout).toContain('No target is set up yet');
    expect(existsSync(path.join(home.root, 'phd.yaml'))).toBe(false);
  });

  it('takes over the configuration that a host which died left on the target', async () => {
    const folder = home.folder('archives');
    const lost = makeTempHome();
    lost.writeConfig(
      `targets: [{ number: 4, name: cellar, transport: vmfs, path: ${folder} }]\nbackup: { codec: zstd }\n`,
    );
    execFileSync(process.execPath, [MAIN, 'config', 'copy'], { env: lost.env });
    lost.remove();
    const { status, stdout } = await phd(['s', 'v', '1', 'mine', folder, 'yes', '', 'q']);
    expect(status).toBe(0);
    expect(stdout).toContain('The target holds a copy of it, without secrets:');
    expect(stdout).toContain(`target 4 cellar: vmfs ${folder}`);
    expect(config()).toMatch(/number: 4\n[\s\S]*codec: zstd/);
    expect(config()).not.toContain('mine');
  });

  it('sets nothing up in a home that went away meanwhile', async () => {
    const one = new PlainProcess(home.env);
    try {
      await one.sees('help> ');
      rmSync(path.join(home.root, 'state', 'jobs.db'));
      await one.answer('help> ', 's');
      await one.sees('That did not work');
      await one.sees('jobs.db was removed or replaced: start phd again');
      await one.sees('Main menu');
      expect(existsSync(path.join(home.root, 'phd.yaml'))).toBe(false);
    } finally {
      one.kill();
    }
  });

  it('makes a folder, a commented phd.yaml, a datastore and passphrases, and proves the target', async () => {
    const folder = path.join(home.root, 'archives');
    const datastore = home.folder('datastore');
    const { status, stdout } = await phd([
      ...['s', 'v', '7', 'cellar', folder, 'yes'],
      ...['/nowhere', datastore],
      ...['yes', 'first secret', 'other', 'system secret', 'system secret', 'master secret', 'master secret'],
      'q',
    ]);
    expect(status).toBe(0);
    expect(stdout).toContain('Target 7 works');
    expect(stdout).toContain('! /nowhere is no folder of this host');
    expect(stdout).toContain('They differ');
    expect(stdout).not.toContain('secret\n');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(config()).toContain('# Where archives are kept.');
    expect(config()).toContain('# index:\n');
    for (const kind of ['system', 'master']) {
      const file = path.join(home.root, 'secrets', kind);
      expect(readFileSync(file, 'utf8')).toBe(`${kind} secret\n`);
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
    const shown = execFileSync(process.execPath, [MAIN, 'config', 'check'], { env: home.env }).toString();
    expect(shown).not.toContain('expected');
    const listed = execFileSync(process.execPath, [MAIN, 'target', 'list', '--json'], { env: home.env });
    expect(JSON.parse(listed.toString())).toMatchObject({ number: 7, name: 'cellar', path: folder });
    expect((await phd(['q'])).stdout).not.toContain('Welcome');
  });

  it('a target that does not answer is told; it can be changed until it works', async () => {
    const good = home.folder('good');
    const bad = path.join(home.root, 'bad');
    const lines = ['s', '1', '', '', bad, 'no', 'c', '1', '3', 'second', good, '""', 'no', 'q'];
    const { status, stdout } = await phd(lines);
    expect(status).toBe(0);
    expect(stdout).toContain('Target 1 does not work yet\n! FAILED mkdir');
    expect(stdout).toContain('Target 3 works');
    expect(config()).toContain('number: 3');
    expect(config()).not.toContain('number: 1');
    expect(config()).not.toContain(bad);
  });

  it('the password of a server goes into a file of its own, never into phd.yaml or onto the screen', async () => {
    const answers = ['s', 'f', '2', 'far', '127.0.0.1', '1', 'ftpuser', 'hunter2', 'no', '/backups', 'k'];
    const { stdout } = await phd(answers);
    expect(stdout).toContain('Target 2 does not work yet');
    expect(stdout).not.toContain('hunter2');
    expect(config()).toContain('passwordFile: secrets/target2');
    expect(config()).not.toContain('hunter2');
    expect(readFileSync(path.join(home.root, 'secrets/target2'), 'utf8')).toBe('hunter2\n');
  });

  it('< goes back one question, and out of the guide without a trace', async () => {
    const { stdout } = await phd(['s', 'v', '4', '<', '5', '<', '<', 'q', 'l', 'e', 'q']);
    expect(stdout).toContain('[4]: 5');
    expect(stdout).toContain('Not now: no target is set up: see C Configuration');
    expect(existsSync(path.join(home.root, 'phd.yaml'))).toBe(false);
  });
});

describe('the first start with a real SSH server', () => {
  it('shows the host key once, takes a key with its passphrase, and proves the target', async () => {
    const server = await startSshServer({ passphrase: 'open sesame' });
    const one = new PlainProcess(home.env, ['--plain']);
    try {
      const key = home.write('id', server.privateKey);
      await one.answer('help> ', 's');
      await one.answer('help> ', 's');
      await one.answer('[1]: ', '');
      await one.answer('[ssh]: ', 'vault');
      await one.answer('address: ', server.host);
      await one.answer('[22]: ', String(server.port));
      await one.answer('host: ', server.user);
      await one.answer('help> ', 'k');
      await one.answer('private key: ', key);
      await one.answer('Passphrase of the private key: ', 'open sesame');
      await one.answer('on that host: ', 'backups');
      const asked = await one.answer('Trust it from now on? (yes/no) [no]: ', 'yes');
      expect(asked).toMatch(/ssh-ed25519 SHA256:/);
      await one.answer('none on this host): ', '""');
      await one.answer('Encrypt backups? (yes/no) [no]: ', '');
      await one.sees('Main menu');
      expect(one.text).toContain('Target 1 works');
      expect(one.text).not.toContain('open sesame');
      expect(await one.end()).toBe(0);
      expect(config()).toContain('privateKeyPassphraseFile: secrets/target1-key');
    } finally {
      one.kill();
      await server.stop();
    }
  });
});

describe('the first start on a terminal', () => {
  it('the full screen asks the same, and the main menu comes next', async () => {
    const one = open({ args: ['--thin'], env: home.env });
    await one.waitFor('Welcome to phd');
    one.press('enter');
    await one.waitFor('Folder of this host');
    one.press('enter');
    await one.waitFor('Its number');
    one.press('enter');
    await one.waitFor('Its name');
    one.press('enter');
    await one.waitFor('Folder of the archives');
    one.type(home.folder('archives'));
    one.press('enter');
    await one.waitFor('Target 1 works');
    one.press('enter');
    await one.waitFor('Folder in which virtual disks live');
    one.press('ctrl-u', 'enter');
    await one.waitFor('Encrypt backups?');
    one.press('n');
    await one.waitFor('All of it stands in');
    one.press('enter');
    await one.waitFor('Main menu');
    await one.waitFor('Status: idle');
    await one.assertRepaintIsEqual();
    one.press('q');
    expect(await one.exit()).toEqual({ code: 0, signal: 0 });
    expect(config()).toContain('name: local');
  });

  it('a dumb terminal gets lines without a single escape code, and secrets without echo', async () => {
    const one = open({ env: { ...home.env, LANG: 'C' }, term: 'dumb' });
    await one.waitFor('No full screen');
    await one.waitFor('Number, letter or word');
    one.type(`s\rv\r\r\r${home.folder('archives')}\r\r`);
    await one.waitFor('Encrypt backups?');
    one.type('y\r');
    await one.waitFor('System passphrase:');
    one.type('tell nobodx\x7fy\r');
    await one.waitFor('The same again:');
    one.type('tell nobody\r');
    await one.waitFor('Master passphrase');
    one.type('\r');
    await one.waitFor('Main menu');
    one.type('\x1b[B\r');
    await one.waitFor('Those keys do nothing here');
    one.type('q\r');
    expect(await one.exit()).toEqual({ code: 0, signal: 0 });
    expect(one.text).not.toContain('nobody');
    expect(readFileSync(path.join(home.root, 'secrets/system'), 'utf8')).toBe('tell nobody\n');
    // What the terminal itself echoes of an arrow key is ^[, never ESC.
    expect(one.bytes.toString('latin1')).not.toContain('\x1b');
  });

  it('^C at a question ends the numbered dialogue with 130, ^D with 0', async () => {
    const first = open({ args: ['--plain'], env: home.env });
    await first.waitFor('Number, letter or word');
    first.press('ctrl-c');
    expect(await first.exit()).toEqual({ code: 130, signal: 0 });
    const second = open({ args: ['--plain'], env: home.env });
    await second.waitFor('Number, letter or word');
    second.press('ctrl-d');
    expect(await second.exit()).toEqual({ code: 0, signal: 0 });
  });
});

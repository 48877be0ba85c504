/** Passphrases and passwords are seen nowhere but in the files that hold them. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { startLyingServer } from '../support/servers/lying-ftpd.ts';
import { TEST_PASSWORD } from '../support/servers/own-namespace.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { archivesUnder } from './farm.ts';
import { type Ended, phd } from './processes.ts';

const SYSTEM = 'CANARY-system-0451';
const MASTER = 'CANARY-master-0451';
const PASSWORD = 'CANARY-password-0451';
const CANARY = new RegExp(`CANARY-\\w+-0451|${TEST_PASSWORD}`);

let home: TempHome;
let vm: TestVm;

beforeEach(async () => {
  home = makeTempHome();
  home.write('secrets/system', `${SYSTEM}\n`);
  home.write('secrets/master', `${MASTER}\n`);
  home.write('secrets/ftp', `${PASSWORD}\n`);
  home.folder('one');
  vm = await makeVmFolder(home.folder('store'), {
    vmName: 'vm',
    disks: [{ name: 'd.vmdk', sizeBytes: 8 * 2 ** 20 }],
  });
});
afterEach(() => home.remove());

function configure(port: number, user = 'u'): void {
  home.writeConfig(`targets:
  - { number: 1, name: local, transport: vmfs, path: one }
  - { number: 2, name: remote, transport: ftp, host: 127.0.0.1, port: ${port}, user: ${user}, passwordFile: secrets/ftp, path: /, timeoutSeconds: 5 }
datastores: [ store ]
encryption: { systemPassphraseFile: secrets/system, masterPassphraseFile: secrets/master }
`);
}

/** Command lines of all processes that show a canary. */
function exposed(): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      if (CANARY.test(words)) found.push(words);
    } catch (error) {
      // A process may end while it is looked at.
      if (!['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return found;
}

async function watched(words: string[]): Promise<Ended> {
  const found: string[] = [];
  let looks = 0;
  const timer = setInterval(() => {
    looks += 1;
    found.push(...exposed());
  }, 5);
  try {
    const ended = await phd(words, { env: home.env });
    expect(looks).toBeGreaterThan(5);
    expect(found).toEqual([]);
    expect(ended.stdout + ended.stderr).not.toMatch(CANARY);
    return ended;
  } finally {
    clearInterval(timer);
  }
}

/** Files of the home that show a canary, but for those that are there to hold it. */
function filesThatTell(): string[] {
  return archivesUnder(home.root)
    .filter((name) => !name.startsWith('secrets/'))
    .filter((name) => CANARY.test(readFileSync(path.join(home.root, name), 'latin1')));
}

describe('a secret', () => {
  it('never shows in command lines, messages, logs, state or archives', async () => {
    const server = await startVsftpd();
    try {
      home.write('secrets/ftp', `${TEST_PASSWORD}\n`);
      configure(server.port, server.user);
      for (const target of ['1', '2']) {
        const made = await watched(['backup', vm.folder, '--encrypt', '--full', '--target', target]);
        expect(made.status, made.stderr).toBe(0);
      }
      expect((await watched(['index'])).status).toBe(0);
      const out = path.join(home.root, 'out');
      const restored = await watched(['restore', '--vm', 'vm', '--to', out, '--vmx']);
      expect(restored.status, restored.stderr).toBe(0);
      expect((await watched(['verify', '--target', '1'])).status).toBe(0);
      expect(filesThatTell()).toEqual([]);
      const sent = archivesUnder(server.folder);
      expect(sent.filter((name) => name.endsWith('.phd'))).toHaveLength(2);
      for (const name of sent)
        expect(readFileSync(path.join(server.folder, name), 'latin1')).not.toMatch(CANARY);
    } finally {
      await server.stop();
    }
  });

  it('never shows when the target repeats it, or when it is wrong', async () => {
    const server = await startLyingServer('echoed password');
    try {
      configure(server.port);
      const failed = await watched(['backup', vm.folder, '--target', '2']);
      expect(failed.status).toBe(4);
      expect((await watched(['backup', vm.folder, '--encrypt', '--full', '--target', '1'])).status).toBe(0);
      const full = archivesUnder(path.join(home.root, 'one')).find((name) => /\.gz\.gpg-/.test(name));
      home.write('secrets/system', 'CANARY-wrong-0451\n');
      home.write('secrets/master', 'CANARY-wrong-0451\n');
      const refused = await watched(['restore', `1:${full}`, '--to', path.join(home.root, 'out')]);
      expect(refused.status, refused.stderr).toBe(7);
      expect(filesThatTell()).toEqual([]);
    } finally {
      await server.stop();
    }
  });
});

describe('a target that fails', () => {
  it('and cannot be reached does not stop the others', async () => {
    const server = await startLyingServer('none');
    await server.stop();
    configure(server.port);
    const failed = await watched(['backup', vm.folder, '--full', '--target', '2']);
    expect(failed.status, failed.stderr).toBe(4);
    expect((await watched(['backup', vm.folder, '--full', '--target', '1'])).status).toBe(0);
    const indexed = await watched(['index']);
    expect(indexed.status).toBe(4);
    const restored = await watched(['restore', '--vm', 'vm', '--to', path.join(home.root, 'out')]);
    expect(restored.status, restored.stderr).toBe(0);
  });
});

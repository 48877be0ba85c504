/**
 * The words of every program that is started, as the kernel sees them (strace): passphrases and passwords never stand
 * there, neither under the `sh` program of a DELTA nor under phd.
 */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linkFolder, noise, Place, type Run, type ShellName } from '../archive/delta-program/place.ts';
import { makeVmFolder } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import { MemoryDisk } from '../support/reference-writer.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { type RunningServer, TEST_PASSWORD } from '../support/servers/own-namespace.ts';
import { makeTempHome } from '../support/temp-home.ts';
import { archivesUnder } from './farm.ts';
import { phd } from './processes.ts';

const SYSTEM = 'CANARY system "0451"';
const MASTER = 'CANARY master $(0451)';
const FULL_WORDS = "CANARY full '0451'";
const CANARY = new RegExp(`CANARY|${TEST_PASSWORD}|${encodeURIComponent(TEST_PASSWORD)}`);

const tracing = async (log: string): Promise<string[]> => {
  const strace = await requirePeer('strace');
  return [strace.path, '-f', '-qq', '-s', '65536', '-e', 'trace=execve', '-o', log];
};

/** Programs that a log of strace names (busybox starts its own as /proc/self/exe). Throws if any shows a secret. */
function programsIn(log: string): string[] {
  const started = readFileSync(log, 'latin1')
    .split('\n')
    .filter((line) => line.includes('execve('));
  expect(started.filter((line) => CANARY.test(line))).toEqual([]);
  return started.map((line) => path.basename(/execve\("[^"]*", \["([^"]*)"/.exec(line)?.[1] ?? ''));
}

/** Files below a folder that hold a secret. */
function filesThatTell(folder: string): string[] {
  return archivesUnder(folder).filter((name) => CANARY.test(readFileSync(path.join(folder, name), 'latin1')));
}

describe('The program of an encrypted DELTA that fetches its encrypted FULL', () => {
  let place: Place;
  let ftp: RunningServer;
  let http: Server;
  let tools: string;
  beforeAll(async () => {
    const before = new MemoryDisk(24 * 65_536, 65_536);
    for (let block = 0; block < 24; block += 3) before.set(block, noise(65_536, block));
    const after = before.copy().set(4, noise(65_536, 99));
    place = await Place.make({ passphrases: [SYSTEM, MASTER], before, after });
    ftp = await startVsftpd();
    copyFileSync(place.fullPath, path.join(ftp.folder, 'full.phd'));
    http = createServer((request, response) => {
      const wanted = `Basic ${Buffer.from(`user:${TEST_PASSWORD}`).toString('base64')}`;
      if (request.headers.authorization === wanted) response.end(place.full.bytes);
      else response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    rmSync(place.fullPath);
    tools = linkFolder(path.join(place.root, 'tools'), { curl: (await requirePeer('curl')).path });
    mkdirSync(path.join(place.root, 'log'));
  });
  afterAll(async () => {
    http.close();
    await ftp.stop();
    place.remove();
  });

  function urlOf(transport: 'FTP' | 'HTTP'): string {
    const password = encodeURIComponent(TEST_PASSWORD);
    const { port } = http.address() as AddressInfo;
    return transport === 'FTP'
      ? `ftp://${ftp.user}:${password}@127.0.0.1:${ftp.port}/full.phd`
      : `http://user:${password}@127.0.0.1:${port}/full.phd`;
  }

  async function run(shell: ShellName, log: string, env: Record<string, string>): Promise<Run> {
    const [program = '', ...words] = [...(await tracing(log)), ...place.command(shell), place.deltaPath];
    place.emptyOut();
    const child = spawn(program, [...words, 'autorun', 'delta', 'restore'], {
      env: {
        PATH: `${place.path(shell)}:${tools}`,
        HOME: place.root,
        TMPDIR: place.tmp,
        USE_RPATH: place.out,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    return await new Promise((resolve) => child.on('close', (status) => resolve({ status, stdout, stderr })));
  }

  it.each([
    ['dash', 'FTP'],
    ['busybox ash', 'HTTP'],
  ] as const)(
    'shows no secret in the words of any program, nor in what it says: %s, %s',
    async (shell, transport) => {
      const log = path.join(place.root, 'log', 'strace');
      // The right one comes last: the others are tried before.
      const passphrases = { USE_SPASS: 'CANARY wrong', USE_FPASS: FULL_WORDS, USE_MPASS: MASTER };
      const ended = await run(shell, log, { ...passphrases, PHD_LYNX: urlOf(transport) });
      expect(ended.status, ended.stderr).toBe(0);
      expect(place.isRestored(place.after)).toBe(true);
      const programs = programsIn(log);
      // Some builds of busybox run their own dd without starting it: then it has no words to show.
      for (const used of ['gpg', 'curl', shell === 'dash' ? 'dd' : 'od']) expect(programs).toContain(used);
      expect(ended.stdout + ended.stderr).not.toMatch(CANARY);
      expect(filesThatTell(place.root)).toEqual([]);
    },
  );

  it('shows none where a passphrase or the password is wrong', async () => {
    const url = urlOf('FTP');
    const log = path.join(place.root, 'log', 'strace');
    const wrong = { USE_SPASS: 'CANARY wrong', USE_MPASS: 'CANARY wrong too', PHD_LYNX: url };
    const refused = await run('dash', log, wrong);
    expect(refused.status, refused.stderr).toBe(7);
    programsIn(log);
    const denied = await run('dash', log, {
      USE_SPASS: SYSTEM,
      PHD_LYNX: url.replace(/:[^:@]*@/, ':CANARY-password@'),
    });
    expect(denied.status, denied.stderr).not.toBe(0);
    programsIn(log);
    expect(refused.stdout + refused.stderr + denied.stdout + denied.stderr).not.toMatch(CANARY);
    expect(filesThatTell(place.root)).toEqual([]);
  });
});

describe('phd with an encrypted archive on an FTP target', () => {
  it('shows no secret in the words of any program that it starts, nor anywhere else', async () => {
    const home = makeTempHome();
    const server = await startVsftpd();
    home.write('secrets/system', `${SYSTEM}\n`);
    home.write('secrets/ftp', `${TEST_PASSWORD}\n`);
    // Two secrets come from where programs get them: a command, and the environment.
    home.writeConfig(`targets:
  - { number: 1, name: far, transport: ftp, host: 127.0.0.1, port: ${server.port}, user: ${server.user}, passwordCommand: "cat ${home.root}/secrets/ftp", path: / }
datastores: [ store ]
encryption: { systemPassphraseFile: secrets/system, masterPassphraseEnv: MASTER_WORDS }
`);
    const vm = await makeVmFolder(home.folder('store'), {
      vmName: 'vm',
      disks: [{ name: 'd.vmdk', sizeBytes: 2 ** 21 }],
    });
    const out = path.join(home.root, 'out');
    const log = path.join(home.folder('trace'), 'strace');
    for (const words of [
      ['backup', vm.folder, '--encrypt'],
      ['restore', '--vm', 'vm', '--to', out, '--verify'],
    ]) {
      const env = { ...home.env, MASTER_WORDS: MASTER };
      const ended = await phd(words, { env, under: await tracing(log) });
      expect(ended.status, ended.stderr).toBe(0);
      expect(programsIn(log)).toContain('cat');
      expect(ended.stdout + ended.stderr).not.toMatch(CANARY);
    }
    expect(filesThatTell(home.root).filter((name) => !name.startsWith('secrets/'))).toEqual([]);
    expect(archivesUnder(server.folder).filter((name) => name.endsWith('.phd'))).toHaveLength(2);
    expect(filesThatTell(server.folder)).toEqual([]);
    await server.stop();
    home.remove();
  });
});

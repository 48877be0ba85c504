import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startVsftpd } from '../../support/servers/ftpd.ts';
import type { RunningServer } from '../../support/servers/own-namespace.ts';
import { type SshServer, startSshServer } from '../../support/servers/sshd.ts';
import { linkFolder, locate, Place, SHELLS } from './place.ts';

const SECRET = 'se"cr et\\%canary';

/** Arguments of running processes that hold the secret. */
function argumentsWith(secret: string): string[] {
  const seen: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (text.includes(secret)) seen.push(text);
    } catch {
      // The process has ended meanwhile.
    }
  }
  return seen;
}

/** Processes whose arguments showed a secret while they waited for an answer of the HTTP server. */
let shown: string[] = [];

function serveFile(content: () => Buffer, password: string | null): Promise<Server> {
  const server = createServer((request, response) => {
    shown.push(...argumentsWith('canary'));
    const wanted = `Basic ${Buffer.from(`user:${password}`).toString('base64')}`;
    if (password !== null && request.headers.authorization !== wanted) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    } else if (request.url !== '/full%20file.phd') {
      response.writeHead(404).end();
    } else {
      const body = content();
      response.writeHead(200, { 'content-length': body.length });
      response.end(body);
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

describe('a FULL over HTTP', () => {
  let place: Place;
  let open: Server;
  let locked: Server;
  let body: Buffer;
  beforeAll(async () => {
    place = await Place.make();
    rmSync(place.fullPath);
    open = await serveFile(() => body, null);
    locked = await serveFile(() => body, SECRET);
  });
  afterAll(() => {
    open.close();
    locked.close();
    place.remove();
  });
  afterEach(() => {
    expect(place.leftovers()).toEqual([]);
    place.emptyOut();
  });
  const url = (server: Server, login = '') => `http://${login}127.0.0.1:${portOf(server)}/full%20file.phd`;

  it.each(SHELLS)('is restored as it comes and verified under %s', async (shell) => {
    body = place.full.bytes;
    const env = { PHD_LYNX: url(open) };
    const run = await place.run(shell, place.deltaPath, ['autorun', 'full', 'restore'], { env });
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after)).toBe(true);
  });

  it.each(['curl', 'wget'])('with a password goes by %s without showing it', async (tool) => {
    body = place.full.bytes;
    const tools = join(place.root, `only-${tool}`);
    if (!existsSync(tools)) {
      const names = 'dd gzip awk sed od cut cat tr wc head tail mkfifo mktemp mv rm stty sha256sum'.split(
        ' ',
      );
      linkFolder(tools, Object.fromEntries([...names, tool].map((name) => [name, locate(name)])));
    }
    const login = `user:${encodeURIComponent(SECRET)}@`;
    shown = [];
    const options = { env: { PHD_LYNX: url(locked, login) }, path: tools };
    const result = await place.run('dash', place.deltaPath, ['autorun', 'restore'], options);
    expect(result, result.stderr).toMatchObject({ status: 0 });
    expect(shown).toEqual([]);
    expect(result.stdout + result.stderr).not.toContain('canary');
    expect(place.isRestored(place.after)).toBe(true);
  });

  it('with a password is not fetched by busybox wget, which shows it, without consent', async () => {
    const env = { PHD_LYNX: url(locked, 'user:canary@') };
    const run = await place.run('busybox ash', place.deltaPath, ['autorun', 'restore'], { env });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('curl');
    shown = [];
    const input = 'R\nyes\n\n\nyes\nQ\n';
    const login = `user:${encodeURIComponent('canary')}@`;
    await place.run('busybox ash', place.deltaPath, [], { env: { PHD_LYNX: url(locked, login) }, input });
    expect(shown.length).toBeGreaterThan(0);
  });

  it('that is not there, refused, cut or another one fails and leaves nothing', async () => {
    body = place.full.bytes;
    const cases: [string, number[]][] = [
      [`${url(open)}x`, [4]],
      [url(locked, 'user:wrong@'), [4]],
      ['http://127.0.0.1:1/full%20file.phd', [4]],
    ];
    for (const [address, statuses] of cases) {
      const run = await place.run('dash', place.deltaPath, ['autorun', 'restore'], {
        env: { PHD_LYNX: address },
      });
      expect(statuses, run.stderr).toContain(run.status);
      expect(place.outNames()).toEqual([]);
    }
    body = place.full.bytes.subarray(0, place.full.members[400]!.offset);
    const cut = await place.run('dash', place.deltaPath, ['autorun', 'restore'], {
      env: { PHD_LYNX: url(open) },
    });
    expect(cut.status).toBe(3);
    expect(place.outNames()).toEqual([]);
    const other = await Place.make();
    body = other.full.bytes;
    const wrong = await place.run('dash', place.deltaPath, ['autorun', 'restore'], {
      env: { PHD_LYNX: url(open) },
    });
    expect(wrong.status).toBe(3);
    expect(wrong.stderr).toContain('another FULL');
    expect(place.outNames()).toEqual([]);
    other.remove();
  });
});

describe('an encrypted FULL on an FTP server', () => {
  let place: Place;
  let server: RunningServer;
  beforeAll(async () => {
    place = await Place.make({ passphrases: ['system', 'master'], identity: { disk: 'odd %n#me?.vmdk' } });
    server = await startVsftpd();
    const folder = join(server.folder, 'backups', place.full.folderName);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, place.full.fileName), place.full.bytes);
    execFileSync('chmod', ['-R', 'a+rX', join(server.folder, 'backups')]);
    rmSync(place.fullPath);
  });
  afterAll(async () => {
    await server?.stop();
    place.remove();
  });

  it.each([
    ['system', { USE_SPASS: 'system' }],
    ['master', { USE_MPASS: 'master' }],
  ] as [string, Record<string, string>][])(
    'is set up in the menu and restored with the %s passphrase',
    async (_name, env) => {
      place.emptyOut();
      const lines = [
        'F',
        `${server.host}:${server.port}`,
        server.user,
        server.password,
        '/backups',
        'yes',
        'R',
        '',
        '',
        'yes',
        'Q',
      ];
      const input = lines.map((line) => `${line}\n`).join('');
      const run = await place.run('dash', place.deltaPath, [], { input, env });
      expect(run, run.stderr).toMatchObject({ status: 0 });
      expect(run.stdout + run.stderr).not.toContain(server.password);
      expect(place.isRestored(place.after)).toBe(true);
    },
  );
});

describe('a FULL on an SSH server', () => {
  let place: Place;
  let server: SshServer;
  beforeAll(async () => {
    place = await Place.make({ codec: 'zstd' });
    server = await startSshServer();
    mkdirSync(join(server.folder, "it's here"));
    writeFileSync(join(server.folder, "it's here", place.full.fileName), place.full.bytes);
    execFileSync('chmod', ['-R', 'a+rX', join(server.folder, "it's here")]);
    rmSync(place.fullPath);
  });
  afterAll(async () => {
    await server?.stop();
    place.remove();
  });

  it('is fetched with a key and a known host', async () => {
    const key = join(place.root, 'key');
    writeFileSync(key, server.privateKey);
    chmodSync(key, 0o600);
    writeFileSync(join(place.root, 'known_hosts'), `[127.0.0.1]:${server.port} ${server.hostKey}\n`);
    const tools = join(place.root, 'ssh');
    mkdirSync(tools);
    const options = `-F /dev/null -i ${key} -o UserKnownHostsFile=${place.root}/known_hosts -o StrictHostKeyChecking=yes`;
    writeFileSync(join(tools, 'ssh'), `#!/bin/sh\nexec ${locate('ssh')} ${options} "$@"\n`, { mode: 0o755 });
    const address = `ssh://${server.user}@127.0.0.1:${server.port}${server.folder}/it%27s%20here/${place.full.fileName}`;
    const options2 = { env: { PHD_LYNX: address }, path: `${tools}:${place.path('dash')}` };
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore', 'full'], options2);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after)).toBe(true);
    await server.kill();
    place.emptyOut();
    const dead = await place.run('dash', place.deltaPath, ['autorun', 'restore'], options2);
    expect(dead.status).toBe(4);
    expect(place.outNames()).toEqual([]);
  });
});

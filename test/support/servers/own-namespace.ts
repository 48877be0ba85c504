/**
 * Runs a server in mount and process namespaces of its own: it sees its own users, passwords and PAM rules, an
 * empty /run, and dies whole when stopped or when the test process dies. Nothing of the machine is changed.
 *
 * Needs root (on Linux, with util-linux): real FTP and SSH servers switch to the user who logs in.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Peer, requirePeer } from '../peers.ts';

export const TEST_USER = 'backup-test';
export const TEST_PASSWORD = 'correct horse 7';
export const TEST_UID = 61_234;

export interface ServerFolders {
  /** Everything of this server; removed by `stop`. */
  base: string;
  /** Home of the test user, owned by it: what the server shows. */
  home: string;
  /** crypt(3) form of TEST_PASSWORD. */
  passwordHash: string;
}

export interface RunningServer {
  host: string;
  port: number;
  user: string;
  password: string;
  /** Local path of what the account sees as its home. */
  folder: string;
  /** What the server has written to its error output. */
  log(): string;
  /** SIGKILL to the server and every session; `folder` stays until `stop`. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Folders of one server, with the user database it is to see. Throws if not root. */
export async function makeServerFolders(name: string): Promise<ServerFolders> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new Error('test servers need Linux and root: they switch to the user who logs in');
  }
  const base = mkdtempSync(path.join(tmpdir(), `phd-${name}-`));
  chmodSync(base, 0o755);
  const home = path.join(base, 'home');
  mkdirSync(home);
  chmodSync(home, 0o755);
  execFileSync('chown', [`${TEST_UID}:${TEST_UID}`, home]);
  const openssl = await requirePeer('openssl');
  const passwordHash = execFileSync(openssl.path, ['passwd', '-6', '-stdin'], {
    input: `${TEST_PASSWORD}\n`,
    env: openssl.env,
    encoding: 'utf8',
  }).trim();
  const etc = path.join(base, 'etc');
  mkdirSync(path.join(etc, 'pam.d'), { recursive: true });
  const nobody = '65534:65534:nobody:/nonexistent:/usr/sbin/nologin';
  writeFileSync(
    path.join(etc, 'passwd'),
    `root:x:0:0:root:/root:/bin/sh\nnobody:x:${nobody}\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n` +
      `ftp:x:65532:65534::/nonexistent:/usr/sbin/nologin\n${TEST_USER}:x:${TEST_UID}:${TEST_UID}::${home}:/bin/sh\n`,
  );
  writeFileSync(path.join(etc, 'group'), `root:x:0:\nnogroup:x:65534:\n${TEST_USER}:x:${TEST_UID}:\n`);
  writeFileSync(
    path.join(etc, 'shadow'),
    `root:*:19000:0:99999:7:::\n${TEST_USER}:${passwordHash}:19000:0:99999:7:::\n`,
    { mode: 0o600 },
  );
  writeFileSync(
    path.join(etc, 'pam.d', 'vsftpd'),
    'auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n',
  );
  return { base, home, passwordHash };
}

/** The shell stays process 1: vsftpd ends when it is that itself. */
const MOUNT_AND_RUN = `
set -e
for file in passwd group shadow; do mount --bind "$1/etc/$file" "/etc/$file"; done
if [ -d /etc/pam.d ]; then mount --bind "$1/etc/pam.d" /etc/pam.d; fi
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/empty
shift
"$@" &
wait $!
`;

/** Starts `program` with its arguments in namespaces of its own and waits until it takes connections. */
export async function startServer(
  folders: ServerFolders,
  program: Peer,
  args: readonly string[],
  port: number,
): Promise<RunningServer> {
  const command = [
    'setpriv',
    '--pdeathsig',
    'KILL',
    'unshare',
    '--mount',
    '--propagation',
    'private',
    '--pid',
  ];
  command.push(
    '--fork',
    '--kill-child=KILL',
    'sh',
    '-c',
    MOUNT_AND_RUN,
    'sh',
    folders.base,
    program.path,
    ...args,
  );
  const child = spawn(command[0] ?? '', command.slice(1), {
    env: { ...program.env, LC_ALL: 'C.UTF-8' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-100_000);
  });
  const kill = (): Promise<void> => killAndWait(child);
  const stop = async (): Promise<void> => {
    await kill();
    rmSync(folders.base, { recursive: true, force: true });
  };
  try {
    await untilItListens(port, child);
  } catch (error) {
    await stop();
    throw new Error(`${path.basename(program.path)} did not start: ${log || (error as Error).message}`);
  }
  return {
    host: '127.0.0.1',
    port,
    user: TEST_USER,
    password: TEST_PASSWORD,
    folder: folders.home,
    log: () => log,
    kill,
    stop,
  };
}

async function killAndWait(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Polls at once and often: the servers say nothing when they are ready. */
async function untilItListens(port: number, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`ended with status ${child.exitCode}`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port }, () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (open) return;
    if (Date.now() > deadline) throw new Error('no answer within 15 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * A loopback port that is free now, below the range the kernel takes outgoing ports from: there a probe of a
 * server not yet listening could connect to itself, and take the port.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/**
 * A simulated ESX host: a real OpenSSH server whose sessions see nothing but a folder with busybox and scripts that stand
 * for `vim-cmd`, `vmkfstools`, `esxcli` and `vmfsfilelockinfo`.
 *
 * It is written from public documents (manuals, scripts that people published, forum answers with pasted output) and has
 * never met a real ESX: forms of output, exit statuses and the order of things are what those say, not what was measured.
 * What it enforces is real: the kernel refuses to open the file a running VM holds, a base flat can be read once there is a
 * snapshot, deltas grow while it stands, and its removal changes the flat. In place of "Device or resource busy" the kernel
 * says "Permission denied", for locks are file modes here. Deltas hold no grains: what guests write lies beside them.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeStub } from '../../../../src/datastore/stub.ts';
import { requirePeer } from '../../peers.ts';
import {
  freePort,
  makeServerFolders,
  type RunningServer,
  startServer,
  TEST_UID,
  TEST_USER,
} from '../own-namespace.ts';
import { generateSshKey } from '../ssh-key.ts';

export const STORE_UUID = '5f0a1b2c-00000001-aaaa-005056aabbcc';
const BLOCK = 262_144;
const HERE = fileURLToPath(new URL('.', import.meta.url));

export interface SimulatedDisk {
  /** Of the descriptor: `web.vmdk`. */
  name: string;
  content: Buffer;
  /** `independent-persistent`; default: none. */
  mode?: string;
  /** Replaces the descriptor, as of a raw mapping. */
  descriptor?: string;
}

export interface SimulatedVm {
  id: number;
  name: string;
  /** On datastore1; default: the name. */
  folder?: string;
  disks: SimulatedDisk[];
  power?: 'on' | 'off' | 'suspended';
  annotation?: string;
  /** 32 hex digits. */
  uuid?: string;
}

export class SimulatedEsx {
  readonly #root: string;

  constructor(
    readonly server: RunningServer,
    root: string,
    readonly privateKey: string,
    readonly hostKey: string,
  ) {
    this.#root = root;
  }

  /** Path here of a path there. */
  path(...parts: string[]): string {
    return path.join(this.#root, ...parts);
  }

  /** Path here of what lies on datastore1. */
  store(...parts: string[]): string {
    return this.path('vmfs', 'volumes', STORE_UUID, ...parts);
  }

  addVm({ id, name, folder = name, disks, power = 'on', annotation = '', uuid }: SimulatedVm): void {
    const base = folder.split('/').at(-1) ?? folder;
    mkdirSync(this.store(folder), { recursive: true });
    const lines = [
      '.encoding = "UTF-8"',
      'config.version = "8"',
      'virtualHW.version = "13"',
      `displayName = "${name.replaceAll('"', '|22')}"`,
      `nvram = "${base}.nvram"`,
      'guestOS = "other-64"',
      ...(uuid === undefined ? [] : [`uuid.bios = "${uuid.replace(/(..)(?=.)/g, '$1 ')}"`]),
      'scsi0.present = "TRUE"',
      'scsi0.virtualDev = "lsilogic"',
    ];
    disks.forEach((disk, at) => {
      const flatName = disk.name.replace(/\.vmdk$/, '-flat.vmdk');
      writeFileSync(this.store(folder, flatName), disk.content);
      const text =
        disk.descriptor ??
        makeStub({ type: 'vmfs', flatName, diskBytes: disk.content.length, adapterType: 'lsilogic' });
      writeFileSync(this.store(folder, disk.name), text);
      lines.push(`scsi0:${at}.present = "TRUE"`, `scsi0:${at}.fileName = "${disk.name}"`);
      if (disk.mode !== undefined) lines.push(`scsi0:${at}.mode = "${disk.mode}"`);
    });
    if (power === 'suspended') lines.push(`checkpoint.vmState = "${base}.vmss"`);
    writeFileSync(this.store(folder, `${base}.vmx`), `${lines.join('\n')}\n`);
    writeFileSync(this.store(folder, `${base}.nvram`), Buffer.alloc(8_684, `nvram of ${name}`));
    writeFileSync(this.store(folder, 'vmware.log'), `log of ${name}\n`);
    const words = { on: 'Powered on', off: 'Powered off', suspended: 'Suspended' };
    const state = {
      name,
      file: `[datastore1] ${folder}/${base}.vmx`,
      guest: 'otherGuest64',
      version: 'vmx-13',
      annotation,
      power: words[power],
    };
    mkdirSync(this.path('sim', 'vms', String(id)), { recursive: true });
    for (const [key, value] of Object.entries(state))
      writeFileSync(this.path('sim', 'vms', String(id), key), value);
    this.own();
    this.#script(`relock ${id}`);
  }

  /** What someone else does on the host. */
  command(program: string, ...words: string[]): string {
    return this.#inside([`/bin/${program}`, ...words]);
  }

  /** A block written by the guest: into the delta where there is a snapshot, else into the flat. */
  guestWrite(id: number, block: number, bytes: Buffer): void {
    const slot = this.#script(`vmx=$(vmx_of ${id}); disks_of "$vmx" | head -n1; echo "$vmx"`).split('\n');
    const current = slot[0]?.split('|')[1] ?? '';
    const folder = path.dirname(slot[1] ?? '');
    if (/-\d{6}\.vmdk$/.test(current)) {
      const overlay = this.#script(`overlay_of "${folder}/${current}"`).trim();
      writeFileSync(this.path(overlay, String(block)), bytes);
      this.own();
      return;
    }
    const flat = this.path(
      folder.replace('/datastore1/', `/${STORE_UUID}/`),
      current.replace(/\.vmdk$/, '-flat.vmdk'),
    );
    const fd = openSync(flat, 'r+');
    writeSync(fd, bytes, 0, bytes.length, block * BLOCK);
    closeSync(fd);
  }

  setState(id: number, key: 'name' | 'file' | 'power', value: string): void {
    writeFileSync(this.path('sim', 'vms', String(id), key), value);
  }

  /** As the client's "remove from inventory" does. */
  forgetVm(id: number): void {
    rmSync(this.path('sim', 'vms', String(id)), { recursive: true });
  }

  /** Names of the snapshots of a VM, oldest first. */
  snapshots(id: number): string[] {
    const folder = this.path('sim', 'vms', String(id), 'snaps');
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .sort((a, b) => Number(a) - Number(b))
      .map((n) => readFileSync(path.join(folder, n, 'name'), 'utf8'));
  }

  /** All of them, as the client's "delete all" does. */
  removeSnapshots(id: number): void {
    this.#script(`for n in $(ls $SIM/vms/${id}/snaps | sort -rn); do remove_snapshot ${id} $n; done`);
  }

  setFault(name: string, value = ''): void {
    writeFileSync(this.path('sim', 'faults', name), value);
    this.own();
  }

  /** From now on only keys that were set up by commands let in. */
  forgetFirstKey(): void {
    writeFileSync(path.join(path.dirname(this.#root), 'authorized'), '');
  }

  /** Still to come; `cut` is taken away when it happens. */
  isFault(name: string): boolean {
    return existsSync(this.path('sim', 'faults', name));
  }

  clearFaults(): void {
    for (const name of readdirSync(this.path('sim', 'faults'))) rmSync(this.path('sim', 'faults', name));
  }

  /** What was called since the last time it was asked. */
  takeLog(): string[] {
    const file = this.path('sim', 'log');
    const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
    writeFileSync(file, '');
    return lines;
  }

  async stop(): Promise<void> {
    await this.server.stop();
  }

  /** After files were put there by hand. */
  own(): void {
    execFileSync('chown', ['-R', `${TEST_UID}:${TEST_UID}`, this.path('vmfs'), this.path('sim')]);
  }

  #script(text: string): string {
    return this.#inside(['/bin/sh', '-c', `. /sim/lib.sh; ${text}`]);
  }

  #inside(words: string[]): string {
    return execFileSync('chroot', [`--userspec=${TEST_UID}:${TEST_UID}`, this.#root, ...words], {
      encoding: 'utf8',
      env: { PATH: '/bin:/sbin:/usr/sbin' },
    });
  }
}

export interface SimulatedEsxOptions {
  /** With the python of this machine; default: without, as the oldest hosts are. */
  python?: boolean;
}

/** Throws where it cannot be had: needs root, busybox, and /usr/bin/python3 if it is to have that. */
export async function startSimulatedEsx({ python = false }: SimulatedEsxOptions = {}): Promise<SimulatedEsx> {
  if (python && !existsSync('/usr/bin/python3'))
    throw new Error('a host with python needs /usr/bin/python3 here');
  const [sshd, busybox] = await Promise.all([requirePeer('sshd'), requirePeer('busybox')]);
  const folders = await makeServerFolders('esx');
  const root = path.join(folders.base, 'root');
  makeRoot(root, busybox.path, python);
  const hostKey = generateSshKey();
  const userKey = generateSshKey();
  const at = (name: string): string => path.join(folders.base, name);
  writeFileSync(at('host_key'), hostKey.private, { mode: 0o600 });
  writeFileSync(at('authorized'), `${userKey.public}\n`, { mode: 0o644 });
  const port = await freePort();
  const config = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${at('host_key')}`,
    `AuthorizedKeysFile ${at('authorized')} ${root}/etc/ssh/keys-%u/authorized_keys`,
    'ChrootDirectory /mnt',
    'StrictModes no',
    'UsePAM no',
    'PidFile none',
    'SetEnv PATH=/bin:/sbin',
    // As ESX has it; no subsystem, so no SFTP.
    'MaxSessions 10',
  ];
  writeFileSync(at('sshd_config'), `${config.join('\n')}\n`);
  // sshd takes a root only below folders that nobody else may write, so it is mounted there in its own namespace.
  const mounts = [
    `mount --bind ${root} /mnt`,
    ...(python ? ['mount --bind /usr /mnt/pyroot'] : []),
    `exec ${sshd.path} "$@"`,
  ];
  writeFileSync(at('start'), `#!/bin/sh\nset -e\n${mounts.join('\n')}\n`, { mode: 0o755 });
  const program = { ...sshd, path: at('start') };
  const server = await startServer(folders, program, ['-D', '-e', '-f', at('sshd_config')], port);
  const key = hostKey.public.split(' ').slice(0, 2).join(' ');
  return new SimulatedEsx({ ...server, user: TEST_USER }, root, userKey.private, key);
}

function makeRoot(root: string, busybox: string, python: boolean): void {
  for (const folder of [
    'bin',
    'sbin',
    'dev',
    'etc/ssh',
    'tmp',
    'pyroot',
    'sim/vms',
    'sim/faults',
    'sim/overlays',
  ])
    mkdirSync(path.join(root, folder), { recursive: true });
  mkdirSync(path.join(root, 'vmfs', 'volumes', STORE_UUID), { recursive: true });
  symlinkSync(STORE_UUID, path.join(root, 'vmfs', 'volumes', 'datastore1'));
  cpSync(busybox, path.join(root, 'bin', 'busybox'));
  const applets = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const name of applets) if (name !== 'busybox') symlinkSync('busybox', path.join(root, 'bin', name));
  cpSync(path.join(HERE, 'lib.sh'), path.join(root, 'sim', 'lib.sh'));
  for (const name of readdirSync(path.join(HERE, 'bin'))) {
    if (name === 'python3' && !python) continue;
    const file = path.join(root, 'bin', name);
    rmSync(file, { force: true });
    cpSync(path.join(HERE, 'bin', name), file);
    chmodSync(file, 0o755);
  }
  writeFileSync(
    path.join(root, 'sbin', 'auto-backup.sh'),
    '#!/bin/busybox ash\n. /sim/lib.sh\nstep auto-backup\n',
    {
      mode: 0o755,
    },
  );
  for (const device of ['null', 'zero', 'urandom'])
    execFileSync('cp', ['-a', `/dev/${device}`, path.join(root, 'dev', device)]);
  chmodSync(path.join(root, 'tmp'), 0o1777);
  writeFileSync(path.join(root, 'sim', 'log'), '');
  const own = ['vmfs', 'sim', 'etc/ssh'].map((name) => path.join(root, name));
  execFileSync('chown', ['-R', `${TEST_UID}:${TEST_UID}`, ...own]);
}

/** What is set up on an ESX host for this program: a key that may be used from here alone; how that is tested and undone. */
import ssh2 from 'ssh2';
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import { shellQuoted, shellWord } from '../../storage/shell-word.ts';
import type { CheckLine } from '../host.ts';
import { HostLine } from '../host-line.ts';
import type { HostAccess } from '../open-host.ts';
import type { EsxHost } from './esx-host.ts';
import { readWay, WAY_WORDS } from './esx-reader.ts';

/** How the commands of this program begin; the key runs no others, and no shell, no SFTP, no scp. */
const COMMANDS = [
  'vim-cmd ',
  'esxcli ',
  'vmkfstools ',
  'vmfsfilelockinfo ',
  'dd ',
  'cat ',
  'cd ',
  'stat ',
  'rm ',
  'mkdir ',
  'set -C; cat ',
  'i=',
  'if [ ',
  'exec python3 ',
  'grep ',
  'vmware ',
  'echo ',
];
const WHOLE_COMMANDS = ['sh -s', 'sync'];
const BACKUP_PROGRAM = '/sbin/auto-backup.sh';

export interface SetupStep {
  title: string;
  /** For the host's shell. */
  command: string;
}

export class EsxSetup {
  readonly #host: EsxHost;
  readonly #access: HostAccess;

  constructor(host: EsxHost, access: HostAccess) {
    this.#host = host;
    this.#access = access;
  }

  /**
   * Steps that let this key in, and their end in words. `from`: address of this machine; null: as the host sees it now.
   * Throws CONFIG_INVALID (no key), PASSPHRASE_*, USAGE (an address that is none), TARGET_*.
   */
  async steps(from: string | null): Promise<SetupStep[]> {
    const key = await this.#publicKey();
    const address = from ?? (await this.#ownAddress());
    if (!/^[0-9A-Za-z.:/*?-]+$/.test(address))
      throw new PhdError('USAGE', `${address} is no address of this machine`);
    const line = `from="${address}",command="${forcedCommand()}",no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty ${key} ${this.#mark}`;
    const file = shellWord(this.#file);
    return [
      {
        title: `the key may be used from ${address}, for commands of this program`,
        command:
          `mkdir -p ${shellWord(this.#folder)} && { grep -v ${shellQuoted(` ${this.#mark}$`)} ${file} 2>/dev/null; ` +
          `printf '%s\\n' ${shellQuoted(line)}; } > ${file}.new && cat ${file}.new > ${file} && chmod 600 ${file} && rm ${file}.new`,
      },
      this.#keep(),
    ];
  }

  /** Steps that undo it. */
  undoSteps(): SetupStep[] {
    const file = shellWord(this.#file);
    return [
      {
        title: 'the key is taken out',
        command:
          `if [ -f ${file} ]; then grep -v ${shellQuoted(` ${this.#mark}$`)} ${file} > ${file}.new; ` +
          `cat ${file}.new > ${file} && rm ${file}.new; fi`,
      },
      this.#keep(),
    ];
  }

  /** Throws TARGET_*, LOCKED, NO_SPACE. */
  async run(step: SetupStep, signal?: AbortSignal): Promise<void> {
    // As a script: a key that is set up already runs no command that begins otherwise.
    await this.#host.shell.script(`${step.command}\n`, `cannot do: ${step.title}`, { signal });
  }

  /** Logs in by the key alone. Throws TARGET_*, HOST_KEY_REFUSED, PASSPHRASE_*. */
  async proveKey(): Promise<void> {
    const access = { ...this.#access, password: async () => null };
    const line = await HostLine.open(this.#host.config, access);
    try {
      const { status } = await line.run('echo phd');
      if (status !== 0)
        throw new PhdError(
          'TARGET_REFUSED',
          `host ${this.#host.config.name}: the key logs in but runs no command`,
        );
    } finally {
      line.close();
    }
  }

  /** Whether what was set up is there after a restart of the host, in words. */
  async rebootWords(signal?: AbortSignal): Promise<string> {
    const { status } = await this.#host.shell.run(
      `if [ -x ${BACKUP_PROGRAM} ]; then exit 0; else exit 1; fi`,
      { signal },
    );
    return status === 0
      ? `it survives a restart of the host: ${BACKUP_PROGRAM} keeps ${this.#file} with its configuration. SSH itself starts only if its policy says so: vim-cmd hostsvc/enable_ssh`
      : `it may not survive a restart of the host: there is no ${BACKUP_PROGRAM} that keeps ${this.#file}; run phd host setup again after one`;
  }

  /** What a backup needs, each tried; nothing is changed. Throws CANCELLED. */
  async check(signal?: AbortSignal): Promise<CheckLine[]> {
    const { shell, config } = this.#host;
    const lines: CheckLine[] = [];
    const tried = async (what: string, work: () => Promise<string | CheckLine>): Promise<boolean> => {
      try {
        const said = await work();
        lines.push(typeof said === 'string' ? { what, state: 'good', text: said } : said);
        return true;
      } catch (error) {
        const failure = fromErrno(error, what);
        if (failure.code === 'CANCELLED') throw failure;
        lines.push({ what, state: 'failed', text: failure.message });
        return false;
      }
    };
    const isThere = await tried('login', async () => {
      const said = await shell.output('vmware -v', 'cannot ask for its version', { signal });
      return `${config.user}@${config.host}: ${said.toString('utf8').trim().split('\n')[0]}`;
    });
    if (!isThere) return lines;
    await tried('programs', async () => await this.#programs(signal));
    await tried('VMs', async () => {
      const vms = await this.#host.listVms(signal);
      return `${vms.length}, of which ${vms.filter(({ power }) => power === 'on').length} run`;
    });
    await tried('blocks', async () => WAY_WORDS[await readWay(shell, signal)]);
    await tried('key', async () => await this.#keyLine(signal));
    await tried('snapshots', async () => await this.#leftSnapshots(signal));
    return lines;
  }

  async #programs(signal?: AbortSignal): Promise<string | CheckLine> {
    const names = ['vim-cmd', 'vmkfstools', 'esxcli', 'vmfsfilelockinfo'];
    const text = await this.#host.shell.script(
      `for one in ${names.join(' ')}; do command -v $one >/dev/null && echo $one; done; true\n`,
      'cannot look for programs',
      { signal },
    );
    const there = text.toString('utf8').trim().split('\n');
    const missing = names.filter((name) => !there.includes(name));
    if (missing.length === 0) return names.join(', ');
    const isNeeded = missing.some((name) => name === 'vim-cmd' || name === 'vmkfstools');
    return {
      what: 'programs',
      state: isNeeded ? 'failed' : 'warning',
      text: `missing: ${missing.join(', ')}`,
    };
  }

  async #keyLine(signal?: AbortSignal): Promise<string | CheckLine> {
    const { status, stdout } = await this.#host.shell.run(`cat ${shellWord(this.#file)}`, { signal });
    const line =
      status === 0
        ? stdout
            .toString('utf8')
            .split('\n')
            .find((one) => one.endsWith(` ${this.#mark}`))
        : undefined;
    const from = /^from="([^"]*)",command="/.exec(line ?? '')?.[1];
    if (from !== undefined) return `restricted to ${from} and to commands of this program (${this.#file})`;
    return {
      what: 'key',
      state: 'warning',
      text: `no restricted key of this program: phd host setup ${this.#host.config.name} --run`,
    };
  }

  async #leftSnapshots(signal?: AbortSignal): Promise<string | CheckLine> {
    const { snapshots } = this.#host;
    const own: string[] = [];
    const others: string[] = [];
    for (const vm of await this.#host.listVms(signal))
      for (const one of await snapshots.all(vm.id, signal)) {
        const shown = `${shownName(vm.name)} (${shownName(one.name)})`;
        if (snapshots.isOwn(one)) own.push(shown);
        else if (snapshots.isOfProgram(one)) others.push(shown);
      }
    const texts = [
      ...(own.length === 0
        ? []
        : [`of this program: ${own.join(', ')}: unless a backup is running, its next one removes it`]),
      ...(others.length === 0
        ? []
        : [
            `of another machine or home of this program: ${others.join(', ')}: unless a backup runs there, remove it in the client`,
          ]),
    ];
    if (texts.length === 0) return 'none of this program';
    return { what: 'snapshots', state: 'warning', text: texts.join('; ') };
  }

  get #mark(): string {
    return `phd-${this.#host.snapshots.owner}`;
  }

  get #folder(): string {
    const { user, name } = this.#host.config;
    if (user === null || !isPlainName(user)) throw new PhdError('CONFIG_INVALID', `host ${name} has no user`);
    return `/etc/ssh/keys-${user}`;
  }

  get #file(): string {
    return `${this.#folder}/authorized_keys`;
  }

  #keep(): SetupStep {
    return {
      title: 'the host keeps it with its configuration',
      command: `if [ -x ${BACKUP_PROGRAM} ]; then ${BACKUP_PROGRAM} </dev/null >/dev/null; fi`,
    };
  }

  async #publicKey(): Promise<string> {
    const { name } = this.#host.config;
    const text = await this.#access.privateKey();
    if (text === null)
      throw new PhdError(
        'CONFIG_INVALID',
        `host ${name} has no private key: ssh-keygen -t ed25519 -f FILE makes one, phd host edit ${name} --private-key-file FILE names it`,
      );
    const key = ssh2.utils.parseKey(text, (await this.#access.privateKeyPassphrase()) ?? undefined);
    if (key instanceof Error)
      throw new PhdError('CONFIG_INVALID', `private key of host ${name}: ${key.message}`);
    const one = Array.isArray(key) ? key[0]! : key;
    return `${one.type} ${one.getPublicSSH().toString('base64')}`;
  }

  async #ownAddress(): Promise<string> {
    const said = await this.#host.shell.output('echo "$SSH_CLIENT"', 'cannot ask where we come from');
    const address = said.toString('utf8').trim().split(' ')[0] ?? '';
    if (address !== '') return address;
    throw new PhdError(
      'TARGET_REFUSED',
      `host ${this.#host.config.name} does not tell our address: give it by --from`,
    );
  }
}

/** In the double quotes of an option of authorized_keys. */
function forcedCommand(): string {
  const patterns = [
    ...COMMANDS.map((word) => `'${word}'*`),
    ...WHOLE_COMMANDS.map((word) => `'${word}'`),
  ].join('|');
  return (
    `case $SSH_ORIGINAL_COMMAND in ${patterns}) exec sh -c \\"$SSH_ORIGINAL_COMMAND\\";; ` +
    "*) echo 'this key runs commands of phd only' >&2; exit 126;; esac"
  );
}

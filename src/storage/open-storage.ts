/** Opens a target by its settings. */
import { PhdError } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import type { HostKeyQuestion } from './host-key-check.ts';
import type { Storage } from './storage.ts';
import { VmfsStorage } from './vmfs.ts';

export type { HostKeyQuestion } from './host-key-check.ts';

export interface StorageHooks {
  /** null if there is none. */
  password(): Promise<string | null>;
  /** OpenSSH or PEM private key; null if there is none. */
  privateKey(): Promise<string | null>;
  /** Passphrase of the key, asked for after it; null if it has none. */
  privateKeyPassphrase?(): Promise<string | null>;
  /** What messages call the key; default: that of the target. */
  privateKeyName?: string;
  /** Asked once for a host whose key is unknown; without anyone to ask, answer false. */
  askHostKey(question: HostKeyQuestion): Promise<boolean>;
  /** Lines for a log; secrets are taken out. */
  log(text: string): void;
}

/** Connects when first used, not here. Throws CONFIG_INVALID, PASSPHRASE_MISSING, PASSPHRASE_WRONG. */
export async function openStorage(target: TargetSettings, hooks: StorageHooks): Promise<Storage> {
  const storage = await transportOf(target, hooks);
  return target.readOnly ? refuseChanges(storage) : storage;
}

/** The network transports are loaded when a target needs them: a host with local targets starts quicker. */
async function transportOf(settings: TargetSettings, hooks: StorageHooks): Promise<Storage> {
  if (settings.transport === 'vmfs') return new VmfsStorage(settings);
  if (settings.host === null || settings.host === '') {
    throw new PhdError('CONFIG_INVALID', `target ${settings.number} (${settings.name}) has no host`);
  }
  const password = await hooks.password();
  const privateKey = settings.transport === 'ssh' ? await hooks.privateKey() : null;
  const passphrase = privateKey === null ? null : ((await hooks.privateKeyPassphrase?.()) ?? null);
  const secrets = [password, passphrase].filter((one) => one !== null && one !== '') as string[];
  const log = (text: string): void =>
    hooks.log(secrets.reduce((safe, secret) => safe.replaceAll(secret, '***'), text));
  if (settings.transport === 'ftp') {
    const { FtpStorage } = await import('./ftp.ts');
    return new FtpStorage(settings, { settings, password, log });
  }
  const { HostKeyCheck } = await import('./host-key-check.ts');
  const { SshStorage } = await import('./ssh.ts');
  if (privateKey !== null) {
    const { checkPrivateKey } = await import('./private-key.ts');
    const ofTarget = `private key of target ${settings.number} (${settings.name})`;
    checkPrivateKey(privateKey, passphrase, hooks.privateKeyName ?? ofTarget);
  }
  const ask = (question: HostKeyQuestion): Promise<boolean> => hooks.askHostKey(question);
  const hostKeys = new HostKeyCheck(settings.host, settings.port ?? 22, settings.knownHostsFile, ask);
  return new SshStorage(settings, {
    settings,
    password,
    privateKey,
    passphrase,
    hostKeys,
    log,
  });
}

const CHANGES = ['write', 'rename', 'remove', 'removeFolder', 'makeFolder'] as const;

function refuseChanges(storage: Storage): Storage {
  const words = `target ${storage.number} (${storage.name}) is set to readOnly`;
  for (const change of CHANGES) {
    storage[change] = async () => {
      throw new PhdError('TARGET_REFUSED', words);
    };
  }
  return storage;
}

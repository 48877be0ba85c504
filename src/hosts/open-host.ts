/** Opens a host of phd.yaml by its type. */
import type { HostConfig } from '../model/config.ts';
import type { HostKeyQuestion } from '../storage/open-storage.ts';
import type { Host } from './host.ts';

/** A folder for one purpose, on this machine. */
export interface ScratchFolder {
  file(name: string): string;
  remove(): Promise<void>;
}

/** What a host is opened with; nothing is read before it is asked for. */
export interface HostAccess {
  /** Null if phd.yaml names none. Throws CONFIG_INVALID. */
  password(): Promise<string | null>;
  /** OpenSSH or PEM private key; null if there is none. Throws CONFIG_INVALID. */
  privateKey(): Promise<string | null>;
  /** Null if the key has none. Throws CONFIG_INVALID. */
  privateKeyPassphrase(): Promise<string | null>;
  /** Asked once for a host whose key is unknown; without anyone to ask, answer false. */
  askHostKey(question: HostKeyQuestion): Promise<boolean>;
  /** Lines for a log, without secrets. */
  log(text: string): void;
  /** What tells this home of the program from others on this machine. */
  home: string;
  /** Throws IO, NO_SPACE. */
  scratch(): Promise<ScratchFolder>;
}

/** Connects when first used, not here. */
export async function openHost(config: HostConfig, access: HostAccess): Promise<Host> {
  if (config.type === 'device') {
    const { openDeviceHost } = await import('./device/device-host.ts');
    return openDeviceHost(config, access);
  }
  if (config.type === 'esx') {
    const { openEsxHost } = await import('./esx/esx-host.ts');
    return openEsxHost(config, access);
  }
  const { openXenHost } = await import('./xen/xen-host.ts');
  return openXenHost(config, access);
}

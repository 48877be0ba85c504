/** Programs of others in the comparison: which of them this machine has, or can get without installing. */

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { missingPeers, PEER_NAMES, type Peer, type PeerName, peer } from '../support/peers.ts';

/** How each tells its version. */
const PROGRAMS = {
  gzip: ['--version'],
  pigz: ['--version'],
  zstd: ['--version'],
  lzop: ['--version'],
  'qemu-img': ['--version'],
  restic: ['version'],
  borg: ['--version'],
  dash: null,
  busybox: ['--help'],
  scp: null,
  sshd: null,
  vsftpd: null,
  strace: ['--version'],
} as const satisfies Record<string, readonly string[] | null>;

export type ProgramName = keyof typeof PROGRAMS;

export class PeerPrograms {
  readonly #found = new Map<ProgramName, Peer>();
  readonly missing: { name: string; reason: string }[] = [];
  readonly versions: Record<string, string> = {};

  static async find(): Promise<PeerPrograms> {
    const programs = new PeerPrograms();
    for (const name of Object.keys(PROGRAMS) as ProgramName[]) await programs.#look(name);
    return programs;
  }

  get(name: ProgramName): Peer | undefined {
    return this.#found.get(name);
  }

  async #look(name: ProgramName): Promise<void> {
    const isPackaged = (PEER_NAMES as readonly string[]).includes(name);
    const found = isPackaged ? await peer(name as PeerName) : onPath(name);
    if (found === undefined) {
      const reasons = isPackaged ? await missingPeers([name as PeerName]) : [];
      this.missing.push({ name, reason: reasons[0]?.reason ?? 'not installed' });
      return;
    }
    this.#found.set(name, found);
    const words = PROGRAMS[name];
    if (words === null) return;
    const text = execFileSync(found.path, words, {
      env: found.env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.versions[name] = text.split('\n')[0]?.trim() ?? '';
  }
}

function onPath(name: string): Peer | undefined {
  const folders = (process.env.PATH ?? '').split(':').filter(path.isAbsolute);
  const folder = folders.find((each) => existsSync(path.join(each, name)));
  return folder === undefined ? undefined : { path: path.join(folder, name), env: process.env, root: null };
}

/** Real block devices out of files, by the loop driver; needs root. */
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { needs } from './needs.ts';

/** Said by name where it is missing, a failure under CI=true. */
export function hasLoopDevices(): boolean {
  const isThere =
    process.getuid?.() === 0 && existsSync('/dev/loop-control') && existsSync('/usr/sbin/losetup');
  return needs(isThere, 'root and loop devices (losetup, /dev/loop-control)');
}

export interface LoopDevice {
  /** `/dev/loop3` */
  path: string;
  /** Minor number. */
  minor: number;
  detach(): void;
}

export function attachLoop(file: string): LoopDevice {
  // Another process may take the one that was found free.
  for (let tries = 0; ; tries += 1) {
    try {
      const path = execFileSync('/usr/sbin/losetup', ['-f', '--show', file], { encoding: 'utf8' }).trim();
      const minor = Number(path.replace(/\D/g, ''));
      if (statSync(path).rdev === 0) throw new Error(`${path} is no device`);
      let isAttached = true;
      const detach = (): void => {
        if (isAttached) execFileSync('/usr/sbin/losetup', ['-d', path]);
        isAttached = false;
      };
      return { path, minor, detach };
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
}

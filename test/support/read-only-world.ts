/**
 * A view of the machine in which only one folder can be written, for programs that may do anything: shell text with
 * a turned bit. Needs root and util-linux; without root a program can spoil no more than its user can.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export interface ReadOnlyWorld {
  /** Words to put before a command. */
  words: string[];
  stop(): Promise<void>;
}

/** Each file system is bound read-only but the folder, and but what is no store of files (/proc, /dev). */
const BIND = `
set -e
mount --bind "$1" "$1"
while read -r _ place _; do
  case $place in /proc* | /sys* | /dev*) continue ;; esac
  [ "$place" = "$1" ] || mount -o remount,ro,bind "$place"
done </proc/self/mounts
mount -o remount,rw,bind "$1"
if (: >/read-only-world) 2>/dev/null; then exit 1; fi
: >"$1/read-only-world" && rm "$1/read-only-world"
echo ready
exec cat
`;

/** `folder` must hold no blank. The view ends with `stop`, or with this process. */
export async function startReadOnlyWorld(folder: string): Promise<ReadOnlyWorld> {
  if (process.getuid?.() !== 0) return { words: [], stop: async () => undefined };
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', BIND, 'sh', folder], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  const ended = once(child, 'exit');
  const isReady = await Promise.race([once(child.stdout, 'data').then(() => true), ended.then(() => false)]);
  if (!isReady) throw new Error(`a read-only view of the machine cannot be made: ${said}`);
  return {
    words: ['nsenter', '--target', String(child.pid), '--mount', '--wd=/'],
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

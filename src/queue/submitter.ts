/** Who asks, and from where, as jobs and locks name them. */
import { readlinkSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import type { Submitter } from '../model/job.ts';

/** The user of this process, host, terminal and the address behind an SSH login. */
export function submitterOf(env: NodeJS.ProcessEnv): Submitter {
  const [client] = (env.SSH_CLIENT ?? env.SSH_CONNECTION ?? '').split(' ');
  return { user: userName(), host: hostname(), tty: terminal(), sshClient: client || null };
}

/** `root on backup1 (pts/3, from 10.0.0.7)` */
export function submitterText({ user, host, tty, sshClient }: Submitter): string {
  const from = [
    ...(tty === null ? [] : [tty.replace(/^\/dev\//, '')]),
    ...(sshClient === null ? [] : [`from ${sshClient}`]),
  ];
  return `${user} on ${host}${from.length > 0 ? ` (${from.join(', ')})` : ''}`;
}

/** A user without an entry in the password file is called by number. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`;
  }
}

/** Device of the terminal that any of the standard streams is; null without one. */
function terminal(): string | null {
  for (const stream of [0, 1, 2]) {
    try {
      const device = readlinkSync(`/proc/self/fd/${stream}`);
      if (/^\/dev\/(pts\/\d+|tty\w*|console)$/.test(device)) return device;
    } catch {
      // A closed stream is no terminal.
    }
  }
  return null;
}

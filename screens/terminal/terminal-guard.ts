/**
 * Puts the terminal right when the console was killed in a way that leaves it no time to do so (SIGKILL, no memory): a
 * shell that waits for the end of a pipe, which the kernel closes whatever happens.
 */
import { type ChildProcess, spawn } from 'node:child_process';

/**
 * $1: what restores the terminal; $2: the state it is in, `held` or `given`. Reads further states: the first comes with the
 * start, for the console may be killed before it can say one. The settings that raw mode takes away are set again if nobody else
 * did so: a shell with an editor of its own does.
 */
const SCRIPT = `
trap '' INT QUIT TERM TSTP TTIN TTOU
state=$2
while read -r word; do state=$word; done
[ "$state" = held ] || exit 0
exec 3<&1
case $(stty -a <&3) in
  *-isig*) stty brkint icrnl ixon echo icanon iexten isig <&3 ;;
esac
printf %s "$1"
exit 0
`;

export class TerminalGuard {
  readonly #child: ChildProcess;

  constructor(restoreSequence: string, state: 'held' | 'given') {
    this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'phd-terminal-guard', restoreSequence, state], {
      stdio: ['pipe', 'inherit', 'ignore'],
    });
    // Without a shell there is no guard, and nothing else is lost.
    this.#child.on('error', () => undefined);
    this.#child.stdin?.on('error', () => undefined);
    this.#child.unref();
    (this.#child.stdin as unknown as { unref?(): void }).unref?.();
  }

  say(state: 'held' | 'given'): void {
    this.#child.stdin?.write(`${state}\n`);
  }

  end(): void {
    this.#child.stdin?.end('given\n');
  }
}

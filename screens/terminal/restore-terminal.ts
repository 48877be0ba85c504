/** Gives the terminal back as it was found; safe to call at any time and any number of times. */
import { writeSync } from 'node:fs';

/** The Linux console has but one screen. */
export function hasAlternateScreen(terminalName: string): boolean {
  return terminalName !== 'linux';
}

/**
 * Bracketed paste, all mouse modes, keypad and cursor keys, scroll margins, colours, cursor, alternate screen: all off,
 * in the order that leaves the cursor where the shell had it. Where there is no other screen this one is cleared.
 */
export function restoreSequence(terminalName: string): string {
  const modes = '\x1b[?2004l\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1l\x1b>\x1b[r\x1b[m\x1b[?25h';
  return modes + (hasAlternateScreen(terminalName) ? '\x1b[?1049l' : '\x1b[H\x1b[J');
}

/** A stalled line gets so long to take the last bytes. */
export const FAREWELL_MS = 2_000;
const AGAIN_MS = 20;

/**
 * Writes past all buffers, for a process that is about to end or stop. A line that stalls is asked again for two
 * seconds; one that is gone is no reason to hang.
 */
export function writeAtOnce(descriptor: number, text: string): void {
  let rest = Buffer.from(text);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let spent = 0; rest.length > 0 && spent < FAREWELL_MS; spent += AGAIN_MS) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      // EIO, EBADF, EPIPE: there is nobody to give it back to.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      Atomics.wait(pause, 0, 0, AGAIN_MS);
    }
  }
}

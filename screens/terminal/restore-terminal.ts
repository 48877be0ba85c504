/** Gives the terminal back as it was found; safe to call at any time and any number of times. */
import { writeSync } from 'node:fs';

/**
 * Bracketed paste, all mouse modes, keypad and cursor keys, scroll margins, colours, cursor, alternate screen: all off,
 * in the order that leaves the cursor where the shell had it.
 */
export const RESTORE_SEQUENCE =
  '\x1b[?2004l\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1l\x1b>\x1b[r\x1b[m\x1b[?25h\x1b[?1049l';

/** Writes the sequence past all buffers; a terminal that is gone or stalled is no reason to hang. */
export function writeRestoreSequence(descriptor: number): void {
  try {
    writeSync(descriptor, RESTORE_SEQUENCE);
  } catch {
    // EAGAIN of a stalled line, EIO of one that is gone: there is nobody to give it back to.
  }
}

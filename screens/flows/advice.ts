/** What to do about a failed job, in one sentence for each code. */
import type { ErrorCode } from '../../src/errors.ts';

const ADVICE: Record<ErrorCode, string> = {
  USAGE: 'The request cannot be done as it stands: begin anew with other answers.',
  CONFIG_INVALID: 'Put the named line of the configuration right, then retry.',
  DIGEST_MISMATCH: 'Retry once; if it stays, restore another date, or salvage what is good.',
  ARCHIVE_DAMAGED: 'Look for another copy or restore another date; salvage keeps what is good.',
  WRONG_FULL: 'Choose the FULL marked with a star, or bring the right FULL back to a target.',
  FORMAT_UNSUPPORTED: 'This archive cannot be restored by this program: choose another one.',
  TARGET_UNREACHABLE: 'Test the target (Configuration), then retry: it goes on where it was.',
  TARGET_REFUSED: 'Check user, password and rights of the target (Configuration), then retry.',
  TARGET_LIED: 'The target does not keep what it says: test it (Configuration), then retry.',
  HOST_KEY_REFUSED: 'Test the target (Configuration) to see its host key; a changed key wants a look first.',
  LOCKED: 'Clear the lock (Locks) or wait for the other job, then retry.',
  VM_RUNNING: 'Power the VM off, or choose another place, then retry.',
  NO_SPACE: 'Make room, or choose another volume, then retry.',
  PASSPHRASE_MISSING: 'Give the passphrase in the configuration, then retry.',
  PASSPHRASE_WRONG: 'Add the passphrase of that time to the configuration, then retry.',
  NOT_FOUND: 'Re-index, and look whether the archive is still there, then retry.',
  EXISTS: 'Choose another name or folder, or take away what is there.',
  SOURCE_CHANGED: 'Keep the disk from changing (snapshot, power off), then retry.',
  SOURCE_UNSUPPORTED: 'Remove snapshots or choose another disk, then retry.',
  PROGRAM_MISSING: 'Install the named program, then retry.',
  PROGRAM_FAILED: 'Put right what the named program complains of, then retry.',
  IO: 'See the log of the job, then retry: a restore goes on where it proved to be.',
  CANCELLED: 'Retry goes on where it was.',
};

/** Advice for the code of a job; what the general code says if it is none that is known. */
export function adviceFor(code: string | null): string {
  return ADVICE[(code ?? 'IO') as ErrorCode] ?? ADVICE.IO;
}

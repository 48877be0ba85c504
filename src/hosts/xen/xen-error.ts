/** Errors of XenAPI in this program's words: code, what was being done, and what to do about it. */
import { shownName } from '../../datastore/plain-name.ts';
import { type ErrorCode, PhdError } from '../../errors.ts';

/** What the host answered: a code of XenAPI and its parameters. */
export interface XenFailure {
  code: string;
  params: readonly string[];
}

const FULL = 'free room on it, or take another storage repository: phd host check shows them';
const CODES: Record<string, [ErrorCode, string]> = {
  SESSION_AUTHENTICATION_FAILED: ['TARGET_REFUSED', 'user or password is wrong'],
  RBAC_PERMISSION_DENIED: ['TARGET_REFUSED', 'the user needs the role pool-operator or pool-admin'],
  SESSION_INVALID: ['TARGET_UNREACHABLE', 'the session ended: try again'],
  HOST_IS_SLAVE: ['TARGET_UNREACHABLE', 'the pool is changing its master: try again'],
  HOST_STILL_BOOTING: ['TARGET_UNREACHABLE', 'it is still starting: try again'],
  HOST_OFFLINE: ['TARGET_UNREACHABLE', 'the member that sees this storage is off'],
  HANDLE_INVALID: ['NOT_FOUND', 'it is no longer there: phd host list shows what is'],
  UUID_INVALID: ['NOT_FOUND', 'it is no longer there: phd host list shows what is'],
  VM_BAD_POWER_STATE: ['VM_RUNNING', 'the VM is not in a state that allows it'],
  OTHER_OPERATION_IN_PROGRESS: ['LOCKED', 'something else works on it: wait for its end'],
  VDI_IN_USE: ['LOCKED', 'the disk is in use: wait for what uses it, or stop the VM'],
  VDI_NOT_AVAILABLE: ['LOCKED', 'the disk is held by something else, or its storage is not plugged'],
  SR_FULL: ['NO_SPACE', FULL],
  SR_BACKEND_FAILURE_44: ['NO_SPACE', FULL],
  VDI_TOO_LARGE: ['SOURCE_UNSUPPORTED', 'the disk is larger than a VHD may be: take raw'],
  SR_BACKEND_FAILURE_46: ['TARGET_REFUSED', 'the storage does not find the disk: rescan it'],
  SR_HAS_NO_PBDS: ['TARGET_UNREACHABLE', 'the storage is not plugged on any member'],
  SR_NOT_ATTACHED: ['TARGET_UNREACHABLE', 'the storage is not plugged on this member'],
  DEFAULT_SR_NOT_FOUND: ['USAGE', 'the pool has no default storage repository: name one with --sr'],
  LICENCE_RESTRICTION: ['TARGET_REFUSED', 'its licence does not allow it'],
  LICENSE_RESTRICTION: ['TARGET_REFUSED', 'its licence does not allow it'],
  MESSAGE_METHOD_UNKNOWN: ['TARGET_REFUSED', 'this release does not know the call'],
  VM_SNAPSHOT_WITH_QUIESCE_FAILED: ['SOURCE_UNSUPPORTED', 'the guest did not quiesce'],
  VM_SNAPSHOT_WITH_QUIESCE_TIMEOUT: ['SOURCE_UNSUPPORTED', 'the guest did not quiesce in time'],
  VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED: ['SOURCE_UNSUPPORTED', 'the guest cannot be quiesced'],
  IMPORT_ERROR_CANNOT_HANDLE_CHUNKED: ['TARGET_REFUSED', 'it takes no chunked upload'],
  IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND: ['ARCHIVE_DAMAGED', 'the file names disks that it does not hold'],
  IMPORT_ERROR_PREMATURE_EOF: ['ARCHIVE_DAMAGED', 'the file ended too early'],
  IMPORT_ERROR_SOME_CHECKSUMS_FAILED: ['DIGEST_MISMATCH', 'pieces of it do not match their checksums'],
  IMPORT_ERROR_UNEXPECTED_FILE: ['ARCHIVE_DAMAGED', 'the file holds what no XVA holds'],
  IMPORT_INCOMPATIBLE_VERSION: ['FORMAT_UNSUPPORTED', 'the file is of a newer release than the host'],
  MAC_DOES_NOT_EXIST: ['TARGET_REFUSED', 'no network card has this MAC address'],
  MAC_STILL_EXISTS: ['EXISTS', 'a VM has this MAC address: leave --preserve-macs out'],
  DUPLICATE_MAC_SEED: ['EXISTS', 'a VM of the pool comes from the same export: leave --preserve-macs out'],
  DUPLICATE_VM: ['EXISTS', 'the VM is in the pool already: leave --preserve-macs out'],
  VM_REQUIRES_SR: ['TARGET_UNREACHABLE', 'storage of the VM is not plugged'],
  // What xapi says of a connection that broke, and of much else: worth another try.
  INTERNAL_ERROR: ['TARGET_UNREACHABLE', 'the host broke off'],
  TASK_CANCELLED: ['CANCELLED', 'it was cancelled on the host'],
};
const UNSUPPORTED_QUIESCE = /QUIESCE/;
const MOST_WORDS = 6;

/** `doing` names the thing and the place: "host xen1: cannot make a snapshot of web". */
export function xenError({ code, params }: XenFailure, doing: string): PhdError {
  const [ours, advice] = CODES[code] ?? ['TARGET_REFUSED', null];
  // The parameter of this one is the session, which is a secret.
  const told = code.startsWith('SESSION_') ? [] : params.filter((one) => one !== '').slice(0, MOST_WORDS);
  const words = [code, ...told.filter((one) => !one.startsWith('OpaqueRef:'))].map(shownName).join(' ');
  return new PhdError(ours, `${doing}: ${advice === null ? words : `${advice} (${words})`}`, {
    cause: new XenApiError(code, params),
  });
}

/** Tells more than a line that broke: others are what the host makes of that. */
export function isTellingCode(code: string): boolean {
  return code in CODES && code !== 'INTERNAL_ERROR';
}

/** The answer itself, kept as the cause of the error that people see. */
export class XenApiError extends Error {
  readonly code: string;
  readonly params: readonly string[];

  constructor(code: string, params: readonly string[]) {
    super(code);
    this.name = 'XenApiError';
    this.code = code;
    this.params = params;
  }
}

/** The code of XenAPI behind an error, if there is one. */
export function xenCodeOf(error: unknown): string | null {
  const cause = error instanceof PhdError ? error.cause : error;
  return cause instanceof XenApiError ? cause.code : null;
}

/** The guest or the release cannot be asked to flush. */
export function isQuiesceRefusal(error: unknown): boolean {
  const code = xenCodeOf(error) ?? '';
  return UNSUPPORTED_QUIESCE.test(code) || code === 'MESSAGE_METHOD_UNKNOWN';
}

/**
 * The one error type of the program and its closed list of codes. Every room translates foreign errors
 * (errno, FTP replies, ssh2, OpenPGP, SQLite, zod) into this type at its own door and keeps the cause.
 * The exit status of a code is fixed here, so that no command can invent one.
 */
import { constants } from 'node:os';

/** code -> exit status (README, exit status). */
const EXIT_STATUS = {
  /** Wrong words on the command line, or values that contradict one another. */
  USAGE: 2,
  /** phd.yaml (or a secret it names) cannot be used. */
  CONFIG_INVALID: 2,
  /** Bytes differ from their checksum, or two digests that must agree do not. */
  DIGEST_MISMATCH: 3,
  /** An archive is cut, malformed, or its parts contradict one another. */
  ARCHIVE_DAMAGED: 3,
  /** The FULL offered is not the one this DELTA was made against. */
  WRONG_FULL: 3,
  /** A format that is known but cannot be restored (foreign DELTA, AEAD message, newer version). */
  FORMAT_UNSUPPORTED: 1,
  /** No connection, or the line died. */
  TARGET_UNREACHABLE: 4,
  /** The target answers but refuses: login, permission, host key, certificate. */
  TARGET_REFUSED: 4,
  /** The target said one thing and did another. */
  TARGET_LIED: 4,
  /** Host key or certificate is unknown or has changed. */
  HOST_KEY_REFUSED: 4,
  /** A lock, another job or a running VM forbids it. */
  LOCKED: 5,
  /** The disk or VM is in use, or it cannot be known that it is not. */
  VM_RUNNING: 5,
  NO_SPACE: 6,
  PASSPHRASE_MISSING: 7,
  PASSPHRASE_WRONG: 7,
  /** Nothing there by that name. */
  NOT_FOUND: 1,
  /** A name is taken and must not be overwritten. */
  EXISTS: 1,
  /** The source changed while it was read. */
  SOURCE_CHANGED: 1,
  /** A disk that cannot be backed up as it stands: snapshot, sparse, split, raw-mapped. */
  SOURCE_UNSUPPORTED: 1,
  /** An outside program is missing (lzop). */
  PROGRAM_MISSING: 1,
  /** An outside program (a hook, vim-cmd) ended with an error, or took too long. */
  PROGRAM_FAILED: 1,
  /** Any other failure of the operating system; the message has its words. */
  IO: 1,
  CANCELLED: 130,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS;

export class PhdError extends Error {
  readonly code: ErrorCode;
  /** True where trying again later may help (a dead line), false where it cannot (a wrong passphrase). */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'PhdError';
    this.code = code;
    this.retryable = options.retryable ?? code === 'TARGET_UNREACHABLE';
  }

  get exitStatus(): number {
    return EXIT_STATUS[this.code];
  }
}

/** Which of several failures decides the exit status of a command over many disks (README, exit status). */
const STATUS_ORDER = [130, 3, 6, 5, 7, 4, 2, 1];

/** Exit status of a command from the codes of its failed items; 0 without any. */
export function exitStatusOf(codes: readonly ErrorCode[]): number {
  const statuses = new Set(codes.map((code) => EXIT_STATUS[code]));
  return STATUS_ORDER.find((status) => statuses.has(status as never)) ?? 0;
}

const ERRNO_CODES: Record<string, ErrorCode> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_FOUND',
  EEXIST: 'EXISTS',
  ENOTEMPTY: 'EXISTS',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
  EBUSY: 'LOCKED',
  ETXTBSY: 'LOCKED',
  ABORT_ERR: 'CANCELLED',
};

/**
 * Translates an error of the operating system (errno) at a room's door; a PhdError passes unchanged.
 * `doing` names the thing and the place: "cannot write /vm/a-flat.vmdk".
 */
export function fromErrno(error: unknown, doing: string): PhdError {
  if (error instanceof PhdError) return error;
  const errno = isQuota(error) ? 'EDQUOT' : (error as NodeJS.ErrnoException | undefined)?.code;
  const isAbort = (error as Error | undefined)?.name === 'AbortError';
  const code: ErrorCode = isAbort ? 'CANCELLED' : (ERRNO_CODES[errno ?? ''] ?? 'IO');
  const words = code === 'CANCELLED' ? 'cancelled' : wordsOf(error, doing);
  return new PhdError(code, `${doing}: ${words}`, { cause: error });
}

/** Node has no name for it: `Unknown system error -122`. */
function isQuota(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.errno === -constants.errno.EDQUOT;
}

/** `ENOENT: no such file or directory, lstat '/a'` without the call; the place only if it was not named yet. */
function wordsOf(error: unknown, doing: string): string {
  if (isQuota(error)) return 'disk quota exceeded';
  const { message = String(error), path, code } = (error ?? {}) as NodeJS.ErrnoException;
  const [, errno, words] = /^([A-Z][A-Z0-9]+): ([^,]+), \w+/.exec(message) ?? [];
  if (words === undefined || errno !== code) return message;
  return path === undefined || doing.includes(path) ? words : `${words}: ${path}`;
}

/** Throws CANCELLED if the caller has given up. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new PhdError('CANCELLED', 'cancelled');
}

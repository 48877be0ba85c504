/**
 * The public library of phd: what the command line, the console, the daemon and other programs call. Every
 * operation takes a context, a request and hooks: progress as events, warnings, cancel by AbortSignal.
 */
export { writeStub } from '../datastore/stub.ts';
export { type ErrorCode, exitStatusOf, PhdError } from '../errors.ts';
export type { Codec, Stamp, Transport } from '../model/archive.ts';
export {
  type BackupRequest,
  type BackupResult,
  backup,
  backupSource,
  type DiskBackup,
  type OperationHooks,
  type SourceRequest,
} from './backup.ts';
export { backupHostVm, type HostBackupRequest } from './backup-host.ts';
export { archiveRef, refsOfVm, type WantedVm } from './choose-run.ts';
export { type ContextOptions, type EngineContext, openContext } from './context.ts';
export { GPG_MASTER_OFFSET } from './gpg-offset.ts';
export {
  type IndexEvent,
  type IndexOptions,
  indexTargets as index,
  type TargetIndexResult,
} from './index-targets.ts';
export { type ArchiveState, type ListedRow, type ListFilter, listArchives as list } from './list-archives.ts';
export type { OnProgress, ProgressEvent } from './progress.ts';
export { type RestoreRequest, type RestoreResult, restore } from './restore.ts';
export type { ArchiveRef } from './restore-source.ts';
export { type RestoreVmxRequest, restoreVmx } from './restore-vmx.ts';
export { verifyArchive } from './verify.ts';
export { verifyDisk } from './verify-disk.ts';
export type { VerifyResult } from './verifying.ts';
export { PROGRAM, VERSION } from './version.ts';

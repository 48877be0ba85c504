/** What jobs ask for, as JSON in jobs.db: checked before it is written and again when it is read. Holds no secrets. */
import path from 'node:path';
import { z } from 'zod';
import { parseArchiveName, parseFolderName } from '../archive/names.ts';
import { PhdError } from '../errors.ts';
import type { Job, JobKind } from '../model/job.ts';

/** Jobs outlive the folder they were queued from. */
const absolute = z.string().refine((text) => path.isAbsolute(text), 'expected an absolute path');
/** `N:folder/file` on target N, or the absolute path of a file. */
const archive = z
  .string()
  .refine((text) => path.isAbsolute(text) || /^\d{1,4}:./s.test(text), 'expected N:folder/file or a path');
const target = z.number().int().min(1).max(9999);

/** Characters of a name. */
const MAX_NAME = 255;

const diskRestore = z.strictObject({
  archive,
  full: archive.optional(),
  to: absolute,
  name: z.string().min(1).optional(),
  isNameNew: z.boolean().optional(),
  inPlace: z.union([z.boolean(), z.literal('if there')]).optional(),
  verify: z.boolean().optional(),
  assumeOff: z.boolean().optional(),
  salvage: z.boolean().optional(),
  acceptUnproved: z.boolean().optional(),
  /** A `vmdks.auto` whose passphrases are tried first. */
  passphrasesIn: absolute.optional(),
  /** Also VMX, NVRAM and logs. */
  vmx: z.boolean().optional(),
  /** Fits that VMX to its new place. */
  vmxRewrite: z
    .strictObject({
      identity: z.enum(['keep', 'new']),
      displayName: z.string().min(1).max(MAX_NAME).optional(),
      newUuid: z
        .string()
        .regex(/^[0-9a-f]{32}$/)
        .optional(),
      disconnectNetwork: z.boolean(),
      restored: z
        .array(
          z.strictObject({ scsiId: z.string().regex(/^\d{1,6}$/), name: z.string().min(1).max(MAX_NAME) }),
        )
        .max(1_000)
        .optional(),
    })
    .optional(),
});

/** A VM, or some of its disks, onto a volume of a host. */
const hostRestore = z.strictObject({
  host: z.string().min(1).max(MAX_NAME),
  /** Of XenServer name or UUID of a storage repository. */
  datastore: z.string().min(1).max(MAX_NAME),
  /** Archives of one run, each with the FULL that was chosen for it. */
  disks: z
    .array(z.strictObject({ archive, full: archive.optional() }))
    .min(1)
    .max(1_000),
  /** Of the folder and the VM; default: as in the archive. */
  name: z.string().min(1).max(MAX_NAME).optional(),
  /** XenServer; `auto` (default): MAC addresses are kept unless the pool has one of them. */
  macs: z.enum(['keep', 'new', 'auto']).optional(),
});

const howToBackUp = {
  /** Of the backup job that asks for it. */
  run: z.string().max(64).optional(),
  target: target.optional(),
  mode: z.enum(['auto', 'full', 'delta']).optional(),
  codec: z.enum(['gzip', 'zstd', 'lzop']).optional(),
  level: z.number().int().min(1).max(22).optional(),
  encrypt: z.boolean().optional(),
  assumeOff: z.boolean().optional(),
  disks: z.array(z.string().max(MAX_NAME)).optional(),
  excludeDisks: z.array(z.string().max(MAX_NAME)).optional(),
  fullAboveChangedPercent: z.number().min(0).max(100).optional(),
  bandwidthLimitBytesPerSecond: z.number().int().min(1024).optional(),
  /** Commands of this machine, before the VM and after it, whatever became of it. */
  hooks: z
    .strictObject({
      before: z.string().max(4096).optional(),
      after: z.string().max(4096).optional(),
      timeoutMs: z.number().int().min(1000),
      job: z.string().max(MAX_NAME),
    })
    .optional(),
};

/** Longest command before or after a snapshot. */
const MAX_COMMAND = 4096;

const backupRequest = z.union([
  z.strictObject({ folder: absolute, images: z.array(absolute).optional(), ...howToBackUp }),
  z.strictObject({
    host: z.string().min(1).max(MAX_NAME),
    vm: z.string().min(1).max(MAX_NAME),
    quiesce: z.boolean().optional(),
    preFreeze: z.string().max(MAX_COMMAND).optional(),
    postThaw: z.string().max(MAX_COMMAND).optional(),
    ...howToBackUp,
  }),
]);

const verifyRequest = z.union([
  z.strictObject({ archives: z.array(archive).min(1) }),
  z.strictObject({
    target,
    newest: z.boolean(),
    olderThanDays: z.number().int().min(0).nullable(),
    verifiedBefore: z.iso.datetime().optional(),
  }),
  z.strictObject({ disk: absolute, against: archive, full: archive.optional() }),
]);

const REQUESTS = { backup: backupRequest, verify: verifyRequest };

export type DiskRestore = z.output<typeof diskRestore>;
export type HostRestore = z.output<typeof hostRestore>;

export interface Requests {
  restore: DiskRestore | HostRestore;
  backup: z.output<typeof backupRequest>;
  verify: z.output<typeof verifyRequest>;
}

/** JSON of a request that a job can be made of. Throws USAGE. */
export function printRequest<Kind extends JobKind>(kind: Kind, request: Requests[Kind]): string {
  const checked = parse(kind, request);
  if (!checked.success)
    throw new PhdError('USAGE', `this ${kind} cannot be queued: ${faultOf(checked.error)}`);
  return JSON.stringify(checked.data);
}

/** The request of a job. Throws CONFIG_INVALID if what stands in jobs.db is none. */
export function readRequest<Kind extends JobKind>(kind: Kind, job: Job): Requests[Kind] {
  let value: unknown;
  try {
    value = JSON.parse(job.request);
  } catch {
    value = undefined;
  }
  const checked = parse(kind, value);
  if (checked.success) return checked.data as Requests[Kind];
  throw new PhdError(
    'CONFIG_INVALID',
    `the request of job ${job.id} cannot be read: ${faultOf(checked.error)}`,
  );
}

/** A fault is told of the form that was meant, not of both. */
function parse(kind: JobKind, value: unknown): z.ZodSafeParseResult<unknown> {
  if (kind !== 'restore') return REQUESTS[kind].safeParse(value);
  const isForHost = typeof value === 'object' && value !== null && 'host' in value;
  return (isForHost ? hostRestore : diskRestore).safeParse(value);
}

/** An archive as a job names it: one named by its path keeps the whole path. */
export function queuedArchive(text: string): string {
  return /^\d{1,4}:.+\/[^/]+$/s.test(text) ? text : path.resolve(text);
}

/** What a restore job reads, as the request names it; empty where that cannot be read. */
export function archivesOfRestore(job: Job): string[] {
  try {
    const request = readRequest('restore', job);
    const pairs = 'host' in request ? request.disks : [request];
    return pairs.flatMap(({ archive: one, full }) => (full === undefined ? [one] : [one, full]));
  } catch {
    // A job of another version: it will fail when it begins.
    return [];
  }
}

/** One line for lists. */
export function titleOf<Kind extends JobKind>(kind: Kind, request: Requests[Kind]): string {
  if (kind === 'restore') {
    const restore = request as Requests['restore'];
    if ('host' in restore) return `${archivesText(restore)} to ${placeOnHost(restore)}`;
    const { archive: from, to, name } = restore;
    return `${from} to ${name === undefined ? to : path.join(to, name)}`;
  }
  if (kind === 'backup') return sourceOf(request as Requests['backup']);
  const verify = request as Requests['verify'];
  if ('disk' in verify) return `${verify.disk} against ${verify.against}`;
  if ('target' in verify) return `target ${verify.target}${verify.newest ? ', newest of each disk' : ''}`;
  const [first = '', ...others] = verify.archives;
  return others.length === 0 ? first : `${first} and ${others.length} more`;
}

/** The first of the archives, and how many there are besides. */
function archivesText({ disks }: HostRestore): string {
  const [first, ...others] = disks.map(({ archive: one }) => one);
  return others.length === 0 ? (first ?? '') : `${first} and ${others.length} more`;
}

/** `esx01:datastore1/web`; without a name of its own the VM is called as in the archive. */
function placeOnHost({ host, datastore, name }: HostRestore): string {
  return `${host}:${datastore}${name === undefined ? '' : `/${name}`}`;
}

/** Where the VM of a backup lies, `HOST/VM` or its folder. */
export function sourceOf(request: Requests['backup']): string {
  return 'host' in request ? `${request.host}/${request.vm}` : request.folder;
}

/** What a job is about in two or three words, for lists: the disk, the VM folder, the archives. */
export function subjectOf(job: Job): string {
  try {
    if (job.kind === 'backup') {
      const backup = readRequest('backup', job);
      return 'host' in backup ? backup.vm : path.basename(backup.folder);
    }
    if (job.kind === 'restore') {
      const restore = readRequest('restore', job);
      if ('host' in restore) return restore.name ?? vmOf(restore);
      const { archive: from, name } = restore;
      return name ?? parseArchiveName(path.basename(from))?.disk ?? path.basename(from);
    }
    const verify = readRequest('verify', job);
    if ('disk' in verify) return path.basename(verify.disk);
    if ('target' in verify) return `target ${verify.target}`;
    const [first = '', ...others] = verify.archives;
    return others.length === 0 ? path.basename(first) : `${verify.archives.length} archives`;
  } catch {
    return job.title;
  }
}

/** What a job takes and where it goes, name and value, for people. */
export function factsOf(job: Job): [string, string][] {
  try {
    if (job.kind === 'restore') {
      const restore = readRequest('restore', job);
      if ('host' in restore)
        return [
          ['VM', subjectOf(job)],
          ['From', archivesText(restore)],
          ['To', placeOnHost(restore)],
        ];
      const { archive: from, to } = restore;
      return [
        ['Disk', subjectOf(job)],
        ['From', from],
        ['To', to],
      ];
    }
    if (job.kind === 'backup') {
      const backup = readRequest('backup', job);
      const { target: to } = backup;
      return [
        ['VM', subjectOf(job)],
        ['From', sourceOf(backup)],
        ['To', to === undefined ? 'the first target' : `target ${to}`],
      ];
    }
  } catch {
    // What cannot be read is told by its title.
  }
  return [['What', job.title]];
}

/**
 * What a job writes and no other may write at the same time: the disk of a restore, its VM on a host, the archives of a VM.
 * Null if it only reads. Jobs whose request cannot be read conflict with none: they fail when they run.
 */
export function goalOf(job: Job): string | null {
  if (job.kind === 'verify') return null;
  try {
    if (job.kind === 'backup') return `archives of ${sourceOf(readRequest('backup', job))}`;
    const restore = readRequest('restore', job);
    return 'host' in restore ? goalOnHost(restore) : goalOfRestore(restore);
  } catch {
    return null;
  }
}

/** The same for a restore that is no job yet. */
export function goalOfRestore({ archive: from, to, name }: DiskRestore): string {
  const file = path.basename(from);
  return `disk ${path.join(to, name ?? parseArchiveName(file)?.disk ?? file)}`;
}

/** The same for a VM on a host; two that are named by their archive alone may be one. */
export function goalOnHost(restore: HostRestore): string {
  const { host, datastore, name } = restore;
  return `VM ${host}:${datastore}/${name ?? ` as in ${vmOf(restore)}`}`;
}

/** As the folder of the run names it. */
function vmOf({ disks }: HostRestore): string {
  const folder = path.basename(path.dirname(disks[0]?.archive.replace(/^\d{1,4}:/, '') ?? ''));
  return parseFolderName(folder)?.vm ?? folder;
}

function faultOf(error: z.ZodError): string {
  const [first] = error.issues;
  return first === undefined ? 'it is malformed' : `${first.path.join('.') || 'request'}: ${first.message}`;
}

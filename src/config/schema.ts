/** What may stand in phd.yaml, with every default. Unknown keys are let through, so that newer files
 * still load; unknown-keys.ts names them. */
import { z } from 'zod';
import { HOST_TYPES } from '../model/config.ts';

const text = z.string().min(1, 'expected some text');
/** Names that end up in messages and file lists. */
const plainText = text.regex(/^[^\p{Cc}]*$/u, 'expected text without control characters');
const wholeNumber = (from: number, to: number) =>
  z
    .number()
    .int()
    .min(from, `expected a whole number ${from} to ${to}`)
    .max(to, `expected a whole number ${from} to ${to}`);

/** SHA-256 of a certificate, with or without colons. */
const fingerprint = z
  .string()
  .transform((value) => value.replaceAll(':', '').toLowerCase())
  .pipe(z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits'));

const secretKeys = <Name extends string>(name: Name) =>
  ({
    [`${name}File`]: text.optional(),
    [`${name}Env`]: text.optional(),
    [`${name}Command`]: text.optional(),
  }) as Record<`${Name}${'File' | 'Env' | 'Command'}`, z.ZodOptional<z.ZodString>>;

/** How a machine is reached, logged in to, and known again. */
const access = {
  host: plainText.optional(),
  port: wholeNumber(1, 65_535).optional(),
  user: plainText.optional(),
  ...secretKeys('password'),
  privateKeyFile: text.optional(),
  ...secretKeys('privateKeyPassphrase'),
  knownHostsFile: text.optional(),
  tlsPin: fingerprint.optional(),
  legacyAlgorithms: z.boolean().default(false),
  timeoutSeconds: wholeNumber(1, 3600).default(30),
};

const target = z
  .looseObject({
    number: wholeNumber(1, 9999),
    name: plainText,
    transport: z.enum(['vmfs', 'ftp', 'ssh']),
    path: z.string().regex(/^[^\p{Cc}]*$/u, 'expected a path without control characters'),
    ...access,
    tls: z.enum(['none', 'explicit']).default('none'),
    maxConnections: wholeNumber(1, 32).optional(),
    bandwidthLimitBytesPerSecond: wholeNumber(1024, Number.MAX_SAFE_INTEGER).optional(),
    readOnly: z.boolean().default(false),
    readBack: z.enum(['tail', 'all']).default('tail'),
  })
  .superRefine((value, context) => {
    const need = (key: 'host' | 'user', why: string) => {
      if (value[key] === undefined) context.addIssue({ code: 'custom', path: [key], message: why });
    };
    if (value.transport === 'vmfs') {
      if (value.path === '')
        context.addIssue({ code: 'custom', path: ['path'], message: 'expected a folder' });
    } else {
      need('host', 'expected a host name or address');
      need('user', 'expected the name of a user');
    }
  });

const host = z
  .looseObject({
    /** Stands before the slash of `HOST/VM`. */
    name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected letters, digits, dots and dashes'),
    type: z.enum(HOST_TYPES),
    ...access,
    memberTlsPins: z.array(fingerprint).default([]),
    devices: z.array(z.string().regex(/^\/[^\p{Cc}]*$/u, 'expected an absolute path')).default([]),
  })
  .superRefine((value, context) => {
    const need = (key: string, why: string) =>
      context.addIssue({ code: 'custom', path: [key], message: why });
    if (value.type !== 'device' && value.host === undefined) need('host', 'expected a host name or address');
    if (value.host !== undefined && value.user === undefined) need('user', 'expected the name of a user');
    if (value.type === 'device' && value.devices.length === 0) need('devices', 'expected a list of devices');
  });

const shellCommand = z.string().min(1).max(4096).optional();
const keepCount = wholeNumber(0, 99_999).default(0);

const backupJob = z.looseObject({
  // It names files of the state folder.
  name: z
    .string()
    .max(100, 'expected at most 100 letters')
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected letters, digits, dots and dashes'),
  enabled: z.boolean().default(true),
  vms: z.array(text).min(1, 'expected names of VMs or patterns, ["*"] for all'),
  exclude: z.array(text).default([]),
  from: z.array(text).optional(),
  disks: z.array(text).optional(),
  excludeDisks: z.array(text).default([]),
  targets: z
    .array(wholeNumber(1, 9999))
    .min(1)
    .transform((numbers) => [...new Set(numbers)])
    .optional(),
  full: text.optional(),
  delta: text.optional(),
  codec: z.enum(['gzip', 'zstd', 'lzop']).optional(),
  level: wholeNumber(1, 22).optional(),
  encrypt: z.boolean().optional(),
  fullAboveChangedPercent: z.number().min(0).max(100).optional(),
  bandwidthLimitBytesPerSecond: wholeNumber(1024, Number.MAX_SAFE_INTEGER).optional(),
  quiesce: z.boolean().default(false),
  hooks: z
    .looseObject({
      beforeRun: shellCommand,
      afterRun: shellCommand,
      beforeVm: shellCommand,
      afterVm: shellCommand,
      preFreeze: shellCommand,
      postThaw: shellCommand,
      timeoutSeconds: wholeNumber(1, 86_400).default(300),
    })
    .prefault({}),
  atOnce: wholeNumber(1, 4).default(1),
  keep: z
    .union([
      wholeNumber(1, 99_999),
      z
        .looseObject({ last: keepCount, daily: keepCount, weekly: keepCount, monthly: keepCount })
        .refine(({ last, daily, weekly, monthly }) => last + daily + weekly + monthly > 0, {
          message: 'expected at least one number above 0',
        }),
    ])
    .optional(),
  preClean: z.boolean().default(false),
});

/** `22:00-06:00` */
const WINDOW = /^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/;

export const configSchema = z.looseObject({
  targets: z
    .array(target)
    .superRefine((targets, context) => {
      targets.forEach((one, at) => {
        const first = targets.findIndex((other) => other.number === one.number);
        if (first !== at) {
          const message = `expected a number of its own: ${one.number} is taken`;
          context.addIssue({ code: 'custom', path: [at, 'number'], message });
        }
      });
    })
    .default([]),
  datastores: z.array(text).default([]),
  hosts: z
    .array(host)
    .superRefine((hosts, context) => {
      hosts.forEach(({ name }, at) => {
        if (hosts.findIndex((other) => other.name === name) === at) return;
        const message = `expected a name of its own: ${name} is taken`;
        context.addIssue({ code: 'custom', path: [at, 'name'], message });
      });
    })
    .default([]),
  backupJobs: z
    .array(backupJob)
    .superRefine((jobs, context) => {
      jobs.forEach(({ name }, at) => {
        if (jobs.findIndex((other) => other.name === name) === at) return;
        const message = `expected a name of its own: ${name} is taken`;
        context.addIssue({ code: 'custom', path: [at, 'name'], message });
      });
    })
    .default([]),
  reports: z
    .looseObject({
      statusLog: text.optional(),
      ...secretKeys('pingUrl'),
      mail: z
        .looseObject({
          host: plainText,
          port: wholeNumber(1, 65_535).optional(),
          tls: z.enum(['starttls', 'tls', 'none']).default('starttls'),
          caFile: text.optional(),
          user: plainText.optional(),
          ...secretKeys('password'),
          from: plainText,
          to: z.union([plainText.transform((one) => [one]), z.array(plainText).min(1)]),
          when: z.enum(['always', 'failure']).default('always'),
          retries: wholeNumber(0, 10).default(3),
          timeoutSeconds: wholeNumber(1, 600).default(30),
        })
        .optional(),
    })
    .prefault({}),
  encryption: z
    .looseObject({
      ...secretKeys('systemPassphrase'),
      ...secretKeys('masterPassphrase'),
      formerPassphraseFiles: z.array(text).default([]),
    })
    .prefault({}),
  backup: z
    .looseObject({
      target: wholeNumber(1, 9999).optional(),
      codec: z.enum(['gzip', 'zstd', 'lzop']).default('gzip'),
      level: wholeNumber(1, 22).optional(),
      encrypt: z.boolean().default(false),
      fullAboveChangedPercent: z.number().min(0).max(100).default(50),
      fullOffline: z.enum(['refused', 'allowed']).default('refused'),
    })
    .prefault({}),
  index: z
    .looseObject({ maxAgeMinutes: z.number().min(0, 'expected minutes, 0 or more').default(15) })
    .prefault({}),
  jobs: z
    .looseObject({
      atOnce: wholeNumber(1, 4).default(1),
      keepDays: wholeNumber(1, 36_500).default(90),
      keepCount: wholeNumber(0, 1_000_000).default(1000),
      restoreQueue: z.boolean().default(true),
    })
    .prefault({}),
  replication: z
    .looseObject({
      enabled: z.boolean().default(false),
      everyMinutes: wholeNumber(1, 10_080).default(60),
      defaultVolume: text.optional(),
      assumeOff: z.boolean().default(false),
      inPlace: z.boolean().default(true),
    })
    .prefault({}),
  verifyPlan: z
    .looseObject({
      enabled: z.boolean().default(false),
      everyDays: wholeNumber(1, 3650).default(30),
      window: z
        .string()
        .regex(WINDOW, 'expected local times like 22:00-06:00')
        .refine((span) => span.slice(0, 5) !== span.slice(6), 'expected two different times')
        .optional(),
      bandwidthLimitBytesPerSecond: wholeNumber(1024, Number.MAX_SAFE_INTEGER).optional(),
    })
    .prefault({}),
  console: z
    .looseObject({
      look: z.enum(['thin', 'rich']).optional(),
      charset: z.enum(['ascii', 'utf8']).optional(),
      mono: z.boolean().optional(),
      mouse: z.boolean().optional(),
    })
    .prefault({}),
});

export type ConfigText = z.output<typeof configSchema>;
export type TargetText = ConfigText['targets'][number];
export type HostText = ConfigText['hosts'][number];
export type BackupJobText = ConfigText['backupJobs'][number];

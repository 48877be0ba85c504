/** Plain types of places and of the validated configuration (phd.yaml); every default is already filled in. */
import type { Codec } from './archive.ts';
import type { TargetSettings } from './target.ts';

/** Folders of the program (PHD_HOME, root, XDG). */
export interface Places {
  configDir: string;
  stateDir: string;
  logDir: string;
}

/** Where a secret comes from; exactly one of the three. Never the secret itself. */
export type SecretSource =
  | { kind: 'file'; path: string }
  | { kind: 'environment'; variable: string }
  | { kind: 'command'; command: string };

/** One target as phd.yaml names it; paths of local files are absolute, secrets are still sources. */
export interface TargetConfig extends TargetSettings {
  password: SecretSource | null;
  /** OpenSSH or PEM, mode 0600. */
  privateKeyFile: string | null;
  /** Null: the key has none. */
  privateKeyPassphrase: SecretSource | null;
}

export const HOST_TYPES = ['esx', 'xen', 'device'] as const;
export type HostType = (typeof HOST_TYPES)[number];

/** A machine whose VMs (or, type device, whose block devices) are backed up; secrets are still sources. */
export interface HostConfig {
  /** Unique; `HOST/VM` names a VM of it on the command line. */
  name: string;
  type: HostType;
  /** Name or address; null: this machine (type device only). */
  host: string | null;
  /** Null: 22 for esx and device, 443 for xen. */
  port: number | null;
  user: string | null;
  password: SecretSource | null;
  privateKeyFile: string | null;
  privateKeyPassphrase: SecretSource | null;
  knownHostsFile: string | null;
  /** xen: SHA-256 of the certificate, 64 hex digits; null: checked against the CAs. */
  tlsPin: string | null;
  /** xen: those of the other members of its pool. */
  memberTlsPins: string[];
  legacyAlgorithms: boolean;
  timeoutMs: number;
  /** type device: absolute paths of block devices on that machine. */
  devices: string[];
}

export interface BackupDefaults {
  /** Number of the target, null: the lowest that may be written. */
  target: number | null;
  codec: Codec;
  level: number | null;
  encrypt: boolean;
  /** More changed blocks than this make a FULL of the backup. */
  fullAboveChangedPercent: number;
  /** What to do if the FULL is gone from a completely listed target. */
  fullOffline: 'refused' | 'allowed';
}

export interface JobSettings {
  /** Jobs the daemon runs at once, 1 .. 4. */
  atOnce: number;
  /** Ended jobs and their logs are kept so many days, */
  keepDays: number;
  /** and so many of them; failed ones until someone has seen them. */
  keepCount: number;
  /** False: the daemon starts no restores; what is queued waits, and a person may start it. */
  restoreQueue: boolean;
}

export interface ReplicationSettings {
  /** The daemon runs a pass */
  enabled: boolean;
  /** so often. */
  everyMinutes: number;
  /** Absolute folder that loaded lines restore to; null: the first datastore. */
  defaultVolume: string | null;
  /** Disks are overwritten although it cannot be known that their VM is off. */
  assumeOff: boolean;
  /** Only differing blocks of a replica that is there are written; else the whole disk beside it. */
  inPlace: boolean;
}

/** Commands of this machine around backups; their status decides, their output goes into the log. */
export interface JobHooks {
  beforeRun: string | null;
  afterRun: string | null;
  beforeVm: string | null;
  afterVm: string | null;
  /** Of VMs of hosts: just before the snapshot, and as soon as it stands or has failed. */
  preFreeze: string | null;
  postThaw: string | null;
  timeoutMs: number;
}

/** Which VMs are backed up, when, where to, and what stays of it. Patterns and schedules are checked already. */
export interface BackupJobConfig {
  /** Of phd.yaml, where it begins; 1 is the first. */
  line: number;
  /** Unique. */
  name: string;
  /** The daemon starts it when it is due. */
  enabled: boolean;
  /** Names, globs and `/expressions/`, each with `:keep`. */
  vms: string[];
  exclude: string[];
  /** Names of hosts and absolute folders of datastores; null: all of both. */
  from: string[] | null;
  /** Globs over names of disks; null: all. */
  disks: string[] | null;
  excludeDisks: string[];
  /** Numbers of targets, each gets a backup; null: that of `backup.target`. */
  targets: number[] | null;
  /** When FULLs, when DELTAs are made; null: never by itself. */
  full: string | null;
  delta: string | null;
  codec: Codec | null;
  level: number | null;
  encrypt: boolean | null;
  fullAboveChangedPercent: number | null;
  bandwidthLimitBytesPerSecond: number | null;
  /** Asks guests of hosts to flush their file systems. */
  quiesce: boolean;
  hooks: JobHooks;
  /** VMs at once, 1 .. 4. */
  atOnce: number;
  /** Null: everything stays. */
  keep: { last: number; daily: number; weekly: number; monthly: number } | null;
  /** What need not stay goes before the backup, not after it. */
  preClean: boolean;
}

export interface MailSettings {
  host: string;
  port: number;
  /** `starttls` never falls back to clear text. */
  tls: 'starttls' | 'tls' | 'none';
  /** PEM of the authority, or of the server's own certificate; null: those that this machine trusts. */
  caFile: string | null;
  user: string | null;
  password: SecretSource | null;
  from: string;
  to: string[];
  when: 'always' | 'failure';
  /** Further tries after the first, with growing pauses. */
  retries: number;
  timeoutMs: number;
}

/** Who is told of runs of backup jobs. */
export interface ReportSettings {
  /** Absolute path; null: none. */
  statusLog: string | null;
  mail: MailSettings | null;
  /** Address that is asked at the begin and end of each run; it is a secret. */
  pingUrl: SecretSource | null;
}

/** Archives are verified again and again by the daemon, those verified longest ago first. */
export interface VerifyPlanSettings {
  enabled: boolean;
  /** Each archive at least so often. */
  everyDays: number;
  /** Minutes after local midnight, 0 to 1439; `from` after `to` goes over midnight. Null: at any time. */
  window: { fromMinute: number; toMinute: number } | null;
  /** Of each target, where its own is not smaller; null: no other than its own. */
  bandwidthLimitBytesPerSecond: number | null;
}

/** How the console appears; what is null follows from the terminal. */
export interface ConsoleSettings {
  look: 'thin' | 'rich' | null;
  charset: 'ascii' | 'utf8' | null;
  mono: boolean | null;
  mouse: boolean | null;
}

export interface Config {
  /** Path of phd.yaml, which may not exist (then every setting has its default). */
  file: string;
  targets: TargetConfig[];
  /** Absolute folders in which VMs and volumes lie. */
  datastores: string[];
  encryption: {
    system: SecretSource | null;
    master: SecretSource | null;
    former: SecretSource[];
  };
  backup: BackupDefaults;
  hosts: HostConfig[];
  backupJobs: BackupJobConfig[];
  reports: ReportSettings;
  /** A target is listed again when its index is older than this. */
  indexMaxAgeMinutes: number;
  jobs: JobSettings;
  replication: ReplicationSettings;
  verifyPlan: VerifyPlanSettings;
  console: ConsoleSettings;
}

/** What a transport needs to know of one target. Secrets are not here: they are asked for through hooks. */
import type { Transport } from './archive.ts';

export interface TargetSettings {
  number: number;
  name: string;
  transport: Transport;
  /** Root folder: an absolute local path (vmfs), else a path on the server; '' is the login folder. */
  path: string;
  /** Name or address of the server; null for vmfs. */
  host: string | null;
  /** null: 21 for ftp, 22 for ssh. */
  port: number | null;
  user: string | null;
  /** FTP only: `explicit` is AUTH TLS and never falls back to clear text. */
  tls: 'none' | 'explicit';
  /** SHA-256 of the one certificate accepted, 64 hex digits (colons allowed); null: checked against the CAs. */
  tlsPin: string | null;
  /** Absolute path, OpenSSH format; null: no host is known yet and accepted keys are not kept. */
  knownHostsFile: string | null;
  /** Also offers algorithms that are off by default because they are weak (old ESX hosts, old FTPS). */
  legacyAlgorithms: boolean;
  /** Of all lines of the target together; null: no limit. */
  bandwidthLimitBytesPerSecond: number | null;
  /** null: 4 for ftp, 2 for ssh. */
  maxConnections: number | null;
  readOnly: boolean;
  /** Silence after which a line counts as dead. */
  timeoutMs: number;
  readBack: 'tail' | 'all';
}

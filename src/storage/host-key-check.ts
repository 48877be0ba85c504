/** Decides about the key a host shows: known, asked for once, or refused with the reason. */
import { PhdError } from '../errors.ts';
import {
  appendKnownHost,
  fingerprintOf,
  judgeHostKey,
  type KnownKey,
  keysInText,
  keyTypeOf,
  readKnownHosts,
} from './known-hosts.ts';

export interface HostKeyQuestion {
  host: string;
  port: number;
  /** `ssh-ed25519`, ... */
  keyType: string;
  /** `SHA256:...` */
  fingerprint: string;
}

export class HostKeyCheck {
  readonly #host: string;
  readonly #port: number;
  readonly #file: string | null;
  readonly #ask: (question: HostKeyQuestion) => Promise<boolean>;
  /** Answers of this process by fingerprint, so that several lines ask once. */
  readonly #answers = new Map<string, Promise<boolean>>();

  constructor(
    host: string,
    port: number,
    file: string | null,
    ask: (question: HostKeyQuestion) => Promise<boolean>,
  ) {
    this.#host = host;
    this.#port = port;
    this.#file = file;
    this.#ask = ask;
  }

  async knownKeys(): Promise<KnownKey[]> {
    return keysInText(await readKnownHosts(this.#file), this.#host, this.#port);
  }

  /** Resolves if the key may be trusted. Throws HOST_KEY_REFUSED. */
  async check(key: Buffer): Promise<void> {
    const place = `${this.#host}:${this.#port}`;
    const fingerprint = fingerprintOf(key);
    const refuse = (why: string): never => {
      throw new PhdError('HOST_KEY_REFUSED', `${place}: ${why} (${keyTypeOf(key)} ${fingerprint})`);
    };
    const verdict = judgeHostKey(await this.knownKeys(), key);
    if (verdict === 'known') return;
    if (verdict === 'revoked') refuse('the host key is marked as revoked');
    if (verdict === 'changed') {
      refuse(`the host key has changed; if that is right, remove the old line from ${this.#file}`);
    }
    let answer = this.#answers.get(fingerprint);
    if (answer === undefined) {
      answer = this.#askAndKeep(key, fingerprint);
      this.#answers.set(fingerprint, answer);
    }
    if (!(await answer)) refuse('the host key is unknown and was not accepted');
  }

  async #askAndKeep(key: Buffer, fingerprint: string): Promise<boolean> {
    const question = { host: this.#host, port: this.#port, keyType: keyTypeOf(key), fingerprint };
    const isAccepted = await this.#ask(question);
    if (isAccepted && this.#file !== null) await appendKnownHost(this.#file, this.#host, this.#port, key);
    return isAccepted;
  }
}

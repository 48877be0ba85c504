/** Connects to an SSH server and logs in: host key, algorithms, who was refused and why. */
import ssh2, { type Algorithms, type Client, type ConnectConfig } from 'ssh2';
import { PhdError } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import { withAdvice } from './connect-advice.ts';
import type { HostKeyCheck } from './host-key-check.ts';

/** A server and how to reach it: a target, or a host. */
export type SshPlace = Pick<TargetSettings, 'host' | 'port' | 'user' | 'timeoutMs' | 'legacyAlgorithms'>;

export interface SshLogin {
  settings: SshPlace;
  password: string | null;
  privateKey: string | null;
  /** Of the private key; null if it has none. */
  passphrase: string | null;
  hostKeys: HostKeyCheck;
  log: (text: string) => void;
}

/** The server as messages name it. */
export function whatOf(settings: SshPlace): string {
  return `${settings.host}:${settings.port ?? 22}`;
}

/** A connection that is logged in, to a host whose key is trusted. Throws TARGET_*, HOST_KEY_REFUSED. */
export async function connect(login: SshLogin): Promise<Client> {
  const { settings, hostKeys } = login;
  const known = await hostKeys.knownKeys();
  const client = new ssh2.Client();
  let refusal: unknown;
  return new Promise<Client>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const arm = (): void => {
      timer = setTimeout(
        () => fail(new Error(`no answer within ${settings.timeoutMs} ms`)),
        settings.timeoutMs,
      );
    };
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      client.on('error', () => undefined);
      client.destroy();
      reject(refusal ?? translatedConnect(error, login, 'cannot connect'));
    };
    client.once('error', fail);
    client.once('close', () => fail(new Error('the connection was closed')));
    client.once('ready', () => {
      clearTimeout(timer);
      client.removeAllListeners('error').removeAllListeners('close');
      // Small requests would else wait for delayed acknowledgements, 40 ms each.
      client.setNoDelay(true);
      resolve(client);
    });
    const hostVerifier = (key: Buffer, verify: (isTrusted: boolean) => void): void => {
      // People may take their time to answer.
      clearTimeout(timer);
      hostKeys.check(key).then(
        () => {
          arm();
          verify(true);
        },
        (error: unknown) => {
          refusal = error;
          verify(false);
        },
      );
    };
    arm();
    try {
      client.connect({
        ...configOf(
          login,
          known.map((one) => one.type),
        ),
        hostVerifier,
      });
    } catch (error) {
      fail(error);
    }
  });
}

function configOf(login: SshLogin, knownTypes: readonly string[]): ConnectConfig {
  const { settings, password, privateKey, passphrase } = login;
  const intervalMs = Math.max(500, Math.min(15_000, Math.floor(settings.timeoutMs / 3)));
  return {
    host: settings.host ?? 'localhost',
    port: settings.port ?? 22,
    username: settings.user ?? 'root',
    ...(privateKey === null ? {} : { privateKey }),
    ...(passphrase === null ? {} : { passphrase }),
    ...(password === null ? {} : { password }),
    tryKeyboard: false,
    readyTimeout: 0,
    keepaliveInterval: intervalMs,
    keepaliveCountMax: 3,
    algorithms: algorithmsOf(settings, knownTypes),
  };
}

/** Types of key that are known for the host come first: else another type would look like a changed key. */
function algorithmsOf(settings: SshPlace, knownTypes: readonly string[]): Algorithms {
  const first = knownTypes.flatMap((type) =>
    type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type],
  );
  const legacy = settings.legacyAlgorithms;
  return {
    serverHostKey: {
      append: legacy ? ['ssh-dss'] : [],
      prepend: [...new Set(first)],
      remove: legacy ? [] : ['ssh-rsa'],
    },
    ...(legacy
      ? {
          kex: {
            append: ['diffie-hellman-group14-sha1', 'diffie-hellman-group1-sha1'],
            prepend: [],
            remove: [],
          },
          cipher: { append: ['aes256-cbc', 'aes128-cbc', '3des-cbc'], prepend: [], remove: [] },
          hmac: { append: ['hmac-sha1', 'hmac-md5'], prepend: [], remove: [] },
        }
      : {}),
  } as Algorithms;
}

/** Errors of connecting and logging in as PhdError; passwords never pass. */
export function translatedConnect(error: unknown, login: SshLogin, doing: string): PhdError {
  if (error instanceof PhdError) return error;
  const text = (error as Error).message;
  const message = login.password ? text.replaceAll(login.password, '***') : text;
  const level = (error as { level?: string }).level;
  const words = `${whatOf(login.settings)}: ${doing}: ${withAdvice(error as Error, message)}`;
  if (level === 'client-authentication') {
    const who = login.settings.user ?? 'root';
    return new PhdError(
      'TARGET_REFUSED',
      `${whatOf(login.settings)}: login of ${who} was refused: check user, key and password`,
    );
  }
  const isLocal = /parse|privateKey|passphrase/i.test(text) && level === undefined;
  if (isLocal) return new PhdError('TARGET_REFUSED', words);
  const isRefused = level === 'handshake' || /no matching|unable to start subsystem/i.test(text);
  return new PhdError(isRefused ? 'TARGET_REFUSED' : 'TARGET_UNREACHABLE', words);
}

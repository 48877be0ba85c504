/** Whether a private key opens, looked at before any line is opened, so that no server is blamed for a passphrase. */
import ssh2 from 'ssh2';
import { PhdError } from '../errors.ts';

/**
 * Throws PASSPHRASE_MISSING or PASSPHRASE_WRONG, which name the key as `what` says. Any other fault of the key is left
 * to the connection.
 */
export function checkPrivateKey(key: string, passphrase: string | null, what: string): void {
  const closed = ssh2.utils.parseKey(key);
  if (!(closed instanceof Error) || !/no passphrase given/.test(closed.message)) return;
  if (passphrase === null) {
    throw new PhdError(
      'PASSPHRASE_MISSING',
      `${what} has a passphrase: name its source as privateKeyPassphraseFile, ...Env or ...Command`,
    );
  }
  const opened = ssh2.utils.parseKey(key, passphrase);
  if (opened instanceof Error && !/^Unsupported/.test(opened.message)) {
    throw new PhdError('PASSPHRASE_WRONG', `${what} does not open with its passphrase`);
  }
}

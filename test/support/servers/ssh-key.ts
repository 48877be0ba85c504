/** Keys for SSH servers and their users. One in 256 that ssh2 makes has a number cut short, which no program reads: it is made anew. */
import ssh2 from 'ssh2';

/** An ed25519 key pair: OpenSSH private key, `ssh-ed25519 AAAA...`. */
export function generateSshKey(passphrase?: string): { private: string; public: string } {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync(
      'ed25519',
      passphrase === undefined ? {} : { passphrase, cipher: 'aes256-ctr', rounds: 16 },
    );
    if (!(ssh2.utils.parseKey(pair.private, passphrase) instanceof Error)) return pair;
  }
}

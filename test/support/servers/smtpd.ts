/** A real SMTP server (aiosmtpd of Debian, by the system's python3) on a loopback port: STARTTLS, login, and failures when asked for. */
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { requirePeer } from '../peers.ts';
import { makeTempHome } from '../temp-home.ts';
import { freePort } from './own-namespace.ts';

export const MAIL_USER = 'phd@example.com';
export const MAIL_PASSWORD = 'mail "word" 7';

export interface MailServer {
  port: number;
  /** PEM of its certificate, which is its own authority. */
  caFile: string;
  /** What it has taken, in order: envelope and the whole message. */
  letters(): { from: string; to: string[]; content: string }[];
  stop(): Promise<void>;
}

const SCRIPT = `
import json, os, ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
folder, port, user, password, failures, tls = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6]
left = [failures]
class Handler:
    count = 0
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith('nobody@'):
            return '550 no such user'
        if address.startswith('grey@') and left[0] > 0:
            left[0] -= 1
            return '450 greylisted, come again'
        envelope.rcpt_tos.append(address)
        return '250 taken'
    async def handle_DATA(self, server, session, envelope):
        if left[0] > 0:
            left[0] -= 1
            return '451 try again later'
        Handler.count += 1
        name = os.path.join(folder, 'letter-%03d.json' % Handler.count)
        letter = {'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'content': envelope.content.decode('utf-8', 'replace')}
        with open(name + '.part', 'w') as file: json.dump(letter, file)
        os.rename(name + '.part', name)
        return '250 taken'
def login(server, session, envelope, mechanism, data):
    good = data.login == user.encode() and data.password == password.encode()
    return AuthResult(success=good, handled=good)
options = {}
if tls == 'starttls':
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, 'cert.pem'), os.path.join(folder, 'key.pem'))
    options = {'tls_context': context, 'require_starttls': True}
else:
    options = {'auth_require_tls': False}
Controller(Handler(), hostname='127.0.0.1', port=port, authenticator=login, auth_required=True, **options).start()
print('ready', flush=True)
sys.stdin.read()
`;

/** `failures`: so many letters are put off first (451; to `grey@` at the envelope, 450). To `nobody@` none is taken. */
export async function startMailServer(
  options: { failures?: number; tls?: 'starttls' | 'none' } = {},
): Promise<MailServer> {
  const { root } = await requirePeer('aiosmtpd');
  const [openssl, python] = [await requirePeer('openssl'), await requirePeer('python3')];
  const home = makeTempHome();
  const caFile = path.join(home.root, 'cert.pem');
  execFileSync(
    openssl.path,
    // biome-ignore format: words of one command
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', path.join(home.root, 'key.pem'), '-out', caFile],
    { env: openssl.env, stdio: 'ignore' },
  );
  const script = path.join(home.root, 'smtpd.py');
  writeFileSync(script, SCRIPT);
  const port = await freePort();
  const { failures = 0, tls = 'starttls' } = options;
  const words = [script, home.root, String(port), MAIL_USER, MAIL_PASSWORD, String(failures), tls];
  const library = root === null ? [] : [path.join(root, 'usr/lib/python3/dist-packages')];
  const child = spawn(python.path, words, {
    env: {
      ...process.env,
      PYTHONPATH: library.join(':'),
      PYTHONDONTWRITEBYTECODE: '1',
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (part: Buffer) => {
    said += part.toString();
  });
  const over = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => reject(new Error(`the mail server ended: ${said}`)));
    child.stdout.once('data', () => resolve());
  });
  return {
    port,
    caFile,
    letters: () =>
      readdirSync(home.root)
        .filter((name) => /^letter-\d+\.json$/.test(name))
        .sort()
        .map((name) => JSON.parse(readFileSync(path.join(home.root, name), 'utf8'))),
    stop: async () => {
      child.stdin.end();
      await over;
      home.remove();
    },
  };
}

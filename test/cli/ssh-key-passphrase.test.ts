/** A private key under a passphrase, against a real OpenSSH server. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';
import { HOOK_TIMEOUT_MS, type Run, Tale } from '../tales/tale.ts';

const PASSPHRASE = 'opens the KEY to the vault';
const WRONG = 'opens NOTHING at all';

let tale: Tale;
let server: SshServer;

beforeAll(async () => {
  tale = new Tale();
  server = await startSshServer({ passphrase: PASSPHRASE });
  expect(server.privateKey).toContain('BEGIN OPENSSH PRIVATE KEY');
  tale.home.write('secrets/id', server.privateKey);
  tale.home.write('secrets/right', `${PASSPHRASE}\n`);
  tale.home.write('secrets/wrong', `${WRONG}\n`);
  tale.home.write('known_hosts', `[127.0.0.1]:${server.port} ${server.hostKey}\n`);
}, HOOK_TIMEOUT_MS);
afterAll(async () => {
  await server.stop();
  tale.remove();
});

function testTarget(setting: string, env: NodeJS.ProcessEnv = {}): Promise<Run> {
  tale.home.writeConfig(`targets:
  - number: 3
    name: vault
    transport: ssh
    host: 127.0.0.1
    port: ${server.port}
    user: ${server.user}
    privateKeyFile: secrets/id
    knownHostsFile: known_hosts
    path: ${server.folder}
    ${setting}
`);
  return tale.phd(['target', 'test', '3'], { env });
}

describe('the passphrase of a private key', () => {
  it.each([
    ['a file', 'privateKeyPassphraseFile: secrets/right', {}],
    ['the environment', 'privateKeyPassphraseEnv: KEY_WORD', { KEY_WORD: PASSPHRASE }],
    ['a command', 'privateKeyPassphraseCommand: cat "$PHD_HOME/secrets/right"', {}],
  ])('comes from %s', async (_name, setting, env) => {
    const run = await testTarget(setting, env);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect((await tale.phd(['config', 'check'], { env })).status).toBe(0);
  });

  it.each([
    ['missing', '', 'has a passphrase: name its source as privateKeyPassphraseFile, ...Env or ...Command'],
    ['wrong', 'privateKeyPassphraseFile: secrets/wrong', 'does not open with its passphrase'],
  ])(
    'that is %s ends with status 7 and names key and target, never the passphrase',
    async (_name, setting, words) => {
      const run = await testTarget(setting);
      expect(run.status).toBe(7);
      expect(run.stderr).toBe(
        `phd: private key ${tale.path('secrets', 'id')} of target 3 (vault) ${words}\n`,
      );
      for (const text of [run.stdout, run.stderr, ...tale.ownTexts()]) expect(text).not.toContain(WRONG);
    },
  );

  it('whose file is open to others is refused by config check', async () => {
    tale.home.write('secrets/open', PASSPHRASE, 0o644);
    await testTarget('privateKeyPassphraseFile: secrets/open');
    const run = await tale.phd(['config', 'check']);
    expect(run.status).toBe(2);
    expect(run.stderr).toContain('passphrase of the private key of target 3 (vault)');
  });

  it('is set with phd target edit', async () => {
    await testTarget('');
    const edit = ['target', 'edit', '3', '--private-key-passphrase-file', 'secrets/right'];
    expect((await tale.phd(edit)).status).toBe(0);
    expect((await tale.phd(['target', 'test', '3'])).status).toBe(0);
  });
});

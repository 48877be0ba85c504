/** What has to be known of a target, asked one after the other, and its test. */
import { AUTHENTICATION_MENU, TRANSPORT_MENU } from '../../menus/tree.ts';
import type { SettingsChange } from '../../src/engine/configuration.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import { askSteps, lineAsker, SECRET_WORDS, type Step, textFault, wholeFault } from './steps.ts';

/** Answers as they are typed; settings of phd.yaml once all are given. */
export interface TargetAnswers {
  number: number;
  name: string;
  transport: 'vmfs' | 'ftp' | 'ssh';
  host: string;
  port: string;
  user: string;
  authentication: 'password' | 'key';
  /** Empty: as it was, or none. */
  password: string;
  privateKeyFile: string;
  /** Of the private key; empty: as it was, or none. */
  keyPassphrase: string;
  path: string;
  hasTls: boolean;
}

export const NEW_TARGET: TargetAnswers = {
  number: 1,
  name: '',
  transport: 'vmfs',
  host: '',
  port: '',
  user: '',
  authentication: 'password',
  password: '',
  privateKeyFile: '',
  keyPassphrase: '',
  path: '',
  hasTls: false,
};

const NAMES = { vmfs: 'local', ftp: 'ftp', ssh: 'ssh' };

/** Fills in the answers; false if the person went back. `taken` are numbers of other targets. */
export function askTarget(desk: Desk, answers: TargetAnswers, taken: ReadonlySet<number>): Promise<boolean> {
  const title = 'Target';
  const line = lineAsker(desk, title);
  const isRemote = ({ transport }: TargetAnswers): boolean => transport !== 'vmfs';
  const steps: Step<TargetAnswers>[] = [
    {
      ask: async (one) => {
        const chosen = await desk.dialogue.menu(TRANSPORT_MENU, { at: one.transport });
        if (chosen === undefined || chosen === 'quit') return false;
        one.transport = chosen as TargetAnswers['transport'];
        return true;
      },
    },
    {
      ask: (one) =>
        line(
          {
            question: 'Its number, 1 to 9999 (filters and archives name it so)',
            preset: String(one.number),
            fault: (text) => numberFault(text, taken),
          },
          (text) => {
            one.number = Number(text);
          },
        ),
    },
    {
      ask: (one) =>
        line(
          { question: 'Its name, for people', preset: one.name || NAMES[one.transport], fault: textFault },
          (text) => {
            one.name = text;
          },
        ),
    },
    {
      isWanted: isRemote,
      ask: (one) =>
        line({ question: 'Host name or address', preset: one.host, fault: textFault }, (text) => {
          one.host = text;
        }),
    },
    {
      isWanted: isRemote,
      ask: (one) =>
        line(
          {
            question: 'Port',
            preset: one.port || (one.transport === 'ftp' ? '21' : '22'),
            fault: (text) => wholeFault(text, 65_535),
          },
          (text) => {
            one.port = text;
          },
        ),
    },
    {
      isWanted: isRemote,
      ask: (one) =>
        line({ question: 'User on that host', preset: one.user, fault: textFault }, (text) => {
          one.user = text;
        }),
    },
    {
      isWanted: ({ transport }) => transport === 'ssh',
      ask: async (one) => {
        const chosen = await desk.dialogue.menu(AUTHENTICATION_MENU, { at: one.authentication });
        if (chosen === undefined || chosen === 'quit') return false;
        one.authentication = chosen as TargetAnswers['authentication'];
        return true;
      },
    },
    {
      isWanted: (one) => isRemote(one) && !usesKey(one),
      ask: (one) =>
        line(
          {
            question: `Password of ${one.user}`,
            lines: [SECRET_WORDS],
            isSecret: true,
          },
          (text) => {
            one.password = text;
          },
        ),
    },
    {
      isWanted: usesKey,
      ask: (one) =>
        line(
          {
            question: 'File of the private key',
            preset: one.privateKeyFile,
            fault: textFault,
          },
          (text) => {
            one.privateKeyFile = text;
          },
        ),
    },
    {
      isWanted: usesKey,
      ask: (one) =>
        line({ question: 'Passphrase of the private key', lines: [SECRET_WORDS], isSecret: true }, (text) => {
          one.keyPassphrase = text;
        }),
    },
    {
      isWanted: ({ transport }) => transport === 'ftp',
      ask: async (one) => {
        one.hasTls = await desk.dialogue.confirm({
          title,
          lines: ['Without TLS everyone on the way can read the password.'],
          question: 'Does the server know explicit TLS?',
          preset: one.hasTls,
        });
        return true;
      },
    },
    {
      ask: (one) =>
        line(
          {
            question: isRemote(one) ? 'Folder of the archives on that host' : 'Folder of the archives',
            preset: one.path,
            fault: (text) => (isRemote(one) ? undefined : absoluteFault(text)),
          },
          (text) => {
            one.path = text;
          },
        ),
    },
  ];
  return askSteps(answers, steps);
}

/** Settings for phd.yaml; the password goes into a file of its own first. Throws IO. */
export async function settingsOf(
  desk: Desk,
  answers: TargetAnswers,
): Promise<SettingsChange & { number: number }> {
  const { number, name, transport, path } = answers;
  if (transport === 'vmfs') return { number, name, transport, path };
  const { places } = await desk.queue();
  const { keepSecret } = await import('../../src/engine/configuration.ts');
  const { host, port, user, password, privateKeyFile, keyPassphrase, hasTls } = answers;
  const secret: SettingsChange = usesKey(answers) ? { privateKeyFile } : {};
  if (usesKey(answers) && keyPassphrase !== '') {
    secret.privateKeyPassphraseFile = await keepSecret(places, `target${number}-key`, keyPassphrase);
  }
  if (!usesKey(answers) && password !== '') {
    secret.passwordFile = await keepSecret(places, `target${number}`, password);
  }
  const tls: SettingsChange = transport === 'ftp' ? { tls: hasTls ? 'explicit' : 'none' } : {};
  return { number, name, transport, host, port: Number(port), user, ...secret, path, ...tls };
}

/** Tries all that a target must be able to do and shows what came of it; true if all went well. */
export async function showTargetTest(desk: Desk, number: number): Promise<boolean> {
  const lines: Line[] = [];
  let isGood = false;
  try {
    const result = await desk.dialogue.busy(`Test of target ${number}`, async (signal, say) => {
      const { testTarget } = await import('../../src/engine/target-checks.ts');
      const context = await desk.context();
      return await testTarget(context, number, { signal, onStep: ({ name }) => say(name) });
    });
    if (result === undefined) return false;
    for (const { ok, name, detail } of result.steps) {
      const text = `${ok ? 'ok    ' : 'FAILED'} ${name}: ${detail}`;
      lines.push(ok ? text : { text, mark: 'bad' });
    }
    for (const warning of result.warnings) lines.push({ text: warning, mark: 'warning' });
    isGood = result.steps.every(({ ok }) => ok);
  } catch (error) {
    lines.push({ text: (error as Error).message, mark: 'bad' });
  }
  await desk.dialogue.tell(isGood ? `Target ${number} works` : `Target ${number} does not work yet`, lines);
  return isGood;
}

function usesKey({ transport, authentication }: TargetAnswers): boolean {
  return transport === 'ssh' && authentication === 'key';
}

function numberFault(text: string, taken: ReadonlySet<number>): string | undefined {
  return wholeFault(text, 9_999) ?? (taken.has(Number(text)) ? `number ${text} is taken` : undefined);
}

function absoluteFault(text: string): string | undefined {
  return text.trim().startsWith('/') ? undefined : 'expected a path from the root: /backups';
}

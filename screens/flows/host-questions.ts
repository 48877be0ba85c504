/** What has to be known of a host, asked one after the other. */
import { HOST_TYPE_MENU } from '../../menus/configuration-menus.ts';
import { AUTHENTICATION_MENU } from '../../menus/tree.ts';
import type { SettingsChange } from '../../src/engine/configuration.ts';
import type { HostConfig, HostType } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';
import {
  type AskLine,
  askSteps,
  lineAsker,
  SECRET_WORDS,
  type Step,
  textFault,
  wholeFault,
} from './steps.ts';

/** Answers as they are typed. */
export interface HostAnswers {
  name: string;
  type: HostType;
  /** Of a machine with disks, empty: this one. */
  host: string;
  port: string;
  user: string;
  authentication: 'password' | 'key';
  /** Empty: as it was, or none. */
  password: string;
  privateKeyFile: string;
  /** Of the private key; empty: as it was, or none. */
  keyPassphrase: string;
  /** SHA-256 of the certificates of a pool, separated by blanks; the first is that of `host`. */
  tlsPins: string;
  /** Separated by blanks. */
  devices: string;
}

export const NEW_HOST: HostAnswers = {
  name: '',
  type: 'esx',
  host: '',
  port: '',
  user: 'root',
  authentication: 'password',
  password: '',
  privateKeyFile: '',
  keyPassphrase: '',
  tlsPins: '',
  devices: '',
};

/** The answers that a host was set up with. */
export function answersOf(host: HostConfig): HostAnswers {
  return {
    ...NEW_HOST,
    name: host.name,
    type: host.type,
    host: host.host ?? '',
    port: host.port === null ? '' : String(host.port),
    user: host.user ?? NEW_HOST.user,
    authentication: host.privateKeyFile === null ? 'password' : 'key',
    privateKeyFile: host.privateKeyFile ?? '',
    tlsPins: [host.tlsPin ?? '', ...host.memberTlsPins].join(' ').trim(),
    devices: host.devices.join(' '),
  };
}

const usesKey = ({ type, authentication }: HostAnswers): boolean =>
  type !== 'xen' && authentication === 'key';
const isRemote = ({ host }: HostAnswers): boolean => host !== '';
const defaultPort = ({ type }: HostAnswers): string => (type === 'xen' ? '443' : '22');

/** Fills in the answers; false if the person went back. `taken` are names of other hosts. */
export function askHost(desk: Desk, answers: HostAnswers, taken: ReadonlySet<string>): Promise<boolean> {
  const line = lineAsker(desk, 'Host');
  const steps: Step<HostAnswers>[] = [
    {
      ask: async (one) => {
        const chosen = await desk.dialogue.menu(HOST_TYPE_MENU, { at: one.type });
        if (chosen === undefined || chosen === 'quit') return false;
        one.type = chosen as HostType;
        return true;
      },
    },
    {
      ask: (one) =>
        line(
          {
            question: 'Its name: backups name its VMs NAME/VM',
            preset: one.name,
            fault: (text) => nameFault(text.trim(), taken),
          },
          (text) => {
            one.name = text;
          },
        ),
    },
    {
      ask: (one) =>
        line(
          one.type === 'device'
            ? { question: 'Host name or address; empty: this machine', preset: one.host }
            : { question: 'Host name or address', preset: one.host, fault: textFault },
          (text) => {
            one.host = text;
          },
        ),
    },
    ...accessSteps(desk, line),
    {
      isWanted: ({ type }) => type === 'xen',
      ask: (one) =>
        line(
          {
            question: 'SHA-256 of its certificate',
            lines: [
              'Of a pool those of all members, separated by blanks, that of this host first.',
              'Empty: checked against the authorities this machine trusts.',
            ],
            preset: one.tlsPins,
            fault: pinsFault,
          },
          (text) => {
            one.tlsPins = text;
          },
        ),
    },
    {
      isWanted: ({ type }) => type === 'device',
      ask: (one) =>
        line(
          {
            question: 'Its block devices, separated by blanks',
            preset: one.devices || '/dev/sda',
            fault: devicesFault,
          },
          (text) => {
            one.devices = text;
          },
        ),
    },
  ];
  return askSteps(answers, steps);
}

function accessSteps(desk: Desk, line: AskLine): Step<HostAnswers>[] {
  return [
    {
      isWanted: isRemote,
      ask: (one) =>
        line(
          {
            question: 'Port',
            preset: one.port || defaultPort(one),
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
      isWanted: (one) => isRemote(one) && one.type !== 'xen',
      ask: async (one) => {
        const chosen = await desk.dialogue.menu(AUTHENTICATION_MENU, { at: one.authentication });
        if (chosen === undefined || chosen === 'quit') return false;
        one.authentication = chosen as HostAnswers['authentication'];
        return true;
      },
    },
    {
      isWanted: (one) => isRemote(one) && !usesKey(one),
      ask: (one) =>
        line({ question: `Password of ${one.user}`, lines: [SECRET_WORDS], isSecret: true }, (text) => {
          one.password = text;
        }),
    },
    {
      isWanted: (one) => isRemote(one) && usesKey(one),
      ask: (one) =>
        line(
          { question: 'File of the private key', preset: one.privateKeyFile, fault: textFault },
          (text) => {
            one.privateKeyFile = text;
          },
        ),
    },
    {
      isWanted: (one) => isRemote(one) && usesKey(one),
      ask: (one) =>
        line({ question: 'Passphrase of the private key', lines: [SECRET_WORDS], isSecret: true }, (text) => {
          one.keyPassphrase = text;
        }),
    },
  ];
}

/** Settings for phd.yaml; secrets go into files of their own first. Throws IO. */
export async function hostSettingsOf(
  desk: Desk,
  answers: HostAnswers,
): Promise<SettingsChange & { name: string }> {
  const { name, type, host, port, user, password, privateKeyFile, keyPassphrase, devices } = answers;
  const disks: SettingsChange = type === 'device' ? { devices: devices.split(/\s+/).filter(Boolean) } : {};
  if (host === '') return { name, type, host: null, user: null, ...disks };
  const { places } = await desk.queue();
  const { keepSecret } = await import('../../src/engine/configuration.ts');
  const secret: SettingsChange = usesKey(answers) ? { privateKeyFile } : {};
  if (usesKey(answers) && keyPassphrase !== '')
    secret.privateKeyPassphraseFile = await keepSecret(places, `host-${name}-key`, keyPassphrase);
  if (!usesKey(answers) && password !== '')
    secret.passwordFile = await keepSecret(places, `host-${name}`, password);
  const pin = type === 'xen' ? pinSettings(answers) : {};
  return { name, type, host, port: Number(port), user, ...secret, ...pin, ...disks };
}

function pinSettings({ tlsPins }: HostAnswers): SettingsChange {
  const [tlsPin = null, ...members] = tlsPins.split(/\s+/).filter(Boolean);
  return { tlsPin, memberTlsPins: members.length === 0 ? null : members };
}

function pinsFault(text: string): string | undefined {
  const pins = text.split(/\s+/).filter(Boolean);
  const isGood = pins.every((pin) => /^[0-9a-f]{64}$/i.test(pin.replaceAll(':', '')));
  return isGood ? undefined : 'expected 64 hex digits each';
}

function nameFault(name: string, taken: ReadonlySet<string>): string | undefined {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) return 'expected letters, digits, dots and dashes';
  return taken.has(name) ? `${name} is taken` : undefined;
}

function devicesFault(text: string): string | undefined {
  const paths = text.split(/\s+/).filter(Boolean);
  return paths.length > 0 && paths.every((one) => one.startsWith('/'))
    ? undefined
    : 'expected paths from the root: /dev/sda /dev/sdb';
}

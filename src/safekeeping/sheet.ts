/** The sheet for the drawer: one page that finds the backups again, and restores them by hand, when this machine is gone. */
import { stat } from 'node:fs/promises';
import { localDate, localStamp } from '../clock.ts';
import { describeSource } from '../config/secrets.ts';
import { type EngineContext, placeOf } from '../engine/context.ts';
import { escapeText, formatBytes, textWidth } from '../engine/display-text.ts';
import { PROGRAM } from '../engine/version.ts';
import type { SecretSource, TargetConfig } from '../model/config.ts';
import { fingerprintOf, keysInText, readKnownHosts } from '../storage/known-hosts.ts';
import { newestBackups, type VmBackup } from './newest-backups.ts';

const COLUMNS = 80;

/** Lines of at most 80 columns, safe for a terminal; never a secret. Targets are not asked: the index is. Throws IO. */
export async function printSheet(context: EngineContext): Promise<string[]> {
  const { config, clock, hostName } = context;
  const now = clock.now();
  const backups = newestBackups(context);
  const targets: string[] = [];
  for (const target of config.targets) targets.push(...(await targetLines(target)));
  const lines = [
    `PHD SHEET of ${hostName}, ${localStamp(now).replace('T', ' ')}, ${PROGRAM}`,
    'Keep it where you find it when this machine is gone. It holds no passphrase.',
    '',
    'TARGETS',
    ...(targets.length === 0 ? ['  none'] : targets),
    '',
    'PASSPHRASES (write the words elsewhere)',
    ...(await passphraseLines(context, backups)),
    '',
    'VMS, by their newest backup that was proved whole',
    ...vmLines(backups),
    '',
    ...BY_HAND,
  ];
  return lines.flatMap(folded);
}

async function targetLines(target: TargetConfig): Promise<string[]> {
  const { number, name, transport, host, port, user, path, tls, tlsPin, readOnly } = target;
  const lines = [`  ${number} ${name}: ${transport} ${placeOf(target)}${readOnly ? ', read only' : ''}`];
  const folder = path.replace(/\/+$/, '');
  if (transport === 'ssh') {
    lines.push(`      scp -r ${port === null ? '' : `-P ${port} `}${user}@${host}:${folder}/FOLDER .`);
    for (const key of await hostKeys(target)) lines.push(`      key ${key}`);
  }
  if (transport === 'ftp') {
    lines.push(
      `      curl -u ${user} -O ${tls === 'explicit' ? '--ssl-reqd ' : ''}ftp://${host}:${port ?? 21}${folder}/FOLDER/FILE`,
    );
    if (tlsPin !== null) lines.push(`      certificate SHA-256 ${tlsPin}`);
  }
  return lines;
}

async function hostKeys({ host, port, knownHostsFile }: TargetConfig): Promise<string[]> {
  const known = keysInText(await readKnownHosts(knownHostsFile), host ?? '', port ?? 22);
  return known.filter(({ isRevoked }) => !isRevoked).map(({ type, key }) => `${type} ${fingerprintOf(key)}`);
}

async function passphraseLines({ config }: EngineContext, backups: readonly VmBackup[]): Promise<string[]> {
  const { system, master, former } = config.encryption;
  const lines: string[] = [];
  if (system !== null) lines.push(`  system   ${await sinceText(system)}`);
  if (master !== null) lines.push(`  master   ${await sinceText(master)}`);
  for (const [at, source] of former.entries())
    lines.push(`  former ${at + 1} for older archives; ${await sinceText(source)}`);
  const isAnyEncrypted = backups.some(({ newest, proved }) => newest.isEncrypted || proved?.isEncrypted);
  if (lines.length === 0)
    return [
      isAnyEncrypted
        ? '  NONE IS CONFIGURED HERE, and there are encrypted archives: see below'
        : '  none is configured: archives are readable by anyone who has them',
    ];
  if (!config.backup.encrypt) lines.push('  backups are not encrypted unless asked for (backup.encrypt)');
  return lines;
}

async function sinceText(source: SecretSource): Promise<string> {
  const place = describeSource(source);
  if (source.kind !== 'file') return place;
  const changed = await stat(source.path).then(
    ({ mtime }) => `since ${localDate(mtime)}`,
    () => 'CANNOT BE READ',
  );
  return `${changed}, ${place}`;
}

function vmLines(backups: readonly VmBackup[]): string[] {
  if (backups.length === 0) return ['  the index holds no backup'];
  return backups.flatMap(({ vm, proved, newest }) => {
    const shown = proved ?? newest;
    const state = proved === null ? 'NOT PROVED' : `proved ${proved.verifiedAt?.slice(0, 10)}`;
    const lines = [
      `  ${vm}: ${shown.stamp.replace('T', ' ')}, ${state}, ${shown.disks} ${shown.disks === 1 ? 'disk' : 'disks'}, ${formatBytes(shown.storedBytes)} stored${shown.isEncrypted ? ', encrypted' : ''}`,
      `      target ${shown.targetNumber}, ${shown.folder}`,
    ];
    if (proved !== null && newest.stamp !== proved.stamp)
      lines.push(
        `      newer, not proved: ${newest.stamp.replace('T', ' ')} on target ${newest.targetNumber}`,
      );
    return lines;
  });
}

const BY_HAND = [
  'BY HAND, WITHOUT PHD (any Linux or ESX shell)',
  '  A disk is a FULL (NAME.vmdk.gz-YYMMDD-HHMM.phd) and DELTAs; each ends in the',
  '  time of its FULL. Fetch both folders, side by side, then:',
  '    USE_RPATH=/srv/vms/NAME sh DELTA autorun restore',
  '  It proves the disk and says so. Without words it shows a menu and asks for',
  '  passphrases. A FULL alone (zst: zstd -dc, lzo: lzop -dc):',
  '    gzip -dc FULL > NAME-flat.vmdk',
  '    gpg -d FULL | gzip -dc > NAME-flat.vmdk                system passphrase',
  '    tail -c +49 FULL | gpg -d | gzip -dc > NAME-flat.vmdk  master passphrase',
  'WITH PHD, on a new host',
  '    phd target add ...; phd config adopt --target N; phd index; phd',
];

/** Breaks a line that is too long; what goes on is indented. */
function folded(line: string): string[] {
  let rest = escapeText(line);
  const lines: string[] = [];
  while (textWidth(rest) > COLUMNS) {
    let end = 0;
    let columns = 0;
    for (const character of rest) {
      columns += textWidth(character);
      if (columns > COLUMNS) break;
      end += character.length;
    }
    const blank = rest.lastIndexOf(' ', end);
    const at = blank > COLUMNS / 2 ? blank : end;
    lines.push(rest.slice(0, at));
    rest = `        ${rest.slice(at).trimStart()}`;
  }
  return [...lines, rest];
}

/** Backup of one VM: which, how, where to; then as a job of its own, watched or in the background. */
import type { BackupPreview, VmFolder } from '../../src/engine/backup-preview.ts';
import { formatBytes, formatCount } from '../../src/engine/display-text.ts';
import { fromErrno, PhdError } from '../../src/errors.ts';
import type { Requests } from '../../src/queue/request.ts';
import type { Desk } from '../desk.ts';
import type { ListAction } from '../dialogue.ts';
import type { Mark } from '../frame.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

type Mode = 'auto' | 'full' | 'delta';
type Codec = 'gzip' | 'zstd' | 'lzop';

interface Target {
  number: number;
  name: string;
}

interface Draft {
  preview: BackupPreview;
  targets: readonly Target[];
  target: Target;
  mode: Mode;
  codec: Codec;
  isEncrypted: boolean;
  hasPassphrase: boolean;
}

const MODES: readonly Mode[] = ['auto', 'full', 'delta'];
const MODE_WORDS: Record<Mode, string> = {
  auto: 'automatic: a DELTA where there is a FULL, else a FULL',
  full: 'FULL of all disks',
  delta: 'DELTA only; a disk without FULL fails',
};
const CODECS: readonly Codec[] = ['gzip', 'zstd', 'lzop'];

const OPTIONS: readonly ListAction[] = [
  { key: 't', id: 'target', footer: 'target', help: 'where the backup goes' },
  { key: 'm', id: 'mode', footer: 'mode', help: 'automatic, FULL or DELTA' },
  { key: 'c', id: 'codec', footer: 'codec', help: 'gzip, zstd or lzop' },
  { key: 'e', id: 'encrypt', footer: 'encrypt', help: 'encrypt the archives: on or off' },
];

export async function backup(desk: Desk): Promise<void> {
  for (;;) {
    const folder = await pickVm(desk);
    if (folder === undefined) return;
    const draft = await tellFailure(desk, 'This cannot be backed up', () => draftOf(desk, folder));
    if (draft === undefined) continue;
    const isOver = await confirmBackup(desk, draft);
    if (isOver) return;
  }
}

/** VMs on all volumes; any other folder may be walked to. */
async function pickVm(desk: Desk): Promise<string | undefined> {
  const { config } = await desk.context();
  const found = await desk.dialogue.busy('Looking for VMs', async (signal, say) => {
    say('looking at the datastores');
    const { findVmFolders } = await import('../../src/engine/backup-preview.ts');
    return await findVmFolders(config.datastores, signal);
  });
  if (found === undefined) return undefined;
  const [fault] = found.faults;
  if (fault !== undefined) desk.dialogue.notice(fault, 'warning');
  for (;;) {
    const answer = await desk.dialogue.list<VmFolder>({
      title: 'Back up which VM',
      source: rowSource(
        found.folders,
        ({ path }) => path,
        ({ path }) => path,
      ),
      idOf: ({ path }) => path,
      columns: [
        { title: 'VM folder', columns: 0, text: ({ name }) => name },
        { title: 'Volume', columns: 28, text: ({ volume }) => volume },
      ],
      actions: [{ key: 'o', id: 'other', footer: 'other folder', help: 'a folder anywhere else' }],
      empty:
        config.datastores.length === 0
          ? 'No datastore is set up: O takes any folder.'
          : 'No VM on the datastores: O takes any folder.',
    });
    if (answer === undefined || answer.kind === 'quit') return undefined;
    if (answer.kind === 'row') return answer.row.path;
    const other = await pickOther(desk, config.datastores);
    if (other === 'quit') return undefined;
    if (other !== undefined) return other;
  }
}

async function pickOther(desk: Desk, datastores: readonly string[]): Promise<string | 'quit' | undefined> {
  const { listVolumes } = await import('../../src/engine/volumes.ts');
  const { pickFolder, pickVolume } = await import('./restore/place.ts');
  const volume = await pickVolume(desk, await listVolumes(datastores));
  if (volume === undefined || volume === 'quit') return volume;
  return await pickFolder(desk, volume, { proposed: '', verb: 'Back up' });
}

async function draftOf(desk: Desk, folder: string): Promise<Draft | undefined> {
  const context = await desk.context();
  const { backup: defaults, encryption, targets: all } = context.config;
  const targets = all.filter(({ readOnly }) => !readOnly).sort((a, b) => a.number - b.number);
  const target = targets.find(({ number }) => number === defaults.target) ?? targets[0];
  if (target === undefined) throw new PhdError('CONFIG_INVALID', 'every target is read only: change one');
  const preview = await desk.dialogue.busy('Looking at the VM', async (_signal, say) => {
    say(folder);
    const { previewBackup } = await import('../../src/engine/backup-preview.ts');
    return await previewBackup(context, folder);
  });
  if (preview === undefined) return undefined;
  if (preview.disks.length === 0) {
    const [first] = preview.refused;
    throw new PhdError('SOURCE_UNSUPPORTED', first?.reason ?? `${folder} holds no disk`);
  }
  return {
    preview,
    targets,
    target,
    mode: 'auto',
    codec: defaults.codec,
    isEncrypted: defaults.encrypt,
    hasPassphrase: encryption.system !== null,
  };
}

interface Fact {
  label: string;
  text: string;
  mark: Mark;
}

/** True when a job was made or the person leaves for the menu before; false goes back to the list. */
async function confirmBackup(desk: Desk, draft: Draft): Promise<boolean> {
  for (;;) {
    const facts = factsOf(draft);
    const answer = await desk.dialogue.list<Fact>({
      title: 'Backup: is all of this right?',
      source: rowSource(facts, (fact) => String(facts.indexOf(fact))),
      idOf: (fact) => String(facts.indexOf(fact)),
      columns: [
        { title: '', columns: 9, text: ({ label }) => label },
        { title: '', columns: 0, text: ({ text }) => text },
      ],
      markOf: ({ mark }) => mark,
      heads: [
        { key: 'r', id: 'now', label: 'Back up now, and watch it' },
        { key: 's', id: 'background', label: 'Submit to the background' },
      ],
      actions: OPTIONS,
      empty: '',
    });
    if (answer === undefined) return false;
    if (answer.kind === 'quit') return true;
    if (answer.kind !== 'action') continue;
    if (answer.id === 'target') draft.target = (await pickTarget(desk, draft)) ?? draft.target;
    else if (answer.id === 'mode') draft.mode = after(MODES, draft.mode);
    else if (answer.id === 'codec') draft.codec = after(CODECS, draft.codec);
    else if (answer.id === 'encrypt') turnEncryption(desk, draft);
    else {
      const isQueued = await tellFailure(desk, 'Not queued', () => start(desk, draft, answer.id === 'now'));
      if (isQueued) return true;
    }
  }
}

function after<T>(values: readonly T[], value: T): T {
  return values[(values.indexOf(value) + 1) % values.length] as T;
}

function turnEncryption(desk: Desk, draft: Draft): void {
  if (!draft.isEncrypted && !draft.hasPassphrase) {
    desk.dialogue.notice('There is no passphrase yet: C Configuration, Encryption sets one.', 'warning');
  } else draft.isEncrypted = !draft.isEncrypted;
}

async function pickTarget(desk: Desk, { targets, target }: Draft): Promise<Target | undefined> {
  const answer = await desk.dialogue.list<Target>({
    title: 'Back up to which target',
    source: rowSource(targets, ({ number }) => String(number)),
    idOf: ({ number }) => String(number),
    at: String(target.number),
    columns: [
      { title: 'Target', columns: 6, align: 'right', text: ({ number }) => String(number) },
      { title: 'Name', columns: 0, text: ({ name }) => name },
    ],
    empty: 'no target',
  });
  return answer?.kind === 'row' ? answer.row : undefined;
}

function factsOf({ preview, target, mode, codec, isEncrypted }: Draft): Fact[] {
  const fact = (label: string, text: string, mark: Mark = 'plain'): Fact => ({ label, text, mark });
  return [
    fact('VM', preview.displayName),
    fact('Folder', preview.folder),
    ...preview.disks.map(({ name, scsiId, sizeBytes }) =>
      fact(`Disk ${scsiId}`, `${name}, ${formatBytes(sizeBytes)}`),
    ),
    ...preview.refused.map(({ reason }) => fact('Left out', reason, 'bad')),
    ...preview.notices.map((text) => fact('Note', text, 'warning')),
    fact('Target', `${target.number} ${target.name}`),
    fact('Mode', MODE_WORDS[mode]),
    fact('Codec', codec === 'lzop' ? 'lzop: quick, proved by its DELTA only' : codec),
    fact('Encrypt', isEncrypted ? 'yes' : 'no'),
  ];
}

/** True once the job is queued. */
async function start(desk: Desk, draft: Draft, isWatched: boolean): Promise<boolean> {
  const queue = await desk.queue();
  const [{ submitterOf }, { startNow }] = await Promise.all([
    import('../../src/queue/submitter.ts'),
    import('../../src/queue/start-now.ts'),
  ]);
  const request: Requests['backup'] = {
    folder: draft.preview.folder,
    target: draft.target.number,
    mode: draft.mode,
    codec: draft.codec,
    encrypt: draft.isEncrypted,
  };
  const ids = queue.submit('backup', [request], submitterOf(desk.env)).map(({ id }) => id);
  void desk.refreshState();
  if (!isWatched) {
    await tellQueued(desk, ids);
    return true;
  }
  try {
    await startNow(queue, ids, desk.env);
  } catch (error) {
    await desk.dialogue.tell('It waits', [fromErrno(error, 'cannot start it now').message]);
    return true;
  }
  const { followJobs } = await import('./job-progress.ts');
  await followJobs(desk, ids);
  return true;
}

async function tellQueued(desk: Desk, ids: readonly number[]): Promise<void> {
  const queue = await desk.queue();
  const lines = [`Queued as ${formatCount(ids.length, 'job')}: ${ids.join(', ')}.`];
  if (!queue.isDaemonRunning()) {
    const isWanted = await desk.dialogue.confirm({
      title: 'No daemon runs',
      lines: [...lines, 'Queued jobs wait for the daemon.'],
      question: 'Start the daemon now?',
    });
    if (isWanted) {
      const { startDaemon } = await import('../../src/queue/daemon-control.ts');
      await desk.dialogue.busy('Starting the daemon', () => startDaemon(queue, desk.env));
    }
  }
  await desk.dialogue.tell('In the background', [...lines, 'Background status shows how it gets on.']);
}

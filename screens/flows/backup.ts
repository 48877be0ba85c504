/** Backup of one VM: which, how, where to; then as a job of its own, watched or in the background. */
import type { EngineContext } from '../../src/engine/context.ts';
import { formatCount } from '../../src/engine/display-text.ts';
import { fromErrno, PhdError } from '../../src/errors.ts';
import type { Requests } from '../../src/queue/request.ts';
import type { Desk } from '../desk.ts';
import type { ListAction } from '../dialogue.ts';
import {
  type BackupSource,
  type Fact,
  fact,
  factsOfSource,
  openSource,
  pickVm,
  requestOfSource,
} from './backup-source.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

type Mode = 'auto' | 'full' | 'delta';
type Codec = 'gzip' | 'zstd' | 'lzop';

interface Target {
  number: number;
  name: string;
}

interface Draft {
  source: BackupSource;
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

const QUIESCE: ListAction = {
  key: 'f',
  id: 'quiesce',
  footer: 'flush',
  help: 'ask the guest to flush its file systems first: on or off',
};

export async function backup(desk: Desk): Promise<void> {
  for (;;) {
    const picked = await pickVm(desk);
    if (picked === undefined) return;
    const source = await tellFailure(desk, 'This cannot be backed up', () => openSource(desk, picked));
    if (source !== undefined && (await backupOf(desk, source))) return;
  }
}

/** True when a job was made or the person leaves for the menu before; false goes back to the list of VMs. */
export async function backupOf(desk: Desk, source: BackupSource): Promise<boolean> {
  const draft = await tellFailure(desk, 'This cannot be backed up', async () =>
    draftOf(await desk.context(), source),
  );
  return draft !== undefined && (await confirmBackup(desk, draft));
}

/** With the defaults of the configuration. Throws CONFIG_INVALID. */
function draftOf({ config }: EngineContext, source: BackupSource): Draft {
  const { backup: defaults, encryption, targets: all } = config;
  const targets = all.filter(({ readOnly }) => !readOnly).sort((a, b) => a.number - b.number);
  const target = targets.find(({ number }) => number === defaults.target) ?? targets[0];
  if (target === undefined) throw new PhdError('CONFIG_INVALID', 'every target is read only: change one');
  return {
    source,
    targets,
    target,
    mode: 'auto',
    codec: defaults.codec,
    isEncrypted: defaults.encrypt,
    hasPassphrase: encryption.system !== null,
  };
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
      actions: 'host' in draft.source ? [...OPTIONS, QUIESCE] : OPTIONS,
      empty: '',
    });
    if (answer === undefined) return false;
    if (answer.kind === 'quit') return true;
    if (answer.kind !== 'action') continue;
    if (answer.id === 'target') draft.target = (await pickTarget(desk, draft)) ?? draft.target;
    else if (answer.id === 'mode') draft.mode = after(MODES, draft.mode);
    else if (answer.id === 'codec') draft.codec = after(CODECS, draft.codec);
    else if (answer.id === 'encrypt') turnEncryption(desk, draft);
    else if (answer.id === 'quiesce' && 'host' in draft.source)
      draft.source.isQuiesced = !draft.source.isQuiesced;
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

function factsOf({ source, target, mode, codec, isEncrypted }: Draft): Fact[] {
  return [
    ...factsOfSource(source),
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
    ...requestOfSource(draft.source),
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

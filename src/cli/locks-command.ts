/** `phd locks show|clear|stop|kill [--backup | --restore]`; without either, both. */
import type { Command } from 'commander';
import type { PhdError } from '../errors.ts';
import { type JobKind, LOCK_KINDS, type LockKind } from '../model/job.ts';
import type { Cli } from './cli.ts';
import { withQueue } from './queued-jobs.ts';

interface Words {
  backup?: boolean;
  restore?: boolean;
  json?: boolean;
}

export function registerLocks(program: Command, cli: Cli): void {
  const locks = program.command('locks').description('keep backups or restores from starting');
  const command = (name: string, description: string, what = 'the lock of '): Command =>
    locks
      .command(name)
      .description(description)
      .option('--backup', `only ${what}backups`)
      .option('--restore', `only ${what}restores`);
  command('show', 'tell who set which lock, from where and when')
    .option('--json', 'JSON lines')
    .action((words: Words) => show(cli, words));
  command('clear', 'let work start again').action((words: Words) => clear(cli, words));
  command('stop', 'let what runs finish its current disk and start nothing new').action((words: Words) =>
    stop(cli, words),
  );
  command(
    'kill',
    'kill what runs, in the background and in the foreground; without an option also verify runs',
    '',
  ).action((words: Words) => kill(cli, words));
}

function kindsOf({ backup, restore }: Words): readonly LockKind[] {
  if (Boolean(backup) === Boolean(restore)) return LOCK_KINDS;
  return backup ? ['backup'] : ['restore'];
}

async function show(cli: Cli, words: Words): Promise<void> {
  await withQueue(cli, async (queue) => {
    const { lockText } = await import('../queue/gate.ts');
    const set = queue.db.locks();
    for (const kind of kindsOf(words)) {
      const lock = set.find((one) => one.kind === kind);
      if (words.json) {
        cli.printJson({ lock: kind, set: lock !== undefined, by: lock?.by ?? null, at: lock?.at ?? null });
      } else cli.print(lock ? lockText(lock) : `${kind}s may start`);
    }
  });
}

async function clear(cli: Cli, words: Words): Promise<void> {
  await withQueue(cli, (queue) => {
    for (const kind of kindsOf(words))
      cli.print(queue.db.clearLock(kind) ? `${kind}s may start again` : `${kind}s were not stopped`);
  });
}

async function stop(cli: Cli, words: Words): Promise<void> {
  await withQueue(cli, async (queue) => {
    const { lockText } = await import('../queue/gate.ts');
    const { submitterOf } = await import('../queue/submitter.ts');
    const by = submitterOf(cli.env);
    for (const kind of kindsOf(words)) {
      const isNew = queue.db.setLock({ kind, by, at: queue.now() });
      const lock = queue.db.locks().find((one) => one.kind === kind);
      if (isNew) cli.print(`${kind}s are stopped: what runs finishes its current disk`);
      else if (lock) cli.print(lockText(lock));
    }
  });
}

async function kill(cli: Cli, words: Words): Promise<void> {
  await withQueue(cli, async (queue) => {
    queue.settleInterrupted();
    const isAll = Boolean(words.backup) === Boolean(words.restore);
    const running = queue.db.jobs({ states: ['running'], ...(isAll ? {} : { kinds: kindsOf(words) }) });
    const failures: PhdError[] = [];
    await Promise.all(
      running.map(async ({ id }) => {
        try {
          cli.print(`job ${id} is ${(await queue.kill(id)).state}`);
        } catch (error) {
          failures.push(cli.reportError(error));
        }
      }),
    );
    const { foregroundWork, killForeground } = await import('../queue/foreground.ts');
    const kinds: readonly JobKind[] = kindsOf(words);
    const present = foregroundWork(queue.places).filter(({ kind }) => isAll || kinds.includes(kind));
    await Promise.all(
      present.map(async (work) => {
        try {
          await killForeground(work);
          cli.print(`the ${work.kind} of process ${work.process.pid} is ended`);
        } catch (error) {
          failures.push(cli.reportError(error));
        }
      }),
    );
    if (running.length + present.length === 0) cli.print('nothing of the kind runs');
    if (queue.db.nextWaiting()) cli.warn('jobs that wait start next: phd locks stop keeps them from it');
    cli.setStatusOf(failures);
  });
}

/** Options of replication and restore; a daemon that runs goes by them at once. */
import { statSync } from 'node:fs';
import { normalize } from 'node:path';
import { restoreOptionsMenu } from '../../menus/configuration-menus.ts';
import { formatBytes } from '../../src/engine/display-text.ts';
import type { Volume } from '../../src/engine/volumes.ts';
import type { Desk } from '../desk.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

const MOST_AT_ONCE = 4;
const MOST_MINUTES = 10_080;

export async function restoreOptions(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const { jobs, replication, datastores } = (await desk.context()).config;
    const menu = restoreOptionsMenu({
      restoreQueue: jobs.restoreQueue,
      atOnce: jobs.atOnce,
      defaultVolume: replication.defaultVolume ?? datastores[0] ?? 'none',
      everyMinutes: replication.everyMinutes,
      inPlace: replication.inPlace,
    });
    const chosen = await desk.dialogue.menu(menu, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'Not kept', async () => {
      if (chosen === 'queue') await turnQueue(desk, jobs.restoreQueue);
      if (chosen === 'at-once') await askAtOnce(desk, jobs.atOnce);
      if (chosen === 'volume') await pickVolume(desk, datastores);
      if (chosen === 'interval') await askInterval(desk, replication.everyMinutes);
      if (chosen === 'in-place') await keep(desk, 'replication.inPlace', String(!replication.inPlace));
    });
  }
}

async function keep(desk: Desk, key: string, value: string): Promise<void> {
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, key, value);
  await desk.forgetContext();
  desk.dialogue.notice('Kept; a daemon that runs goes by it at once.');
}

async function turnQueue(desk: Desk, isOn: boolean): Promise<void> {
  const isSure =
    !isOn ||
    (await desk.dialogue.confirm({
      title: 'Restore queue',
      lines: [
        'Restores that run go on. Those that wait, and new ones, start only when a person',
        'starts them in Background status; the daemon runs no pass of replication.',
      ],
      question: 'Turn the queue off?',
      isDestructive: true,
    }));
  if (isSure) await keep(desk, 'jobs.restoreQueue', String(!isOn));
}

async function askAtOnce(desk: Desk, now: number): Promise<void> {
  const text = await desk.dialogue.ask({
    title: 'Jobs at once',
    lines: [
      'Each job uses all processors already. Two help where targets are slow; more than two',
      'make disks and lines wait for one another, and every single restore ends later.',
    ],
    question: `How many jobs may the daemon run at the same time, 1 to ${MOST_AT_ONCE}?`,
    preset: String(now),
    fault: (typed) => (/^[1-4]$/.test(typed.trim()) ? undefined : `a number from 1 to ${MOST_AT_ONCE}`),
  });
  if (text !== undefined) await keep(desk, 'jobs.atOnce', text.trim());
}

async function askInterval(desk: Desk, now: number): Promise<void> {
  const text = await desk.dialogue.ask({
    title: 'Replication',
    lines: ['A pass with nothing to do lists the targets and opens no archive.'],
    question: 'Minutes from one pass to the next (60: each hour, 1440: once a day)',
    preset: String(now),
    fault: (typed) => {
      const isGood = /^\d{1,5}$/.test(typed.trim()) && Number(typed) >= 1 && Number(typed) <= MOST_MINUTES;
      return isGood ? undefined : `a number from 1 to ${MOST_MINUTES}`;
    },
  });
  if (text !== undefined) await keep(desk, 'replication.everyMinutes', text.trim());
}

async function pickVolume(desk: Desk, datastores: readonly string[]): Promise<void> {
  const { listVolumes } = await import('../../src/engine/volumes.ts');
  const volumes = await listVolumes(datastores);
  const answer = await desk.dialogue.list<Volume>({
    title: 'Lines that are loaded restore to which volume',
    source: rowSource(volumes, ({ path }) => path),
    idOf: ({ path }) => path,
    columns: [
      { title: 'Volume', columns: 0, text: ({ path }) => path },
      {
        title: 'Free',
        columns: 12,
        align: 'right',
        text: ({ freeBytes, fault }) =>
          fault !== null ? 'not usable' : freeBytes === null ? 'unknown' : formatBytes(freeBytes),
      },
    ],
    markOf: ({ fault }) => (fault === null ? 'plain' : 'bad'),
    actions: [
      { key: 'o', id: 'other', footer: 'other', help: 'a folder of a datastore that is not in the list' },
    ],
    empty: 'No datastore is set up: Configuration, D Datastores adds one.',
  });
  const chosen =
    answer?.kind === 'row'
      ? answer.row.path
      : answer?.kind === 'action'
        ? await askFolder(desk, datastores)
        : undefined;
  if (chosen !== undefined) await keep(desk, 'replication.defaultVolume', JSON.stringify(chosen));
}

/** A pass restores into datastores only. */
function askFolder(desk: Desk, datastores: readonly string[]): Promise<string | undefined> {
  return desk.dialogue.ask({
    title: 'Default volume',
    question: 'Folder that loaded lines restore to',
    lines: [`Inside a datastore: ${datastores.join(', ')}`],
    fault: (text) => {
      const folder = normalize(`${text}/`);
      const isInside = datastores.some((one) => folder.startsWith(normalize(`${one}/`)));
      if (!isInside) return 'this lies in no datastore: a pass would restore nothing there';
      return statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? undefined : `${text} is no folder`;
    },
  });
}

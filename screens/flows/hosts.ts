/** Hosts: machines whose VMs are backed up; which VMs they have, add, edit, remove. */
import { HOST_MENU } from '../../menus/configuration-menus.ts';
import type { HostConfig } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';
import { answersOf, askHost, type HostAnswers, hostSettingsOf, NEW_HOST } from './host-questions.ts';
import { pickHostVm } from './host-vms.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

export async function hosts(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const { config } = await desk.context();
    const answer = await desk.dialogue.list<HostConfig>({
      title: 'Hosts',
      source: rowSource(config.hosts, ({ name }) => name),
      idOf: ({ name }) => name,
      ...(at === undefined ? {} : { at }),
      columns: [
        { title: 'Name', columns: 16, text: ({ name }) => name },
        { title: 'Type', columns: 7, text: ({ type }) => type },
        { title: 'Place', columns: 0, text: placeOf },
      ],
      actions: [
        { key: 'n', id: 'new', footer: 'new', help: 'add a host' },
        { key: 'v', id: 'vms', footer: 'VMs', help: 'VMs of the host of the marker' },
      ],
      empty: 'No host is set up: N adds one.',
    });
    if (answer === undefined || answer.kind === 'quit') return;
    if (answer.row !== undefined) at = answer.row.name;
    await tellFailure(desk, 'That did not work', async () => {
      if (answer.kind === 'row') await oneHost(desk, answer.row);
      else if (answer.id === 'new') at = (await add(desk)) ?? at;
      else if (answer.row !== undefined) await showVms(desk, answer.row.name);
    });
  }
}

async function oneHost(desk: Desk, host: HostConfig): Promise<void> {
  let at = 'vms';
  for (;;) {
    const chosen = await desk.dialogue.menu(HOST_MENU, {
      at,
      lines: () => [`${host.name}: ${host.type}`, placeOf(host)],
    });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    if (chosen === 'vms') await tellFailure(desk, 'That did not work', () => showVms(desk, host.name));
    else if (chosen === 'edit') return await edit(desk, host);
    else if (await remove(desk, host)) return;
  }
}

/** The list is also the test of a host: whoever shows its VMs can log in and look. */
async function showVms(desk: Desk, name: string): Promise<void> {
  for (;;) {
    const source = await pickHostVm(desk, name);
    if (source === undefined) return;
    const { backupOf } = await import('./backup.ts');
    if (await backupOf(desk, source)) return;
  }
}

/** The name of the new host; undefined if none was added. */
async function add(desk: Desk): Promise<string | undefined> {
  const { config } = await desk.context();
  const answers: HostAnswers = { ...NEW_HOST };
  if (!(await askHost(desk, answers, new Set(config.hosts.map(({ name }) => name))))) return undefined;
  const { addHost } = await import('../../src/engine/host-configuration.ts');
  await addHost((await desk.queue()).places, await hostSettingsOf(desk, answers));
  await desk.forgetContext();
  await tellFailure(desk, `${answers.name} is kept, but does not answer yet`, () =>
    showVms(desk, answers.name),
  );
  return answers.name;
}

/** The same questions with what is set; settings that are not asked for stay. */
async function edit(desk: Desk, host: HostConfig): Promise<void> {
  const answers = answersOf(host);
  const { config } = await desk.context();
  const others = config.hosts.map(({ name }) => name).filter((name) => name !== host.name);
  if (!(await askHost(desk, answers, new Set(others)))) return;
  const { editHost } = await import('../../src/engine/host-configuration.ts');
  await editHost((await desk.queue()).places, host.name, await hostSettingsOf(desk, answers));
  await desk.forgetContext();
}

async function remove(desk: Desk, { name }: HostConfig): Promise<boolean> {
  const isSure = await desk.dialogue.confirm({
    title: 'Remove',
    lines: [`Host ${name} leaves the configuration. Its archives, and what lies on it, stay as they are.`],
    question: 'Remove it?',
    isDestructive: true,
  });
  if (!isSure) return false;
  const { forgetHost } = await import('../../src/engine/host-configuration.ts');
  await forgetHost((await desk.queue()).places, name);
  await desk.forgetContext();
  return true;
}

function placeOf({ host, port, user, devices }: HostConfig): string {
  const machine = host === null ? 'this machine' : `${user ?? ''}@${host}${port === null ? '' : `:${port}`}`;
  return [machine, ...devices].join(' ');
}

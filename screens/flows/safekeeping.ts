/** For the day the host died: the sheet for the drawer, the bundle for whoever helps, a configuration taken over. */
import path from 'node:path';
import { formatCount } from '../../src/engine/display-text.ts';
import type { TargetConfig } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';
import { offerAdoption } from './adoption.ts';
import { rowSource } from './restore/sources.ts';

export async function sheet(desk: Desk): Promise<void> {
  const { printSheet } = await import('../../src/safekeeping/sheet.ts');
  const context = await desk.context();
  const lines = await desk.dialogue.busy('Gathering', () => printSheet(context));
  if (lines === undefined) return;
  await desk.dialogue.read({ title: 'Sheet for the drawer: phd sheet prints it', lines: () => lines });
}

export async function supportBundle(desk: Desk): Promise<void> {
  const { bundleName, writeSupportBundle } = await import('../../src/safekeeping/support-bundle.ts');
  const [context, queue] = [await desk.context(), await desk.queue()];
  const { places, clock, hostName } = context;
  const about = { places, clock, hostName, queue, env: desk.env };
  const file = await desk.dialogue.ask({
    title: 'Support bundle',
    lines: ['Logs, the configuration without secrets, versions, the last jobs.'],
    question: 'Write it to:',
    preset: path.resolve(bundleName(about)),
    fault: (text) => (path.isAbsolute(text) ? undefined : 'a path from / on'),
  });
  if (file === undefined) return;
  const bundle = await desk.dialogue.busy('Gathering', () => writeSupportBundle({ ...about, context }, file));
  if (bundle === undefined) return;
  await desk.dialogue.tell('Support bundle', [
    `${file}: ${formatCount(bundle.entries.length, 'file')}.`,
    'Look through it before you give it away: names of VMs, hosts and folders are in it.',
  ]);
}

/** Also later than at the first start. The configuration of now is kept beside the one that is taken over. */
export async function takeOverConfiguration(desk: Desk): Promise<void> {
  const context = await desk.context();
  const target = await pickTarget(desk, context.config.targets);
  if (target === undefined) return;
  const { copiesOn } = await import('../../src/safekeeping/adopt.ts');
  const copies = await desk.dialogue.busy('Looking for copies', () => copiesOn(context, target.number));
  if (copies === undefined) return;
  if (copies.length === 0)
    await desk.dialogue.tell('No copy', [`Target ${target.number} (${target.name}) holds no configuration.`]);
  else if (await offerAdoption(desk, target.number))
    desk.dialogue.notice('the configuration was taken over', 'good');
}

async function pickTarget(desk: Desk, targets: readonly TargetConfig[]): Promise<TargetConfig | undefined> {
  const nameOf = ({ number, name }: TargetConfig): string => `${number} ${name}`;
  const answer = await desk.dialogue.list<TargetConfig>({
    title: 'Take over the configuration that lies on',
    source: rowSource(targets, nameOf, nameOf),
    idOf: nameOf,
    columns: [{ title: 'target', columns: 0, text: nameOf }],
    empty: 'There is no target: Targets adds one.',
  });
  return answer?.kind === 'row' ? answer.row : undefined;
}

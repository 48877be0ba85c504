/** Targets: which there are, how old their index is, how much room they have; test, speed test, add, edit, remove. */
import { targetMenu } from '../../menus/configuration-menus.ts';
import type { EngineContext } from '../../src/engine/context.ts';
import { formatAge, formatBytes } from '../../src/engine/display-text.ts';
import { fromErrno } from '../../src/errors.ts';
import type { TargetConfig } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';
import type { Line, ListSource } from '../dialogue.ts';
import type { Mark } from '../frame.ts';
import { rateText } from './job-figures.ts';
import { askTarget, NEW_TARGET, settingsOf, showTargetTest, type TargetAnswers } from './target-questions.ts';
import { changeTargetSetting } from './target-settings.ts';
import { tellFailure } from './tell-failure.ts';

const REFRESH_MS = 1_000;

/** One target as the list shows it. */
interface TargetRow {
  target: TargetConfig;
  index: string;
  hasFault: boolean;
  room: string;
}

export async function targets(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const context = await desk.context();
    const stop = new AbortController();
    const source = new TargetSource(context);
    void source.askForRoom(stop.signal);
    const answer = await desk.dialogue
      .list<TargetRow>({
        title: 'Targets',
        source,
        idOf: ({ target }) => String(target.number),
        ...(at === undefined ? {} : { at }),
        columns: [
          { title: 'No', columns: 4, align: 'right', text: ({ target }) => String(target.number) },
          { title: 'Name', columns: 10, text: ({ target }) => target.name },
          { title: 'By', columns: 4, text: ({ target }) => target.transport },
          { title: 'Index', columns: 9, text: ({ index }) => index },
          { title: 'Free', columns: 8, align: 'right', text: ({ room }) => room },
          { title: 'Place', columns: 0, text: ({ target }) => placeOf(target) },
        ],
        markOf: ({ hasFault }): Mark => (hasFault ? 'bad' : 'plain'),
        actions: [
          { key: 'n', id: 'new', footer: 'new', help: 'add a target' },
          { key: 't', id: 'test', footer: 'test', help: 'test the target of the marker' },
          { key: 's', id: 'speed', footer: 'speed test', help: 'speed test of the target of the marker' },
        ],
        empty: 'No target is set up: N adds one.',
        refreshMs: REFRESH_MS,
      })
      .finally(() => stop.abort());
    if (answer === undefined || answer.kind === 'quit') return;
    if (answer.row !== undefined) at = String(answer.row.target.number);
    await tellFailure(desk, 'That did not work', async () => {
      if (answer.kind === 'row') await oneTarget(desk, answer.row.target);
      else if (answer.id === 'new') at = (await addTarget(desk, context)) ?? at;
      else if (answer.row !== undefined) await check(desk, answer.id, answer.row.target.number);
    });
  }
}

async function check(desk: Desk, which: string, number: number): Promise<void> {
  if (which === 'test') await showTargetTest(desk, number);
  if (which === 'speed') await showSpeedTest(desk, number);
}

async function oneTarget(desk: Desk, chosenTarget: TargetConfig): Promise<void> {
  let { number } = chosenTarget;
  let at = 'test';
  for (;;) {
    const target = (await desk.context()).config.targets.find((one) => one.number === number);
    if (target === undefined) return;
    const lines: Line[] = [
      `${number} ${target.name}: ${target.transport}`,
      placeOf(target),
      ...(await indexError(desk, number)),
    ];
    const menu = targetMenu({
      isReadOnly: target.readOnly,
      bandwidth: limitText(target),
      connections: target.maxConnections === null ? 'as many as it takes' : String(target.maxConnections),
    });
    const chosen = await desk.dialogue.menu(menu, { at, lines: () => lines });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    if (chosen === 'test' || chosen === 'speed') await check(desk, chosen, number);
    else if (chosen === 'edit') number = await edit(desk, target);
    else if (chosen !== 'remove')
      await tellFailure(desk, 'Not kept', () => changeTargetSetting(desk, target, chosen));
    else if (await remove(desk, target)) return;
  }
}

function limitText({ bandwidthLimitBytesPerSecond: limit }: TargetConfig): string {
  return limit === null ? 'none' : `${Math.round(limit / 1000)} KB a second`;
}

/** Why the last listing failed. */
async function indexError(desk: Desk, number: number): Promise<Line[]> {
  const { index } = await desk.context();
  const error = index.targets().find((one) => one.number === number)?.error;
  return error ? [{ text: error, mark: 'bad' }] : [];
}

/** Figures of both directions, and what the manual says to look at when they are small. */
async function showSpeedTest(desk: Desk, number: number): Promise<void> {
  const result = await desk.dialogue.busy(`Speed test of target ${number}`, async (signal, say) => {
    const { speedTestTarget } = await import('../../src/engine/target-checks.ts');
    say('connecting');
    return await speedTestTarget(await desk.context(), number, {
      signal,
      onProgress: ({ phase, percent, bytesPerSecond }) =>
        say(`${phase}: ${Math.floor(percent)} %, ${rateText(bytesPerSecond)}`),
    });
  });
  if (result === undefined) return;
  await desk.dialogue.tell(`Speed of target ${number}`, [
    `Up    ${rateText(result.upBytesPerSecond)}`,
    `Down  ${rateText(result.downBytesPerSecond)}`,
    ...result.advice.map((text): Line => ({ text, mark: 'warning' })),
  ]);
}

/** The number of the new target; undefined if none was added. */
async function addTarget(desk: Desk, { config }: EngineContext): Promise<string | undefined> {
  const taken = new Set(config.targets.map(({ number }) => number));
  let number = 1;
  while (taken.has(number)) number++;
  const answers = { ...NEW_TARGET, number };
  if (!(await askTarget(desk, answers, taken))) return undefined;
  const { beginConfiguration } = await import('../../src/engine/configuration.ts');
  await beginConfiguration((await desk.queue()).places, await settingsOf(desk, answers));
  await desk.forgetContext();
  await showTargetTest(desk, answers.number);
  return String(answers.number);
}

/** The same questions with what is set; settings that are not asked for stay. Its number afterwards. */
async function edit(desk: Desk, target: TargetConfig): Promise<number> {
  const { number, name, transport, host, port, user, path, privateKeyFile, tls } = target;
  const answers: TargetAnswers = {
    ...NEW_TARGET,
    number,
    name,
    transport,
    host: host ?? '',
    port: port === null ? '' : String(port),
    user: user ?? '',
    authentication: privateKeyFile === null ? 'password' : 'key',
    privateKeyFile: privateKeyFile ?? '',
    path,
    hasTls: tls === 'explicit',
  };
  const { config } = await desk.context();
  const taken = new Set(config.targets.map((one) => one.number).filter((one) => one !== number));
  if (!(await askTarget(desk, answers, taken))) return number;
  const { editTarget } = await import('../../src/engine/configuration.ts');
  await editTarget((await desk.queue()).places, number, await settingsOf(desk, answers));
  await desk.forgetContext();
  await showTargetTest(desk, answers.number);
  return answers.number;
}

async function remove(desk: Desk, { number, name }: TargetConfig): Promise<boolean> {
  const isSure = await desk.dialogue.confirm({
    title: 'Remove',
    lines: [`Target ${number} ${name} leaves the configuration. Its archives stay as they are.`],
    question: 'Remove it?',
    isDestructive: true,
  });
  if (!isSure) return false;
  const { removeTarget } = await import('../../src/engine/configuration.ts');
  await removeTarget((await desk.queue()).places, number);
  await desk.forgetContext();
  return true;
}

function placeOf({ host, port, user, path }: TargetConfig): string {
  if (host === null) return path;
  return `${user ?? ''}@${host}${port === null ? '' : `:${port}`}${path.startsWith('/') ? '' : '/'}${path}`;
}

/** Targets of the configuration with what the index knows; the room is asked for one after the other. */
class TargetSource implements ListSource<TargetRow> {
  readonly #context: EngineContext;
  readonly #room = new Map<number, string>();
  #rows: TargetRow[] = [];

  constructor(context: EngineContext) {
    this.#context = context;
    this.refresh();
  }

  length(): { known: number; isExact: boolean } {
    return { known: this.#rows.length, isExact: true };
  }

  rows(from: number, limit: number): TargetRow[] {
    return this.#rows.slice(from, from + limit);
  }

  indexOf(id: string): number {
    return this.#rows.findIndex(({ target }) => String(target.number) === id);
  }

  refresh(): boolean {
    const { config, index, clock } = this.#context;
    try {
      const nowMs = clock.now().getTime();
      const states = new Map(index.targets().map((one) => [one.number, one]));
      this.#rows = config.targets.map((target) => {
        const state = states.get(target.number);
        const hasFault = Boolean(state?.error);
        const age = state?.listedMs == null ? 'never' : formatAge(nowMs - state.listedMs);
        const room = this.#room.get(target.number) ?? '...';
        return { target, index: hasFault ? `! ${age}` : age, hasFault, room };
      });
    } catch (error) {
      const words = fromErrno(error, 'index').message;
      this.#rows = config.targets.map((target) => ({ target, index: words, hasFault: true, room: '?' }));
    }
    return true;
  }

  /** One target that does not answer only lets its own figure wait. */
  async askForRoom(signal: AbortSignal): Promise<void> {
    for (const { number } of this.#context.config.targets) {
      if (signal.aborted) return;
      try {
        const storage = await this.#context.storage(number);
        const bytes = await storage.freeSpaceBytes();
        this.#room.set(number, bytes === null ? 'unknown' : formatBytes(bytes));
      } catch {
        // The test of the target says why; here a word must do.
        this.#room.set(number, 'no answer');
      }
    }
  }
}

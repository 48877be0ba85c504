/**
 * What the flows work with: places, queue, configuration and the engine, each loaded when it is first asked for, so
 * that the first paint waits for none of them.
 */
import { type ConsoleState, UNKNOWN_STATE } from '../menus/state.ts';
import type { EngineContext, HostKeyQuestion } from '../src/engine/context.ts';
import type { ListFilter } from '../src/engine/list-archives.ts';
import { fromErrno } from '../src/errors.ts';
import type { Queue } from '../src/queue/queue.ts';
import type { Dialogue } from './dialogue.ts';
import type { Look } from './look.ts';

export class Desk {
  readonly env: NodeJS.ProcessEnv;
  readonly look: Look;
  /** Set before any flow runs. */
  dialogue!: Dialogue;
  state: ConsoleState = UNKNOWN_STATE;
  /** Rules every list until it is reset. */
  filter: ListFilter = {};
  #queue: Queue | undefined;
  #context: Promise<EngineContext> | undefined;
  /** Of phd.yaml when the engine was opened. */
  #openedMark = '';
  /** Of phd.yaml when its targets were counted. */
  #countedMark = '';

  constructor(env: NodeJS.ProcessEnv, look: Look) {
    this.env = env;
    this.look = look;
  }

  /** Throws CONFIG_INVALID, IO; asks again at the next call if it failed. */
  context(): Promise<EngineContext> {
    this.#context ??= this.#openContext().catch((error: unknown) => {
      this.#context = undefined;
      throw error;
    });
    return this.#context;
  }

  /** Closes the engine so that the next flow reads the configuration anew. */
  async forgetContext(): Promise<void> {
    const context = await this.#context?.catch(() => undefined);
    this.#context = undefined;
    await context?.close();
  }

  /** For places where no flow works with the engine: a phd.yaml that another has changed since is read anew. */
  async heedChangedConfig(): Promise<void> {
    if (this.#context === undefined) return;
    const { configMark } = await import('../src/engine/configuration.ts');
    if ((await configMark(this.env)) !== this.#openedMark) await this.forgetContext();
  }

  async queue(): Promise<Queue> {
    if (this.#queue) return this.#queue;
    const [{ Queue }, { openPlaces }] = await Promise.all([
      import('../src/queue/queue.ts'),
      import('../src/engine/configuration.ts'),
    ]);
    const places = await openPlaces(this.env);
    this.#queue ??= new Queue(places);
    return this.#queue;
  }

  async close(): Promise<void> {
    this.#queue?.close();
    this.#queue = undefined;
    await this.forgetContext();
  }

  /** Brings the state up to date; cheap when nothing has changed. Returns whether anything has. */
  async refreshState(): Promise<boolean> {
    try {
      const queue = await this.queue();
      const { readState } = await import('./console-state.ts');
      const targetCount = await this.#targetCount();
      const before = JSON.stringify(this.state);
      this.state = { ...readState(queue, this.state), targetCount };
      return JSON.stringify(this.state) !== before;
    } catch (error) {
      const { message } = fromErrno(error, 'the queue cannot be read');
      const isNew = message !== this.state.fault;
      this.state = { ...this.state, jobs: null, daemon: null, locks: null, fault: message };
      if (isNew) this.dialogue.notice(message, 'bad');
      return isNew;
    }
  }

  async #openContext(): Promise<EngineContext> {
    const { openContext } = await import('../src/engine/context.ts');
    const { configMark } = await import('../src/engine/configuration.ts');
    this.#openedMark = await configMark(this.env);
    const context = await openContext({
      env: this.env,
      onNotice: (message) => this.dialogue.notice(message, 'warning'),
      askHostKey: (question) => this.#askHostKey(question),
    });
    this.state = { ...this.state, targetCount: context.config.targets.length };
    return context;
  }

  /** As it stands, unless phd.yaml was changed by another since. */
  async #targetCount(): Promise<number | null> {
    const { configMark, openPlaces, readConfig } = await import('../src/engine/configuration.ts');
    const mark = await configMark(this.env);
    if (mark === this.#countedMark || this.state.targetCount === null) return this.state.targetCount;
    this.#countedMark = mark;
    return await readConfig(await openPlaces(this.env)).then(
      ({ targets }) => targets.length,
      // What is wrong with it is told by whatever needs it.
      () => this.state.targetCount,
    );
  }

  #askHostKey({ host, port, keyType, fingerprint }: HostKeyQuestion): Promise<boolean> {
    return this.dialogue.confirm({
      title: 'Unknown host key',
      lines: [`The key of ${host}:${port} is not known yet:`, `${keyType} ${fingerprint}`],
      question: 'Trust it from now on?',
      isDestructive: true,
    });
  }
}

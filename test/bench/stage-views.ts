/** All kinds of views of the full screen over data of their own, behind one menu that shows the last answer. */
import { spawn } from 'node:child_process';
import type { Menu } from '../../menus/menu.ts';
import { type Dialogue, type ListSource, ToMainMenu } from '../../screens/dialogue.ts';
import { span } from '../../screens/frame.ts';

export interface StageData {
  /** Rows of the list. */
  listRows?: number;
  /** Progress changes so often. */
  stepMs?: number;
}

const MENU: Menu = {
  id: 'stage',
  title: 'Stage',
  entries: [
    { key: 'l', id: 'list', label: 'List', help: 'rows to choose from' },
    { key: 'y', id: 'confirm', label: 'Yes or no', help: 'a plain question' },
    { key: 'd', id: 'destroy', label: 'Destroy', help: 'a question that destroys' },
    { key: 't', id: 'typed', label: 'Word', help: 'a word to type out' },
    { key: 'i', id: 'ask', label: 'Line', help: 'a line to type' },
    { key: 'p', id: 'progress', label: 'Progress', help: 'figures that change' },
    { key: 'r', id: 'read', label: 'Text', help: 'text to read' },
    { key: 'o', id: 'tell', label: 'Tell', help: 'something to know' },
    { key: 's', id: 'lend', label: 'Lend', help: 'another program takes the terminal' },
    { key: 'u', id: 'locked', label: 'Locked', help: 'cannot be chosen', disabled: () => 'not now' },
    { key: 'q', id: 'quit', label: 'Quit', help: 'the end' },
  ],
};

interface StageRow {
  id: string;
  name: string;
}

/** `archive-0001 2026-11-20 14:20 FULL  12,345 MB`: 44 columns. */
export function stageRow(at: number): string {
  const number = String(at + 1).padStart(4, '0');
  const name = `archive-${number} 2026-11-20 14:${number.slice(-2)} FULL 12,345 MB`;
  return name.slice(0, 44).padEnd(44);
}

class StageSource implements ListSource<StageRow> {
  readonly #all: StageRow[];
  #shown: StageRow[];

  constructor(count: number) {
    this.#all = Array.from({ length: count }, (_, at) => ({ id: String(at), name: stageRow(at) }));
    this.#shown = this.#all;
  }

  length(): { known: number; isExact: boolean } {
    return { known: this.#shown.length, isExact: true };
  }

  rows(from: number, limit: number): StageRow[] {
    return this.#shown.slice(from, from + limit);
  }

  indexOf(id: string): number {
    return this.#shown.findIndex((row) => row.id === id);
  }

  find(text: string): void {
    this.#shown = this.#all.filter(({ name }) => name.includes(text));
  }
}

const HERE = 'here';

/** This is the main menu of the stage: to abort leads back to it. */
function stayHere(error: unknown): string {
  if (error instanceof ToMainMenu) return HERE;
  throw error;
}

export class Stage {
  readonly #face: Dialogue;
  readonly #options: StageData;
  #answer = 'none yet';

  constructor(face: Dialogue, options: StageData) {
    this.#face = face;
    this.#options = options;
  }

  async run(): Promise<void> {
    for (;;) {
      const lines = () => [`answer: ${this.#answer}`];
      const chosen = await this.#face.menu(MENU, { lines }).catch(stayHere);
      if (chosen === HERE) continue;
      if (chosen === undefined || chosen === 'quit') return;
      this.#answer = `${chosen}: ${String(await this.#do(chosen).catch((error: Error) => error.message))}`;
    }
  }

  async #do(what: string): Promise<unknown> {
    switch (what) {
      case 'list':
        return await this.#list();
      case 'confirm':
        return await this.#face.confirm({
          title: 'Restore',
          lines: ['/vmfs/volumes/a/web/web-flat.vmdk on host esx1 as root'],
          question: 'Restore it?',
        });
      case 'destroy':
        return await this.#face.confirm({
          title: 'Overwrite',
          lines: ['web-flat.vmdk is there already.'],
          question: 'Overwrite it?',
          isDestructive: true,
        });
      case 'typed':
        return await this.#face.typed({ title: 'Salvage', lines: ['Blocks are missing.'], word: 'SALVAGE' });
      case 'ask':
        return await this.#face.ask({ title: 'Disk', question: 'Name of the disk:', preset: 'web' });
      case 'read':
        return await this.#face.read({
          title: 'Text',
          lines: () => Array.from({ length: 90 }, (_, at) => `line ${at + 1} of ninety`),
        });
      case 'tell':
        return await this.#face.tell('Done', ['The disk was restored and proved.']);
      case 'lend':
        return await this.#face.lend(() => shell('echo the terminal is lent; head -n 1 >/dev/null'));
      default:
        return await this.#progress();
    }
  }

  async #list(): Promise<string> {
    const answer = await this.#face.list<StageRow>({
      title: 'Archives',
      source: new StageSource(this.#options.listRows ?? 40),
      idOf: ({ id }) => id,
      columns: [{ title: 'archive', columns: 0, text: ({ name }) => name }],
      marked: new Set(),
      empty: 'none',
    });
    return answer?.kind === 'row' ? answer.row.name.trim() : (answer?.kind ?? 'back');
  }

  /** Figures as a restore shows them; each step is 0.1 % further. */
  async #progress(): Promise<unknown> {
    const stepMs = this.#options.stepMs ?? 1000;
    const rates: number[] = [];
    let step = 0;
    return await this.#face.watch({
      title: 'Restore web-flat.vmdk',
      refreshMs: stepMs,
      rows: () => {
        step++;
        rates.push(80 + ((step * 7) % 40));
        const percent = (step / 10).toFixed(1).padStart(5);
        const megabytes = Math.round(step * 40.96)
          .toLocaleString('en-US')
          .padStart(6);
        return {
          rows: [
            [span(`FULL   ${percent} %   ${megabytes} of 40,960 MB`)],
            [span(`rate   ${String(rates.at(-1)).padStart(5)} MB/s now, 98 MB/s mean`)],
            [span(`left   ${Math.max(1, 7 - Math.floor(step / 60))} min`)],
          ],
          gauge: step / 10,
          rates: rates.slice(-60),
        };
      },
      actions: [{ key: 'k', id: 'kill', footer: 'kill', help: 'ends it' }],
    });
  }
}

function shell(script: string): Promise<number | null> {
  const child = spawn('/bin/sh', ['-c', script], { stdio: 'inherit' });
  return new Promise((resolve) => child.on('exit', resolve));
}

import { describe, expect, it } from 'vitest';
import type { Menu } from '../../menus/menu.ts';
import { EndOfInput, type ListSource, type ListSpec, ToMainMenu } from '../../screens/dialogue.ts';
import { span } from '../../screens/frame.ts';
import { answer, openConversation } from './plain-conversation.ts';

const MENU: Menu = {
  id: 'm',
  title: 'Things',
  entries: [
    { key: 'r', id: 'restore', label: 'Restore', help: 'bring it back' },
    { key: 'x', id: 'vmx', label: 'VMX restore', help: 'only the VMX' },
    { key: 'p', id: 'replication', label: 'Replication', help: 'again', disabled: () => 'nothing to do' },
    { key: 'b', id: 'background', label: () => 'Background: idle', help: 'jobs' },
  ],
};

function numbers(count: number): ListSource<number> {
  let all = Array.from({ length: count }, (_, at) => at + 1);
  return {
    length: () => ({ known: all.length, isExact: true }),
    rows: (from, limit) => all.slice(from, from + limit),
    indexOf: (id) => all.indexOf(Number(id)),
    find: (text) => {
      all = Array.from({ length: count }, (_, at) => at + 1).filter((one) => `row ${one}`.includes(text));
    },
  };
}

function listOf(count: number, more: Partial<ListSpec<number>> = {}): ListSpec<number> {
  return {
    title: 'Rows',
    source: numbers(count),
    idOf: String,
    columns: [{ title: 'Name', columns: 0, text: (row) => `row ${row}` }],
    empty: 'no rows',
    ...more,
  };
}

describe('a menu in the numbered dialogue', () => {
  it.each([
    ['1', 'restore'],
    ['x', 'vmx'],
    ['X', 'vmx'],
    ['vmx restore', 'vmx'],
    ['back', undefined],
    ['b', 'background'],
    ['<', undefined],
    ['restore', 'restore'],
    ['backg', 'background'],
  ])('takes %s', async (line, wanted) => {
    const { result, printed } = await answer([line], (face) => face.menu(MENU));
    expect(result).toBe(wanted);
    expect(printed).toContain(' 1 R Restore\n 2 X VMX restore\n');
  });

  it('says why an entry cannot be chosen, and what else was not understood', async () => {
    const { result, printed } = await answer(['p', '9', 're', 'nonsense', '2'], (face) => face.menu(MENU));
    expect(result).toBe('vmx');
    expect(printed).toContain('Not now: nothing to do');
    expect(printed).toContain('re may be: Restore, Replication');
    expect(printed).toContain('Not understood: 9');
    expect(printed).toContain('Not understood: nonsense');
  });

  it('goes to the main menu from everywhere, and ends when the input does', async () => {
    await expect(answer(['a'], (face) => face.menu(MENU))).rejects.toThrow(ToMainMenu);
    await expect(answer([], (face) => face.menu(MENU))).rejects.toThrow(EndOfInput);
  });

  it('arrow keys and other sequences choose nothing', async () => {
    const { result, printed } = await answer(['\u001b[B', '\u001b', '1'], (face) => face.menu(MENU));
    expect(result).toBe('restore');
    expect(printed.match(/Those keys do nothing here/g)).toHaveLength(2);
  });
});

describe('a list in the numbered dialogue', () => {
  it('comes in pages of twenty where the output is no terminal; Enter turns them', async () => {
    const { result, printed } = await answer(['', 'p', 'n', 'n', 'n', '45'], (face) => face.list(listOf(45)));
    expect(result).toEqual({ kind: 'row', row: 45 });
    expect(printed).toContain('Rows: 1-20 of 45');
    expect(printed).toContain('Rows: 21-40 of 45');
    expect(printed).toContain('Rows: 41-45 of 45');
    expect(printed).toContain('That is the end of the list.');
  });

  it('finds, goes to a row, and shows all again', async () => {
    const lines = ['/row 4', '/', 'g 31', '31'];
    const { result, printed } = await answer(lines, (face) => face.list(listOf(45)));
    expect(result).toEqual({ kind: 'row', row: 31 });
    expect(printed).toContain('Rows [/row 4]: 1-7 of 7');
    expect(printed).toContain('> 31 row 31');
  });

  it('marks rows by their numbers', async () => {
    const marked = new Set<string>();
    const spec = listOf(9, { marked, actions: [{ key: 'p', id: 'plan', footer: 'plan', help: 'a plan' }] });
    const { result, printed } = await answer(['m 2 4-6', 'm5', 'p'], (face) => face.list(spec));
    expect([...marked]).toEqual(['2', '4', '6']);
    expect(printed).toContain(' *2 row 2');
    expect(result).toMatchObject({ kind: 'action', id: 'plan' });
  });

  it('its own letters act on the row of the marker or on the one that is named', async () => {
    const actions = [{ key: 't', id: 'test', footer: 'test', help: 'test the target' }];
    const heads = [{ key: 's', id: 'all', label: 'all of them' }];
    const first = await answer(['t'], (face) => face.list(listOf(9, { actions, heads, at: '4' })));
    expect(first.result).toEqual({ kind: 'action', id: 'test', row: 4 });
    const named = await answer(['t 99', 't 7'], (face) => face.list(listOf(9, { actions, heads })));
    expect(named.printed).toContain('There is no row 99.');
    expect(named.result).toEqual({ kind: 'action', id: 'test', row: 7 });
    const head = await answer(['S'], (face) => face.list(listOf(9, { actions, heads })));
    expect(head.result).toEqual({ kind: 'action', id: 'all', row: undefined });
  });

  it('a letter that the list needs leaves the long word for turning pages', async () => {
    const actions = [{ key: 'n', id: 'new', footer: 'new', help: 'make a new one' }];
    const { result, printed } = await answer(['next', 'n'], (face) => face.list(listOf(30, { actions })));
    expect(printed).toContain('Rows: 21-30 of 30');
    expect(result).toMatchObject({ id: 'new' });
  });

  it('back, quit and abort are three different answers', async () => {
    expect((await answer(['b'], (face) => face.list(listOf(3)))).result).toBeUndefined();
    expect((await answer(['q'], (face) => face.list(listOf(3)))).result).toEqual({ kind: 'quit' });
    await expect(answer(['a'], (face) => face.list(listOf(3)))).rejects.toThrow(ToMainMenu);
  });

  it('names with escape codes, wide and foreign characters come out as ASCII', async () => {
    const columns = [{ title: 'Name', columns: 0, text: () => 'a\u001b[31mb\r\u202e\u4e2d' }];
    const { printed } = await answer(['b'], (face) => face.list(listOf(1, { columns })));
    expect(printed).toContain('a\\x1b[31mb\\x0d\\u{202e}\\u{4e2d}');
    expect(printed).toMatch(/^[\n\x20-\x7e]*$/);
  });
});

describe('questions in the numbered dialogue', () => {
  it('a line of text shows its default in brackets', async () => {
    const spec = {
      title: 'T',
      question: 'Name',
      preset: 'web',
      fault: (text: string) => (text === 'x' ? 'no' : undefined),
    };
    const { result, printed } = await answer(['x', ''], (face) => face.ask(spec));
    expect(result).toBe('web');
    expect(printed).toContain('Name [web]: x\n! no\nName [web]: \n');
    expect((await answer(['""'], (face) => face.ask(spec))).result).toBe('');
    expect((await answer(['b'], (face) => face.ask(spec))).result).toBe('b');
    expect((await answer(['<'], (face) => face.ask(spec))).result).toBeUndefined();
  });

  it('a secret is never printed', async () => {
    const { result, printed } = await answer(['s3cret?'], (face) =>
      face.ask({ title: 'T', question: 'Password', isSecret: true }),
    );
    expect(result).toBe('s3cret?');
    expect(printed).not.toContain('s3cret');
  });

  it('what destroys defaults to no', async () => {
    const spec = { title: 'T', lines: [], question: 'Delete?', isDestructive: true, preset: true };
    expect((await answer([''], (face) => face.confirm(spec))).result).toBe(false);
    expect((await answer(['maybe', 'yes'], (face) => face.confirm(spec))).result).toBe(true);
    expect((await answer([''], (face) => face.confirm({ ...spec, isDestructive: false }))).result).toBe(true);
  });

  it('a word is taken only as it stands', async () => {
    const spec = { title: 'T', lines: [], word: 'SALVAGE' };
    expect((await answer(['salvage', 'SALVAGE'], (face) => face.typed(spec))).result).toBe(true);
    expect((await answer(['salvage', ''], (face) => face.typed(spec))).result).toBe(false);
  });

  it('a long line of input is cut, not kept', async () => {
    const { result } = await answer(['x'.repeat(1_000_000)], (face) =>
      face.ask({ title: 'T', question: 'Q' }),
    );
    expect(result).toHaveLength(8_192);
  });
});

describe('reading and watching in the numbered dialogue', () => {
  it('text comes page by page and is searched', async () => {
    const lines = Array.from({ length: 50 }, (_, at) => `line ${at + 1}`);
    const { printed } = await answer(['', '/line 44', '', ''], (face) =>
      face.read({ title: 'Log', lines: () => lines }),
    );
    expect(printed).toContain('line 20\n20 of 50 lines, Enter more');
    expect(printed).toContain('line 44\nline 45');
    expect(printed).not.toContain('line 41');
  });

  it('watching prints what is new, gives the actions after Enter, and ends by itself', async () => {
    const { face, type, printed } = openConversation();
    let percent = 0;
    const spec = {
      title: 'Job 7',
      rows: () => ({ rows: [[span(`state running`)], [span(`${percent} %`)]], gauge: percent }),
      refreshMs: 5,
      actions: [{ key: 'k', id: 'kill', footer: 'kill', help: 'kill the job' }],
    };
    type('');
    type('1');
    expect(await face.watch(spec)).toBe('kill');
    expect(printed()).toContain(' 1 K kill the job');
    expect(printed().match(/state running/g)).toHaveLength(1);
    const isOver = () => (percent++ > 4 ? 'over' : undefined);
    expect(await face.watch({ ...spec, isOver })).toBe('over');
    // Figures that tick are not worth a line each.
    expect(printed().match(/\d %/g)?.length).toBeLessThan(5);
  });

  it('^C gives the action of a watch, stops work, and ends the console elsewhere', async () => {
    const { face } = openConversation();
    expect(face.interrupt()).toBe(false);
    const watched = face.watch({
      title: 'Job',
      rows: () => ({ rows: [] }),
      refreshMs: 10_000,
      interrupt: 'ask',
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(face.interrupt()).toBe(true);
    expect(await watched).toBe('ask');
    const worked = face.busy(
      'Listing',
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Error('stopped')));
        }),
    );
    expect(face.interrupt()).toBe(true);
    expect(await worked).toBeUndefined();
    expect(face.interrupt()).toBe(false);
  });
});

it('where Enter is an action of its own, the numbered dialogue offers it at once', async () => {
  const actions = [
    { key: 'enter', id: 'on', footer: 'go on', help: 'back' },
    { key: 'r', id: 'retry', footer: 'retry', help: 'try again' },
  ];
  const spec = { title: 'Job 7: failed', rows: () => ({ rows: [] }), refreshMs: 60_000, actions };
  const { result, printed } = await answer([''], (face) => face.watch(spec));
  expect(result).toBe('on');
  expect(printed).toContain('Enter go on, R retry, b back, ? help');
  expect((await answer(['r'], (face) => face.watch(spec))).result).toBe('retry');
});

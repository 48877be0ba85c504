/** The list over rows that are still being read: it goes on until all is known, then rests until something changes. */
import { expect, it } from 'vitest';
import { ListView } from '../../screens/full/list-view.ts';
import { chooseLook } from '../../screens/look.ts';

const LOOK = chooseLook({ LANG: 'C.UTF-8' }, null, { look: 'thin' });
const SIZE = { columns: 80, rows: 24 };
const DOWN = { kind: 'key', name: 'down' } as const;

interface Row {
  id: string;
}

/** Rows whose figures come in three steps, though their number is known from the beginning. */
function slowSource(count: number) {
  let left = 3;
  let ids = Array.from({ length: count }, (_, at) => String(at));
  let isChanged = false;
  return {
    asked: 0,
    length: () => ({ known: ids.length, isExact: true }),
    rows: (from: number, limit: number): Row[] => ids.slice(from, from + limit).map((id) => ({ id })),
    indexOf: (id: string) => ids.indexOf(id),
    advance() {
      this.asked++;
      left--;
      return left > 0;
    },
    find() {
      left = 2;
    },
    refresh: () => isChanged,
    /** Other rows from now on. */
    change(next: string[]) {
      ids = next;
      left = 1;
      isChanged = true;
    },
    get left() {
      return left;
    },
  };
}

function open(source: ReturnType<typeof slowSource>) {
  let paints = 0;
  const view = new ListView<Row>(
    {
      title: 'Rows',
      source,
      idOf: ({ id }) => id,
      columns: [{ title: 'row', columns: 0, text: ({ id }) => `${id}: ${3 - source.left}` }],
      empty: 'none',
      refreshMs: 1000,
    },
    { done: () => undefined, fail: () => undefined },
    () => paints++,
  );
  const text = (): string =>
    view
      .frame(SIZE, LOOK, undefined)
      .rows.map((row) =>
        row
          .map((span) => span.text)
          .join('')
          .trimEnd(),
      )
      .join('\n');
  const rest = (): void => {
    while (view.onIdle()) text();
  };
  return { view, text, rest, paints: () => paints };
}

it('reads on though the number of rows is known, paints once at the end, then asks no more', () => {
  const source = slowSource(3);
  const list = open(source);
  expect(list.text()).toContain('0: 0');
  list.rest();
  expect(list.text()).toContain('0: 3');
  expect(list.paints()).toBe(1);
  list.rest();
  expect(source.asked).toBe(3);
});

it('reads again when the text of the finder or the index changes', () => {
  const source = slowSource(3);
  const list = open(source);
  list.rest();
  list.view.onAction('filter', { kind: 'text', text: '/' });
  list.view.onOther({ kind: 'text', text: 'x' });
  list.rest();
  expect(source.asked).toBe(5);
  source.change(['7', '8']);
  expect(list.view.onTick()).toBe(true);
  list.rest();
  expect(source.asked).toBe(6);
});

it('a text that nothing holds is told as that, not as a list without rows', () => {
  const list = open(slowSource(0));
  list.rest();
  expect(list.text()).toContain('none');
  list.view.onAction('filter', { kind: 'text', text: '/' });
  list.view.onOther({ kind: 'text', text: 'weekly' });
  list.rest();
  expect(list.text()).toContain('Nothing holds "weekly".');
});

it('the marker stays with its row when others come and go, and with its place when the row goes', () => {
  const source = slowSource(100);
  const list = open(source);
  list.text();
  for (let step = 0; step < 40; step++) list.view.onAction('down', DOWN);
  expect(list.text()).toContain('>  41 40:');
  source.change(['new', ...Array.from({ length: 100 }, (_, at) => String(at))]);
  list.view.onTick();
  expect(list.text()).toContain('>  42 40:');
  source.change(['a', 'b', 'c']);
  list.view.onTick();
  expect(list.text()).toContain('>   3 c:');
  source.change([]);
  list.view.onTick();
  expect(list.text()).toMatch(/none[\s\S]*> B {2}Back/);
});

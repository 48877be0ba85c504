import { expect, it } from 'vitest';
import { filterText } from '../../screens/flows/filter.ts';
import { browsedSource, rowSource } from '../../screens/flows/restore/sources.ts';
import { runSteps, type StepEnd } from '../../screens/flows/restore/steps.ts';
import type { BrowsedList } from '../../src/engine/browsed-list.ts';
import { PhdError } from '../../src/errors.ts';

const list = (names: readonly string[], fault: () => void) =>
  ({
    length: { known: names.length, isExact: true },
    firstPage: () => [],
    rows: (from: number, limit: number) => {
      fault();
      return names.slice(from, from + limit).map((name, at) => ({ id: from + at + 1, name }));
    },
    indexOf: (id: number) => (id >= 1 && id <= names.length ? id - 1 : -1),
    advance: () => false,
    refresh: () => {
      fault();
      return false;
    },
  }) as unknown as BrowsedList<{ id: number; name: string }>;

it('an index that cannot be read any more empties its list and is told once; a fault of the program is not hidden', () => {
  const said: string[] = [];
  let broken: Error | undefined;
  const fault = (): void => {
    if (broken) throw broken;
  };
  const source = browsedSource(
    () => list(['a', 'b'], fault),
    (message) => said.push(message),
  );
  expect(source.rows(0, 9).map(({ row }) => row?.name)).toEqual(['a', 'b']);
  expect([source.indexOf('2'), source.indexOf('gone 1')]).toEqual([1, -1]);
  broken = new PhdError('IO', 'the index is gone');
  expect(source.refresh?.()).toBe(false);
  expect([source.rows(0, 9), source.length().known, source.refresh?.()]).toEqual([[], 0, false]);
  expect(said).toEqual(['the index is gone']);
  broken = undefined;
  source.find?.('x');
  expect(source.length().known).toBe(0);

  broken = new TypeError('a fault');
  const other = browsedSource(
    () => list(['a'], fault),
    (message) => said.push(message),
  );
  expect(() => other.rows(0, 1)).toThrow('a fault');
});

it('rows at hand are found by any part of their text, whatever its case or form', () => {
  const source = rowSource(
    ['Ünder', 'other'],
    (row) => row,
    (row) => row,
  );
  source.find?.('ü'.normalize('NFD'));
  expect(source.rows(0, 9)).toEqual(['Ünder']);
  source.find?.('');
  expect(source.length()).toEqual({ known: 2, isExact: true });
});

it('steps go back over questions that were not asked', async () => {
  const walk: string[] = [];
  const answers: Record<string, StepEnd[]> = { one: ['next', 'next'], three: ['back', 'next'] };
  const step = (name: string) => async (): Promise<StepEnd> => {
    walk.push(name);
    return answers[name]?.shift() ?? 'skip';
  };
  expect(await runSteps({}, [step('one'), step('two'), step('three')])).toBe('next');
  expect(walk).toEqual(['one', 'two', 'three', 'two', 'one', 'two', 'three']);
  expect(await runSteps({}, [async () => 'quit'])).toBe('quit');
  expect(await runSteps({}, [async () => 'back'])).toBe('back');
});

it('a filter in one line', () => {
  expect(filterText({})).toBe('');
  const range = { from: '2026-11-01T00:00', to: '2026-11-20T23:59' };
  expect(filterText({ vm: 'web', ...range, transport: 'ssh', vmfs: 'hide', target: 2, mode: 'full' })).toBe(
    'VM *web*, 2026-11-01..2026-11-20, ssh, vmfs hide, target 2, FULLs only',
  );
  expect(filterText({ from: '2026-11-20T00:00', to: '2026-11-20T23:59' })).toBe('2026-11-20');
});

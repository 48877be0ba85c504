import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { choosePlaces } from '../../src/config/places.ts';
import {
  listPlans,
  planNameFault,
  type RestorePlan,
  readPlan,
  removePlan,
  savePlan,
} from '../../src/engine/restore-plan.ts';
import type { Places } from '../../src/model/config.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const PLAN: RestorePlan = {
  vms: [
    { vm: 'Web: # "1"', uuid: '564d1e34-4364-1808-23fd-e56565add901', to: '/vmfs/volumes/a b/Web' },
    { vm: '猫', uuid: '', to: '/vmfs/volumes/c/x' },
  ],
  onOrBefore: '2026-11-20T06:30',
  vmx: 'copy',
  verify: true,
};

let home: TempHome;
let places: Places;
beforeEach(() => {
  home = makeTempHome();
  places = choosePlaces(home.env, false);
});
afterEach(() => home.remove());

const put = (name: string, text: string): string => home.write(path.join('plans', name), text);

describe('saved plans', () => {
  it('come back as they were saved, in files that only their owner reads, with words for people', async () => {
    const file = await savePlan(places, 'Site 1 north', PLAN);
    expect(await readPlan(places, 'Site 1 north')).toEqual(PLAN);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toMatch(/^# Restore plan of phd/);
    await savePlan(places, 'Site 1 north', { ...PLAN, lastGroup: 7 });
    expect((await listPlans(places)).map(({ name, plan }) => [name, plan?.lastGroup])).toEqual([
      ['Site 1 north', 7],
    ]);
    await removePlan(places, 'Site 1 north');
    expect(await listPlans(places)).toEqual([]);
  });

  it.each([
    '',
    ' ',
    '..',
    '.hidden',
    '../phd',
    'a/b',
    'a\\b',
    'a\u0000b',
    'a\u001b[2J',
    'x'.repeat(201),
    'end.',
    'end ',
  ])('are never named %j', async (name) => {
    expect(planNameFault(name)).toBeDefined();
    await expect(savePlan(places, name, PLAN)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(readPlan(places, name)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(removePlan(places, name)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it.each([
    ['is no YAML', 'vms: [', /is no YAML/],
    ['has no VM', 'vms: []', /vms: expected at least one VM/],
    ['has a key that is not known', 'vms: [{ vm: a, uuid: "", to: /a, run: "rm -rf" }]', /vms\.0/],
    [
      'has a goal that is no absolute path',
      'vms: [{ vm: a, uuid: "", to: ../a }]',
      /vms\.0\.to: expected an absolute/,
    ],
    ['has escape codes', 'vms: [{ vm: "a\\e[2J", uuid: "", to: /a }]', /vms\.0\.vm: expected text without/],
    ['has a date that is none', 'onOrBefore: 2026-13-45\nvms: [{ vm: a, uuid: "", to: /a }]', /onOrBefore/],
    ['has a UUID that is none', 'vms: [{ vm: a, uuid: "%", to: /a }]', /vms\.0\.uuid: expected a UUID/],
    [
      'is an avalanche of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nvms: [*c,*c,*c,*c,*c,*c,*c]`,
      /alias|vms/i,
    ],
    ['is too large', `# ${'x'.repeat(1024 * 1024)}\nvms: []`, /no plan/],
  ])('one that %s is listed with the reason, and does not hide the others', async (_what, text, reason) => {
    put('bad.yaml', text);
    await savePlan(places, 'good', PLAN);
    const [bad, good] = await listPlans(places);
    expect(bad).toMatchObject({ name: 'bad', plan: null });
    expect(bad?.fault).toMatch(reason);
    expect(bad?.fault?.split('\n')).toHaveLength(1);
    expect(good?.plan).toEqual(PLAN);
  });

  it('are not looked for behind odd names, in folders or devices', async () => {
    put('.hidden.yaml', 'vms: []');
    put('notes.txt', 'x');
    mkdirSync(path.join(home.root, 'plans', 'folder.yaml'));
    execFileSync('mkfifo', [path.join(home.root, 'plans', 'pipe.yaml')]);
    symlinkSync('/dev/zero', path.join(home.root, 'plans', 'zero.yaml'));
    writeFileSync(path.join(home.root, 'plans', 'a\nb.yaml'), 'vms: []');
    expect((await listPlans(places)).map(({ name, plan }) => [name, plan])).toEqual([
      ['folder', null],
      ['pipe', null],
      ['zero', null],
    ]);
  });

  it('that cannot be written leave the one before', async () => {
    await savePlan(places, 'one', PLAN);
    await expect(savePlan(places, 'one', { ...PLAN, vms: [] })).rejects.toMatchObject({ code: 'USAGE' });
    expect(await readPlan(places, 'one')).toEqual(PLAN);
    expect(readdirSync(path.join(home.root, 'plans'))).toEqual(['one.yaml']);
  });
});

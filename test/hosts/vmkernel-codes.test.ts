/** The table of vmkernel codes against itself, and codes found in what hosts print. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VMKERNEL_ADVICE } from '../../src/hosts/vmkernel-advice.ts';
import {
  explainVmkernel,
  VMKERNEL_CODES,
  vmkernelCodesIn,
  withVmkernelCodes,
} from '../../src/hosts/vmkernel-codes.ts';
import { Tale } from '../tales/tale.ts';

const names = (text: string) => vmkernelCodesIn(text).map(({ name }) => name);

describe('the table', () => {
  it('has 242 codes without a gap, each with a name and a meaning of its own', () => {
    expect(VMKERNEL_CODES).toHaveLength(242);
    expect(VMKERNEL_CODES.map(({ number }) => number)).toEqual([
      0,
      ...Array.from({ length: 240 }, (_, at) => 0xbad0001 + at),
      732_758_016,
    ]);
    expect(new Set(VMKERNEL_CODES.map(({ name }) => name)).size).toBe(242);
    expect(new Set(VMKERNEL_CODES.map(({ meaning }) => meaning)).size).toBe(242);
    for (const { name, errno, meaning } of VMKERNEL_CODES) {
      expect(name).toMatch(/^VMK_[A-Z][A-Z0-9_]+$/);
      expect(errno).toMatch(/^(OK|E[A-Z0-9]+)$/);
      expect(meaning).toMatch(/^\S.*[^\s.]$/);
    }
  });

  it('has the known ones in their places', () => {
    const at = (number: number) => VMKERNEL_CODES.find((code) => code.number === number);
    expect(at(0)).toMatchObject({ name: 'VMK_OK', hex: '0', errno: 'OK', advice: null });
    expect(at(0xbad0004)).toMatchObject({ name: 'VMK_BUSY', errno: 'EBUSY' });
    expect(at(195_887_139)).toMatchObject({ name: 'VMK_FS_LOCKED', hex: '0xbad0023', errno: 'EADDRINUSE' });
    expect(at(0xbad008f)).toMatchObject({ name: 'VMK_LOCK_NOT_FREE', errno: 'EBUSY' });
    expect(at(0xbad00a6)).toMatchObject({ name: 'VMK_TOO_MANY_LOCK_HOLDERS', errno: 'EUSERS' });
    expect(at(0xbad00d8)).toMatchObject({ name: 'VMK_NO_SPACE', errno: 'ENOSPC' });
    expect(at(0xbad00f0)).toMatchObject({ name: 'VMK_MEMSIZE_GT_MEMSIZELIMIT', errno: 'EINVAL' });
    expect(at(0x2bad0000)).toMatchObject({ name: 'VMK_GENERIC_LINUX_ERROR', errno: 'EIO' });
  });

  it('advises on names that exist only', () => {
    const known = new Set(VMKERNEL_CODES.map(({ name }) => name));
    expect([...VMKERNEL_ADVICE.keys()].filter((name) => !known.has(`VMK_${name}`))).toEqual([]);
    expect(VMKERNEL_CODES.filter(({ advice }) => advice !== null)).toHaveLength(VMKERNEL_ADVICE.size);
  });

  it('each is found by hex, by bare hex, by decimal and by name, alone and in a line', () => {
    const errors = VMKERNEL_CODES.filter(({ number }) => number !== 0);
    fc.assert(
      fc.property(fc.constantFrom(...errors), (code) => {
        const { hex, number, name } = code;
        const texts = [hex, hex.slice(2), hex.toUpperCase(), `${number}`, name, name.slice(4).toLowerCase()];
        for (const text of texts)
          expect(explainVmkernel(text)).toEqual({ codes: [code], near: [], reason: null });
        for (const text of [`failed: ${hex}.`, `(${hex.slice(2)})`, `status=${number},`, `[${name}]`])
          expect(vmkernelCodesIn(text)).toEqual([code]);
      }),
    );
  });
});

describe('codes in what a host prints', () => {
  it.each([
    ["Failed to open 'a-flat.vmdk': Status (bad0023)= File locked", ['VMK_FS_LOCKED']],
    ['cpu3:4113)FS3: 1234: Open of x failed: 0x0bad00D8, later 195887108', ['VMK_NO_SPACE', 'VMK_BUSY']],
    ['twice 0xbad0004 and 195887108 and VMK_BUSY', ['VMK_BUSY']],
    ['LUN 60bad00230, id 0xbad00231, 1958871399, abad0023', []],
    ['0xbad00f1 0xbad0000 0xbad0fff VMK_NO_SUCH_NAME', []],
    ['Console: 0x2bad0000', ['VMK_GENERIC_LINUX_ERROR']],
    ['ok, 0 of 0', []],
  ])('%s', (text, expected) => expect(names(text)).toEqual(expected));

  it('adds what they mean to a message, in one line', () => {
    expect(withVmkernelCodes('esx1: vmkfstools failed', 'Failed: 0xbad0020\n')).toMatch(
      /^esx1: vmkfstools failed; 0xbad0020 VMK_TIMEOUT: it took too long \([^\n]*\)$/,
    );
    expect(withVmkernelCodes('esx1: no code', 'VMK_OK')).toBe('esx1: no code');
  });

  it('a text of megabytes costs nothing', () => {
    expect(names(`${'x'.repeat(70_000)} 0xbad0004`)).toEqual([]);
    expect(names('0x'.repeat(4_000_000))).toEqual([]);
  });
});

describe('what is no code', () => {
  it.each([
    ['0x23', 'VMK_FS_LOCKED'],
    ['FS_LOKCED', 'VMK_FS_LOCKED'],
    ['vmk_no_spaces', 'VMK_NO_SPACE'],
  ])('%s: the near one is offered', (typed, name) => {
    const { codes, near } = explainVmkernel(typed);
    expect(codes).toEqual([]);
    expect(near[0]?.name).toBe(name);
  });

  it('a code of a newer host is called what it is', () => {
    expect(explainVmkernel('0xbad0107').reason).toMatch(/^0xbad0107 has the form .* end at 0xbad00f0: newer/);
    expect(explainVmkernel('195887345').reason).toMatch(/^0xbad00f1 has the form/);
    expect(explainVmkernel('__proto__').reason).toMatch(/^no vmkernel code is in it/);
  });
});

describe('phd explain', () => {
  it('explains without a configuration, as lines and as JSON; what is unknown ends with status 1', async () => {
    const tale = new Tale({ targets: [] });
    try {
      const plain = await tale.phd(['explain', 'Open', 'failed', '(bad0023)', 'and', '0xbad0003']);
      expect(plain.stdout.split('\n')).toEqual([
        '0xbad0023 VMK_FS_LOCKED (195887139, EADDRINUSE)',
        '  the file is locked by someone else',
        expect.stringMatching(/^ {2}What to do: find who has it open/),
        '0xbad0003 VMK_NOT_FOUND (195887107, ENOENT)',
        '  not there',
        expect.stringMatching(/^ {2}What to do: /),
        '',
      ]);
      expect(plain.status).toBe(0);
      const json = await tale.phd(['explain', '732758016', '--json']);
      expect(JSON.parse(json.stdout)).toMatchObject({ name: 'VMK_GENERIC_LINUX_ERROR', number: 732_758_016 });
      const none = await tale.phd(['explain', 'FS_LOKCED', '--json']);
      expect(none.status).toBe(1);
      expect(none.stderr).toMatch(/^phd: no vmkernel code .*; did you mean 0xbad0023 VMK_FS_LOCKED/);
      expect(JSON.parse(none.stdout)).toMatchObject({ event: 'error', code: 'NOT_FOUND' });
    } finally {
      await tale.remove();
    }
  });
});

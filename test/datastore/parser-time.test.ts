import { expect, it } from 'vitest';
import { parseDescriptor } from '../../src/datastore/descriptor.ts';
import { parseVmx } from '../../src/datastore/vmx.ts';

const BLANKS = ' '.repeat(4_000);

/** Milliseconds that an attempt takes, whether it succeeds or not. */
function timed(action: () => unknown): number {
  const start = performance.now();
  try {
    action();
  } catch {
    // A refusal is fine here: only the time counts.
  }
  return performance.now() - start;
}

it.each([
  ['blanks before a stray quote', `a = ${BLANKS}${BLANKS}${BLANKS}${BLANKS}"`],
  ['blanks in a value', `a = x${`${BLANKS}x`.repeat(4)}"`],
  ['blanks after a quote', `a = "x"${BLANKS}${BLANKS}${BLANKS}x`],
])('a VMX of 1 MiB made to be slow is read at once: %s', (_what, line) => {
  const text = `${line}\n`.repeat(Math.floor(1_000_000 / (line.length + 1)));
  expect(timed(() => parseVmx(Buffer.from(text), 'slow.vmx'))).toBeLessThan(2_000);
});

it.each([
  ['blanks after an extent', `RW 1 FLAT "a"${BLANKS}x${BLANKS.slice(100)}"`.slice(0, 4_090)],
  ['blanks in an extent', `RW ${BLANKS}`],
  ['blanks in a setting', `a = ${BLANKS}"x`],
])('a descriptor of 4 MiB made to be slow is read at once: %s', (_what, line) => {
  const text = `# Disk DescriptorFile\nversion=1\n${`${line}\n`.repeat(Math.floor(4_000_000 / (line.length + 1)))}`;
  expect(timed(() => parseDescriptor(Buffer.from(text), 'slow.vmdk'))).toBeLessThan(2_000);
});

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { needs } from '../support/needs.ts';
import { bytesOf, chunks, codeOf, describeContract, storageOf, type TargetUnderTest } from './contract.ts';

async function localTarget(): Promise<TargetUnderTest> {
  const folder = mkdtempSync(path.join(tmpdir(), 'phd-vmfs-'));
  const stop = async (): Promise<void> => rmSync(folder, { recursive: true, force: true });
  return { settings: { transport: 'vmfs', path: folder }, folder, stop };
}

describeContract('a local folder', localTarget);

describe('a local folder', () => {
  it('is not left through a linked folder', async () => {
    const target = await localTarget();
    const outside = mkdtempSync(path.join(tmpdir(), 'phd-outside-'));
    writeFileSync(path.join(outside, 'secret'), 'abc');
    symlinkSync(outside, path.join(target.folder, 'link'));
    const storage = await storageOf(target);
    expect(await codeOf(bytesOf(storage.read('link/secret', { offsetBytes: 0 })))).toBe('TARGET_REFUSED');
    expect(await codeOf(storage.write('link/new', chunks(Buffer.from('x'))))).toBe('TARGET_REFUSED');
    expect(await codeOf(storage.makeFolder('link/new'))).toBe('TARGET_REFUSED');
    expect(readdirSync(outside)).toEqual(['secret']);
    rmSync(outside, { recursive: true });
    await target.stop();
  });

  it.runIf(needs(process.getuid?.() === 0, 'root'))(
    'that is full says so and keeps nothing half',
    async () => {
      const target = await localTarget();
      const small = path.join(target.folder, 'small');
      mkdirSync(small);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', small]);
      try {
        const storage = await storageOf(target, { path: small });
        expect(await codeOf(storage.write('big.part', chunks(Buffer.alloc(8_000_000))))).toBe('NO_SPACE');
        expect(readdirSync(small)).toEqual([]);
        expect(await storage.freeSpaceBytes()).toBeGreaterThan(3_000_000);
      } finally {
        execFileSync('umount', [small]);
        await target.stop();
      }
    },
  );
});

/** VHD as a stream: what is written is read back, by qemu-img too, and nothing that is cut or spoiled passes for whole. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { VHD_BLOCK_BYTES } from '../../src/hosts/xen/vhd.ts';
import { VhdStream } from '../../src/hosts/xen/vhd-stream.ts';
import { dataBlocks, vhdBytes, vhdOf } from '../../src/hosts/xen/vhd-writer.ts';
import { randomLooking } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import { makeTempHome } from '../support/temp-home.ts';

/** Cylinders of 4 heads and 17 sectors: other readers go by them. */
const SIZE = 300 * 4 * 17 * 512;

describe('A VHD', () => {
  const home = makeTempHome();
  afterAll(() => home.remove());
  const disk = Buffer.alloc(SIZE);
  randomLooking('first', 5000).copy(disk, 0);
  randomLooking('last', 700).copy(disk, SIZE - 700);

  async function written(file: FileHandle): Promise<Buffer> {
    const blocks = await dataBlocks(file, SIZE);
    expect(blocks).toEqual([0, Math.floor((SIZE - 1) / VHD_BLOCK_BYTES)]);
    const parts: Buffer[] = [];
    const facts = { sizeBytes: SIZE, blocks, uuid: '12345678-1234-4234-8234-123456789abc', now: new Date(0) };
    for await (const part of vhdOf(file, facts)) parts.push(Buffer.from(part));
    const whole = Buffer.concat(parts);
    expect(whole.length).toBe(vhdBytes(SIZE, blocks.length));
    return whole;
  }

  async function read(vhd: Buffer, partBytes: number): Promise<Buffer> {
    let content = Buffer.alloc(0);
    const stream = new VhdStream('it', {
      begin: ({ diskBytes }) => {
        content = Buffer.alloc(diskBytes);
      },
      data: (offset, bytes) => void bytes.copy(content, offset),
      blockEnd: () => undefined,
    });
    for (let at = 0; at < vhd.length; at += partBytes) await stream.push(vhd.subarray(at, at + partBytes));
    stream.finish();
    return content;
  }

  it('is read back however it is cut into parts, and by qemu-img', async () => {
    writeFileSync(path.join(home.root, 'disk'), disk);
    const file = await open(path.join(home.root, 'disk'), 'r');
    const vhd = await written(file).finally(() => file.close());
    for (const partBytes of [511, 65_536, vhd.length])
      expect((await read(vhd, partBytes)).equals(disk)).toBe(true);
    const qemu = await requirePeer('qemu-img');
    const [from, to] = [path.join(home.root, 'disk.vhd'), path.join(home.root, 'flat')];
    writeFileSync(from, vhd);
    execFileSync(qemu.path, ['convert', '-f', 'vpc', '-O', 'raw', from, to], {
      env: { ...process.env, ...qemu.env },
    });
    expect(readFileSync(to).equals(disk)).toBe(true);
    // Cut anywhere it is no whole one; so it is with a wrong byte in what has checksums, or in where its blocks lie.
    for (const end of [0, 511, 1536, 2048, 2049, vhd.length - 512, vhd.length - 1])
      await expect(read(vhd.subarray(0, end), 4096)).rejects.toMatchObject({ code: 'ARCHIVE_DAMAGED' });
    await expect(read(Buffer.concat([vhd, Buffer.alloc(512)]), 4096)).rejects.toThrow('more follows');
    for (const at of [0, 20, 49, 63, 66, 100, 512, 520, 530, 545, 1000, 1536, 1537, vhd.length - 500]) {
      const spoiled = Buffer.from(vhd);
      spoiled[at] = spoiled[at]! ^ 0x10;
      await expect(read(spoiled, 65_536), `byte ${at}`).rejects.toMatchObject({
        code: expect.stringMatching(/ARCHIVE_DAMAGED|FORMAT_UNSUPPORTED/),
      });
    }
  });
});

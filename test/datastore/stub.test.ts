import { execFileSync } from 'node:child_process';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { registerStub } from '../../src/cli/stub-command.ts';
import { notPlainReason, parseDescriptor } from '../../src/datastore/descriptor.ts';
import { geometryOf } from '../../src/datastore/geometry.ts';
import { makeStub, stubNameOf, writeStub } from '../../src/datastore/stub.ts';
import { requirePeer } from '../support/peers.ts';

async function qemuImg(...args: string[]): Promise<string> {
  const { path, env } = await requirePeer('qemu-img');
  return execFileSync(path, args, { env, encoding: 'utf8' });
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'phd-stub-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function sparseFile(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
  return path;
}

describe('geometry', () => {
  it.each([
    [10485760, false, { cylinders: 652, heads: 255, sectors: 63 }],
    [67108864, false, { cylinders: 4177, heads: 255, sectors: 63 }],
    [14336000, true, { cylinders: 14222, heads: 16, sectors: 63 }],
    [27648000, true, { cylinders: 16383, heads: 16, sectors: 63 }],
    [1023 * 2048, false, { cylinders: 1023, heads: 64, sectors: 32 }],
    [1023 * 2048 + 1, false, { cylinders: 511, heads: 128, sectors: 32 }],
    [2046 * 2048, false, { cylinders: 1023, heads: 128, sectors: 32 }],
    [2046 * 2048 + 1, false, { cylinders: 260, heads: 255, sectors: 63 }],
    [1, false, { cylinders: 1, heads: 64, sectors: 32 }],
  ])('of %d sectors, IDE %s', (sectors, isIde, expected) => {
    expect(geometryOf(sectors * 512, isIde)).toEqual(expected);
  });
});

describe('a stub', () => {
  it('for ESX is a plain vmfs descriptor of its flat', () => {
    const text = makeStub({
      type: 'vmfs',
      flatName: 'Fedora_VM1-flat.vmdk',
      diskBytes: 5368709120,
      adapterType: null,
    });
    const descriptor = parseDescriptor(Buffer.from(text), 'stub');
    expect(notPlainReason(descriptor)).toBeNull();
    expect(text).toContain('\nRW 10485760 VMFS "Fedora_VM1-flat.vmdk"\n');
    expect(Object.fromEntries(descriptor.ddb)).toEqual({
      virtualhwversion: '4',
      'geometry.cylinders': '652',
      'geometry.heads': '255',
      'geometry.sectors': '63',
      adaptertype: 'lsilogic',
    });
  });

  it.each([
    [['ide', 'ide']],
    [['BusLogic', 'buslogic']],
    [['legacyESX', 'legacyESX']],
    [['pvscsi', 'lsilogic']],
    [['"; rm', 'lsilogic']],
  ])('writes only adapters VMware reads: %j', ([given, written]) => {
    const text = makeStub({ type: 'vmfs', flatName: 'a-flat.vmdk', diskBytes: 512, adapterType: given! });
    expect(text).toContain(`ddb.adapterType = "${written}"`);
  });

  it('names its encoding only where the name needs one', () => {
    const stub = (flatName: string) =>
      makeStub({ type: 'vmfs', flatName, diskBytes: 512, adapterType: null });
    expect(stub('a-flat.vmdk')).not.toContain('encoding');
    expect(stub('ü-flat.vmdk')).toContain('encoding="UTF-8"');
  });

  it('refuses a size that is no multiple of 512, with both figures', () => {
    expect(() =>
      makeStub({ type: 'vmfs', flatName: 'a-flat.vmdk', diskBytes: 1300, adapterType: null }),
    ).toThrow(/1300 bytes.*1024/);
  });

  it('is named after its flat', () => {
    expect(stubNameOf('CRM-flat.vmdk')).toBe('CRM.vmdk');
    expect(stubNameOf('disk.img')).toBe('disk.vmdk');
    expect(() => stubNameOf('CRM.vmdk')).toThrow(/NAME-flat.vmdk/);
  });
});

describe('writing a stub', () => {
  it('makes a disk that qemu-img reads bit for bit', async () => {
    const flat = sparseFile('odd $(name) ü-flat.vmdk', 3 * 1024 * 1024);
    writeFileSync(flat, Buffer.alloc(70_000, 'phd'), { flag: 'r+' });
    const stub = await writeStub(flat, 'monolithicFlat', null);
    const info = JSON.parse(await qemuImg('info', '--output=json', stub));
    expect(info).toMatchObject({ format: 'vmdk', 'virtual-size': 3 * 1024 * 1024 });
    expect(info['format-specific'].data['create-type']).toBe('monolithicFlat');
    const raw = join(folder, 'out.raw');
    await qemuImg('convert', '-f', 'vmdk', '-O', 'raw', stub, raw);
    expect(readFileSync(raw).equals(readFileSync(flat))).toBe(true);
  });

  it('makes a vmfs stub that qemu-img reads too', async () => {
    const stub = await writeStub(sparseFile('a-flat.vmdk', 2 * 1024 * 1024), 'vmfs', 'ide');
    const info = JSON.parse(await qemuImg('info', '--output=json', stub));
    expect(info).toMatchObject({ format: 'vmdk', 'virtual-size': 2 * 1024 * 1024 });
  });

  it('gives it mode 0600 and leaves nothing else behind', async () => {
    const stub = await writeStub(sparseFile('a-flat.vmdk', 512), 'vmfs', null);
    expect(statSync(stub).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder).sort()).toEqual(['a-flat.vmdk', 'a.vmdk']);
  });

  it('never replaces a descriptor that is there', async () => {
    const flat = sparseFile('a-flat.vmdk', 512);
    writeFileSync(join(folder, 'a.vmdk'), 'mine');
    await expect(writeStub(flat, 'vmfs', null)).rejects.toMatchObject({ code: 'EXISTS' });
    expect(readFileSync(join(folder, 'a.vmdk'), 'utf8')).toBe('mine');
    expect(readdirSync(folder).sort()).toEqual(['a-flat.vmdk', 'a.vmdk']);
  });

  it('never writes through a dangling symbolic link', async () => {
    const flat = sparseFile('a-flat.vmdk', 512);
    symlinkSync('elsewhere', join(folder, 'a.vmdk'));
    await expect(writeStub(flat, 'vmfs', null)).rejects.toMatchObject({ code: 'EXISTS' });
    expect(readdirSync(folder).sort()).toEqual(['a-flat.vmdk', 'a.vmdk']);
  });

  it.each([
    ['a missing flat', 'none-flat.vmdk', 'NOT_FOUND'],
    ['a descriptor taken for a flat', 'text-flat.vmdk', 'FORMAT_UNSUPPORTED'],
    ['a sparse disk', 'sparse-flat.vmdk', 'FORMAT_UNSUPPORTED'],
    ['a cut flat', 'cut-flat.vmdk', 'FORMAT_UNSUPPORTED'],
    ['an empty flat', 'empty-flat.vmdk', 'FORMAT_UNSUPPORTED'],
  ])('refuses %s', async (_what, name, code) => {
    writeFileSync(join(folder, 'text-flat.vmdk'), '# Disk DescriptorFile\n'.padEnd(512));
    writeFileSync(join(folder, 'sparse-flat.vmdk'), 'KDMV'.padEnd(512, '\0'));
    sparseFile('cut-flat.vmdk', 1000);
    sparseFile('empty-flat.vmdk', 0);
    await expect(writeStub(join(folder, name), 'vmfs', null)).rejects.toMatchObject({ code });
    expect(readdirSync(folder).filter((file) => !file.includes('-flat'))).toEqual([]);
  });
});

describe('phd stub', () => {
  let printed: string[];
  const run = (...words: string[]) => {
    printed = [];
    const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
    registerStub(program, { print: (line) => void printed.push(line) }, writeStub);
    return program.parseAsync(words, { from: 'user' });
  };

  it('writes the kind of stub that is asked for', async () => {
    const flat = sparseFile('a-flat.vmdk', 1024);
    await run('stub', flat, '--type', 'monolithicFlat', '--adapter', 'ide');
    expect(printed).toEqual([join(folder, 'a.vmdk')]);
    const text = readFileSync(join(folder, 'a.vmdk'), 'utf8');
    expect(text).toContain('createType="monolithicFlat"');
    expect(text).toContain('ddb.adapterType = "ide"');
  });

  it('writes one for ESX by default, and passes errors on', async () => {
    const flat = sparseFile('a-flat.vmdk', 1024);
    await run('stub', flat);
    expect(readFileSync(join(folder, 'a.vmdk'), 'utf8')).toContain('createType="vmfs"');
    await expect(run('stub', flat)).rejects.toMatchObject({ code: 'EXISTS' });
    await expect(run('stub', flat, '--type', 'thin')).rejects.toMatchObject({
      code: 'commander.invalidArgument',
    });
  });
});

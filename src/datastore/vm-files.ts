/** The small files of a VM that go into an archive beside its disks. */
import type { Dirent } from 'node:fs';
import { basename, join } from 'node:path';
import { fromErrno } from '../errors.ts';
import { statInFolder } from './descriptor-file.ts';
import { isPlainName, shownName } from './plain-name.ts';
import type { SourceDisk } from './source-disk.ts';

export interface VmFile {
  kind: 'vmx' | 'vmxf' | 'vmsd' | 'nvram' | 'log' | 'descriptor';
  name: string;
  path: string;
  /** Of a file that does not lie at a local path. */
  bytes?: Buffer;
  sizeBytes: number;
}

/** Larger files are left out with a notice: a log can grow without end, the others never do. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;
const MAX_LOGS = 100;
const KIND_ORDER: VmFile['kind'][] = ['vmx', 'vmxf', 'vmsd', 'nvram', 'log', 'descriptor'];

interface Named {
  vmxName: string | undefined;
  nvramName: string | undefined;
}

function kindOf(name: string, { vmxName, nvramName }: Named): VmFile['kind'] | null {
  if (name === vmxName) return 'vmx';
  if (name === nvramName) return 'nvram';
  const extension = /\.(vmxf|vmsd|nvram|log)$/i.exec(name)?.[1]?.toLowerCase();
  return (extension as VmFile['kind'] | undefined) ?? null;
}

/**
 * VMX, `.vmxf`, `.vmsd`, NVRAM, logs and the descriptors of the disks, in this order.
 * @param vm its disks are read, its notices gain a line for each file left out
 */
export async function collectVmFiles(
  folder: string,
  entries: readonly Dirent[],
  named: Named,
  vm: { disks: readonly SourceDisk[]; notices: string[] },
): Promise<VmFile[]> {
  const wanted: { kind: VmFile['kind']; path: string }[] = [];
  for (const { name } of entries) {
    const kind = isPlainName(name) ? kindOf(name, named) : null;
    if (kind) wanted.push({ kind, path: join(folder, name) });
  }
  const logs = wanted.filter(({ kind }) => kind === 'log');
  if (logs.length > MAX_LOGS)
    vm.notices.push(`${logs.length - MAX_LOGS} logs are left out: more than ${MAX_LOGS}`);
  const spare = new Set(logs.slice(MAX_LOGS));
  for (const disk of vm.disks)
    if (disk.descriptorPath) wanted.push({ kind: 'descriptor', path: disk.descriptorPath });
  const files: VmFile[] = [];
  for (const { kind, path } of wanted.filter((file) => !spare.has(file))) {
    try {
      const { size } = await statInFolder(path);
      if (size > MAX_FILE_BYTES) {
        vm.notices.push(
          `${shownName(basename(path))} is left out: ${size} bytes, more than ${MAX_FILE_BYTES}`,
        );
      } else files.push({ kind, name: basename(path), path, sizeBytes: size });
    } catch (error) {
      vm.notices.push(
        `${shownName(basename(path))} is left out: ${fromErrno(error, 'not readable').message}`,
      );
    }
  }
  return files.sort((a, b) => KIND_ORDER.indexOf(a.kind) - KIND_ORDER.indexOf(b.kind));
}

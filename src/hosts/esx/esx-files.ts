/** Small files of a VM on an ESX host. */
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import type { VmFile } from '../../datastore/vm-files.ts';
import { fromErrno } from '../../errors.ts';
import { shellQuoted, shellWord } from '../../storage/shell-word.ts';
import type { EsxShell } from './esx-shell.ts';

const MAX_FILE_BYTES = 16 * 1024 * 1024;
const MAX_LOGS = 100;
const KIND_ORDER: VmFile['kind'][] = ['vmx', 'vmxf', 'vmsd', 'nvram', 'log', 'descriptor'];

/** A file of at most 1 MiB (what is longer is cut). Throws TARGET_*, LOCKED, CANCELLED. */
export async function readSmall(shell: EsxShell, path: string, signal?: AbortSignal): Promise<Buffer> {
  return await shell.output(`dd if=${shellWord(path)} bs=65536 count=16`, `cannot read ${shownName(path)}`, {
    signal,
  });
}

/** Plain files of a folder with their sizes. Throws TARGET_*, CANCELLED. */
export async function listFolder(
  shell: EsxShell,
  folder: string,
  signal?: AbortSignal,
): Promise<{ name: string; sizeBytes: number }[]> {
  const script =
    `cd ${shellQuoted(folder)} && for f in *; do if [ -f "$f" ] && [ ! -L "$f" ]; ` +
    `then printf '%s/%s\\0' "$(stat -c %s "./$f")" "$f"; fi; done`;
  const text = (await shell.output(script, `cannot list ${shownName(folder)}`, { signal })).toString('utf8');
  return text.split('\0').flatMap((entry) => {
    const [, size, name] = /^(\d+)\/(.+)$/s.exec(entry) ?? [];
    return size === undefined || name === undefined || !isPlainName(name)
      ? []
      : [{ name, sizeBytes: Number(size) }];
  });
}

/** VMX, `.vmxf`, `.vmsd`, NVRAM and logs; what cannot be read is told in `notices`, but for the VMX, which was read. */
export async function collectEsxFiles(
  shell: EsxShell,
  folder: string,
  vmx: { name: string; bytes: Buffer; nvramName: string | undefined },
  notices: string[],
  signal?: AbortSignal,
): Promise<VmFile[]> {
  const files: VmFile[] = [
    {
      kind: 'vmx',
      name: vmx.name,
      path: `${folder}/${vmx.name}`,
      bytes: vmx.bytes,
      sizeBytes: vmx.bytes.length,
    },
  ];
  let logs = 0;
  for (const { name, sizeBytes } of await listFolder(shell, folder, signal)) {
    const ending = /\.(vmxf|vmsd|nvram|log)$/i.exec(name)?.[1]?.toLowerCase();
    const kind = name === vmx.nvramName ? 'nvram' : (ending as VmFile['kind'] | undefined);
    if (kind === undefined || name === vmx.name) continue;
    if (kind === 'log' && ++logs > MAX_LOGS) continue;
    const path = `${folder}/${name}`;
    try {
      if (sizeBytes > MAX_FILE_BYTES) throw new Error(`${sizeBytes} bytes, more than ${MAX_FILE_BYTES}`);
      const bytes = await shell.output(`cat ${shellWord(path)}`, 'not readable', {
        maxBytes: 2 * MAX_FILE_BYTES,
        signal,
      });
      files.push({ kind, name, path, bytes, sizeBytes: bytes.length });
    } catch (error) {
      const failure = fromErrno(error, shownName(name));
      if (failure.code === 'CANCELLED' || failure.code === 'TARGET_UNREACHABLE') throw failure;
      notices.push(`${shownName(name)} is left out: ${failure.message}`);
    }
  }
  if (logs > MAX_LOGS) notices.push(`${logs - MAX_LOGS} logs are left out: more than ${MAX_LOGS}`);
  return files.sort((a, b) => KIND_ORDER.indexOf(a.kind) - KIND_ORDER.indexOf(b.kind));
}

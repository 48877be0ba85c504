/** Archives of devices whose sectors could not all be read: good archives of an image that lacks something. */
import type { DeltaManifest } from '../archive/manifest.ts';

/** Warns where zeros stand for sectors of the source. `archive` as messages name it. */
export function warnIncomplete(
  manifest: Pick<DeltaManifest, 'unreadableSectors' | 'disk' | 'files'>,
  archive: string,
  onWarning: ((message: string) => void) | undefined,
): void {
  const { unreadableSectors, disk, files } = manifest;
  if (unreadableSectors === 0) return;
  const list = files.find(({ name }) => name.endsWith('.unreadable.log'))?.name;
  const named = list === undefined ? '' : `; its file ${list} names them (phd vmx)`;
  onWarning?.(
    `${archive} is incomplete: ${unreadableSectors} sectors of ${disk} could not be read when it was made and are zeros${named}`,
  );
}

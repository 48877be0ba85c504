/** Where a backup goes that names no target. */
import type { Config } from '../model/config.ts';

/** `backup.target`, else the lowest number that may be written; null: there is none. */
export function defaultTarget({ backup, targets }: Pick<Config, 'backup' | 'targets'>): number | null {
  const writable = targets.filter(({ readOnly }) => !readOnly).map(({ number }) => number);
  return backup.target ?? (writable.length === 0 ? null : Math.min(...writable));
}

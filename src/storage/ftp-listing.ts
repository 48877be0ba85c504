/** Entries out of what an FTP server answers to MLSD or LIST. */
import { type FileInfo, FileType } from 'basic-ftp';
import { isEntryName } from './remote-path.ts';
import type { StorageEntry } from './storage.ts';

/** Parses line by line, so that one strange line costs itself only. */
export function parseLines(
  raw: string,
  parse: (raw: string) => FileInfo[],
): { entries: StorageEntry[]; badLines: number } {
  const entries: StorageEntry[] = [];
  let badLines = 0;
  for (const line of raw.split(/\r?\n/)) {
    if (line.trim() === '' || /^total \d+$/.test(line)) continue;
    let parsed: FileInfo[];
    try {
      parsed = parse(line);
    } catch {
      badLines += 1;
      continue;
    }
    for (const info of parsed) {
      const entry = entryOf(info);
      if (entry === undefined) badLines += 1;
      else if (isEntryName(entry.name)) entries.push(entry);
    }
  }
  return { entries, badLines };
}

function entryOf(info: FileInfo): StorageEntry | undefined {
  const isFile = info.type === FileType.File;
  if (isFile && !(Number.isSafeInteger(info.size) && info.size >= 0)) return undefined;
  const kind = isFile ? 'file' : info.type === FileType.Directory ? 'folder' : 'other';
  // Only MLSD gives UTC; LIST has neither zone nor (for recent files) a year.
  const time = info.modifiedAt?.getTime();
  const modifiedMs = time !== undefined && Number.isFinite(time) ? time : null;
  const { rawModifiedAt } = info;
  return {
    name: info.name,
    kind,
    sizeBytes: isFile ? info.size : 0,
    modifiedMs,
    ...(modifiedMs === null && rawModifiedAt !== '' ? { shownTime: rawModifiedAt } : {}),
  };
}

/** Which VMs an entry names: one name, a glob, or a regular expression that never takes longer than the name is long. */
import { RE2JS } from 're2js';
import { PhdError } from '../errors.ts';
import { globMatches, hasWildcard } from '../model/glob.ts';

export interface VmPattern {
  /** As it was written, without `:keep`. */
  text: string;
  /** One name, not a pattern: it must exist, and what it says comes before what patterns say. */
  isName: boolean;
  /** So many backups of these VMs are kept; null: as the job says. */
  keep: number | null;
  matches(name: string): boolean;
}

const KEEP = /^(.*):(\d{1,5})$/s;
/** What RE2 has not, for it could take for ever. */
const LOOKAROUND = /\(\?(?:<?[=!])/;
const BACK_REFERENCE = /(?:^|[^\\])(?:\\\\)*(?:\\[1-9]|\(\?P=)/;
const MAX_PATTERN = 1000;

/** An entry of a backup job: `web1`, `web*`, `/^web-\d+$/`, each with `:keep` behind it. Throws CONFIG_INVALID. */
export function parseEntry(entry: string): VmPattern {
  const { text, keep } = splitKeep(entry);
  const [, body] = /^\/(.*)\/$/s.exec(text) ?? [];
  if (body !== undefined) {
    const compiled = compile(body, entry);
    return { text, keep, isName: false, matches: (name) => compiled.matcher(name).matches() };
  }
  if (hasWildcard(text)) return { text, keep, isName: false, matches: (name) => globMatches(text, name) };
  return { text, keep, isName: true, matches: (name) => name === text };
}

/** Letters, digits, blank, dash and underscore alone are a name in NAUbackup files; all else is a pattern. */
const NAU_NAME = /^[A-Za-z0-9 _-]+$/;

/** An entry of a NAUbackup file: a name, or a regular expression that must match from the name's begin. Throws CONFIG_INVALID. */
export function parseNauEntry(entry: string): VmPattern {
  const { text, keep } = splitKeep(entry);
  if (NAU_NAME.test(text)) return { text, keep, isName: true, matches: (name) => name === text };
  // `\Z` is Python's end of text.
  const compiled = compile(text.replaceAll('\\Z', '\\z'), entry);
  return { text, keep, isName: false, matches: (name) => compiled.matcher(name).lookingAt() };
}

function splitKeep(entry: string): { text: string; keep: number | null } {
  const [, text = entry, keep] = KEEP.exec(entry) ?? [];
  if (text === '' || text.length > MAX_PATTERN)
    throw new PhdError('CONFIG_INVALID', `${JSON.stringify(entry)}: expected the name of a VM or a pattern`);
  if (keep !== undefined && Number(keep) < 1)
    throw new PhdError('CONFIG_INVALID', `${JSON.stringify(entry)}: at least one backup must be kept`);
  return { text, keep: keep === undefined ? null : Number(keep) };
}

function compile(body: string, entry: string): RE2JS {
  const refused = LOOKAROUND.test(body)
    ? 'lookaround'
    : BACK_REFERENCE.test(body)
      ? 'back-references'
      : undefined;
  if (refused !== undefined) {
    const words = `${JSON.stringify(entry)}: ${refused} cannot be used, for a name could then take for ever`;
    throw new PhdError('CONFIG_INVALID', words);
  }
  try {
    return RE2JS.compile(body);
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    throw new PhdError('CONFIG_INVALID', `${JSON.stringify(entry)} is no regular expression: ${why}`, {
      cause: error,
    });
  }
}

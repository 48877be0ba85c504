/** Paths on a target: relative, joined by `/`; what could leave the root or split a command is refused. */
import { PhdError } from '../errors.ts';

/** C0 controls (CR, LF and NUL among them) and DEL. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/** Text as people may see it: controls, C1 and bidirectional marks as `\xHH` or `\u{H}`. */
export function shownPath(path: string): string {
  return path.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]/g,
    (character) => {
      const code = character.codePointAt(0) ?? 0;
      return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
    },
  );
}

/** True for a single path part that a target may really hold: not empty, `.`, `..`, nor with `/` or NUL. */
export function isEntryName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\u0000]/.test(name);
}

/** Checks a path of the contract; `''` is the root. Throws USAGE. */
export function checkPath(path: string): string {
  if (path === '') return path;
  const refuse = (why: string): never => {
    throw new PhdError('USAGE', `path "${shownPath(path)}" on a target is refused: ${why}`);
  };
  if (CONTROL.test(path)) refuse('it holds control characters');
  if (path.includes('\ufffd')) refuse('its name is not valid UTF-8');
  if (path.startsWith('/')) refuse('it must be relative');
  for (const part of path.split('/')) {
    if (part === '') refuse('it holds an empty part');
    if (part === '.' || part === '..') refuse(`it holds "${part}"`);
  }
  return path;
}

/** Joins the target's root and a checked path. */
export function joinPath(root: string, path: string): string {
  checkPath(path);
  const base = root.replace(/\/+$/, '');
  if (path === '') return base === '' ? root || '.' : base;
  if (base === '') return root.startsWith('/') ? `/${path}` : path;
  return `${base}/${path}`;
}

/** Folder part of a relative path, `''` at the top. */
export function parentPath(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
}

export function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** What counts as the name of a file beside a descriptor or VMX: one path part, nothing that leads elsewhere. */

const MAX_NAME_BYTES = 255;

/**
 * True for a single path part that can stand in a folder: no separator of any system, no control
 * character, not `.` or `..`, at most 255 bytes of UTF-8.
 */
export function isPlainName(name: string): boolean {
  return (
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    !/[/\\\u0000-\u001f\u007f-\u009f]/.test(name) &&
    Buffer.byteLength(name) <= MAX_NAME_BYTES
  );
}

/** A hostile name made fit for one line of a message: control and direction characters as `\xHH`, at most 120 long. */
export function shownName(name: string): string {
  const safe = name.replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return safe.length > 120 ? `${safe.slice(0, 117)}...` : safe;
}

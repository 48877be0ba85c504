/**
 * Disks that the `ova.xml` of an XVA names: its objects, values of XML-RPC, each with `class`, `id` (`Ref:12`, as the pieces are
 * called) and `snapshot`, its record (xapi's export format, version 2).
 */

const MAX_OBJECTS = 100_000;

/** Bytes of each disk by reference, drives left out; null where the text tells none: then nothing can be compared. */
export function disksOfOva(xml: string): Map<string, number> | null {
  const objects = xml
    .replace(/>[ \t\r\n]+</g, '><')
    .split('<member><name>class</name>', MAX_OBJECTS)
    .map((text) => ({ kind: valueAt(text, ''), id: fieldOf(text, 'id'), text }));
  const sizes = new Map<string, number>();
  for (const { kind, id, text } of objects) {
    const size = kind === 'VDI' ? fieldOf(text, 'virtual_size') : undefined;
    if (id !== undefined && size !== undefined && /^\d{1,15}$/.test(size)) sizes.set(id, Number(size));
  }
  const disks = new Map<string, number>();
  for (const { kind, text } of objects) {
    if (kind !== 'VBD' || fieldOf(text, 'type') !== 'Disk') continue;
    const ref = fieldOf(text, 'VDI') ?? '';
    const size = sizes.get(ref);
    if (size !== undefined) disks.set(ref, size);
  }
  return disks.size === 0 ? null : disks;
}

function fieldOf(text: string, name: string): string | undefined {
  const at = text.indexOf(`<name>${name}</name>`);
  return at < 0 ? undefined : valueAt(text.slice(at, at + 512), `<name>${name}</name>`);
}

/** The plain value that follows; a type around it does not matter. */
function valueAt(text: string, before: string): string | undefined {
  return /^<value>(?:<(?:string|i4|int)>)?([^<]{1,200})</.exec(text.slice(before.length))?.[1];
}

/** XVA files as the simulated pool writes and reads them: a tar of `ova.xml` and pieces of 1 MiB with their checksums. */
import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import xxhash from 'xxhash-wasm';
import type { SimDisk } from './sim-disk.ts';
import { XenRefusal } from './xen-db.ts';

const PIECE_BYTES = 1024 * 1024;

export interface SimXva {
  /** Of `ova.xml`; here JSON in an element, where the real one has values of XML-RPC, as it has here for disks alone. */
  metadata: unknown;
  disks: { ref: string; disk: SimDisk }[];
}

export function ovaXml(metadata: unknown): Buffer {
  const text = JSON.stringify(metadata).replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const { vbds = [] } = metadata as {
    vbds?: { vbd: { type: string }; vdi: { virtual_size: unknown } | null }[];
  };
  const objects = vbds.flatMap(({ vbd, vdi }, at) => [
    ...(vdi === null ? [] : [objectOf('VDI', `Ref:${at}`, { virtual_size: String(vdi.virtual_size) })]),
    objectOf('VBD', `Ref:9${at}`, { VDI: vdi === null ? 'OpaqueRef:NULL' : `Ref:${at}`, type: vbd.type }),
  ]);
  return Buffer.from(
    `<value><struct>${memberOf('simulated', text)}${memberOf('objects', `<array><data>${objects.join('')}</data></array>`)}</struct></value>`,
  );
}

const memberOf = (name: string, value: string): string =>
  `<member><name>${name}</name> <value>${value}</value></member>\n`;

function objectOf(kind: string, id: string, record: Record<string, string>): string {
  const fields = Object.entries(record).map(([name, value]) => memberOf(name, value));
  const members = [
    memberOf('class', kind),
    memberOf('id', id),
    memberOf('snapshot', `<struct>${fields.join('')}</struct>`),
  ];
  return `<value><struct>${members.join('')}</struct></value>`;
}

function metadataOf(xml: string): unknown {
  const text = /<name>simulated<\/name> <value>([^<]*)<\/value>/.exec(xml)?.[1] ?? '';
  return JSON.parse(text.replaceAll('&lt;', '<').replaceAll('&amp;', '&'));
}

export async function packXva(
  { metadata, disks }: SimXva,
  kind: 'checksum' | 'xxhash',
  isGzip: boolean,
): Promise<Buffer> {
  const { h64Raw } = await xxhash();
  const pack = tar.pack();
  const parts: Buffer[] = [];
  const read = (async () => {
    for await (const part of pack) parts.push(part as Buffer);
  })();
  pack.entry({ name: 'ova.xml' }, ovaXml(metadata));
  for (const { ref, disk } of disks) {
    const last = Math.ceil(disk.sizeBytes / PIECE_BYTES) - 1;
    for (let number = 0; number <= last; number++) {
      const bytes = disk.read(number * PIECE_BYTES, PIECE_BYTES);
      if (number !== 0 && number !== last && !bytes.some((byte) => byte !== 0)) continue;
      const name = `${ref}/${String(number).padStart(8, '0')}`;
      pack.entry({ name }, bytes);
      const sum =
        kind === 'checksum'
          ? createHash('sha1').update(bytes).digest('hex')
          : h64Raw(bytes).toString(16).padStart(16, '0');
      pack.entry({ name: `${name}.${kind}` }, sum);
    }
  }
  pack.finalize();
  await read;
  const whole = Buffer.concat(parts);
  return isGzip ? gzipSync(whole, { level: 1 }) : whole;
}

/** Disks by reference: the pieces that are there. Throws XenRefusal as the real one does. */
export async function unpackXva(
  file: Buffer,
  isForced: boolean,
): Promise<{ metadata: unknown; disks: Map<string, Map<number, Buffer>> }> {
  const { h64Raw } = await xxhash();
  const extract = tar.extract();
  extract.end(file[0] === 0x1f ? gunzipSync(file) : file);
  let metadata: unknown;
  const disks = new Map<string, Map<number, Buffer>>();
  let last = Buffer.alloc(0);
  for await (const entry of extract) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    const bytes = Buffer.concat(parts);
    const [, ref = '', number = '', kind] = /^(Ref:\d+)\/(\d{8})(\.\w+)?$/.exec(entry.header.name) ?? [];
    if (entry.header.name === 'ova.xml') metadata = metadataOf(bytes.toString());
    else if (kind === undefined) {
      const pieces = disks.get(ref) ?? new Map<number, Buffer>();
      disks.set(ref, pieces.set(Number(number), bytes));
      last = bytes;
    } else {
      const sum =
        kind === '.checksum'
          ? createHash('sha1').update(last).digest('hex')
          : h64Raw(last).toString(16).padStart(16, '0');
      if (!isForced && sum !== bytes.toString()) throw new XenRefusal('IMPORT_ERROR_SOME_CHECKSUMS_FAILED');
    }
  }
  return { metadata, disks };
}

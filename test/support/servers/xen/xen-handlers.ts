/** Export and import handlers of the simulated pool. */
import tar from 'tar-stream';
import { SimDisk } from './sim-disk.ts';
import { ovaXml, packXva, unpackXva } from './sim-xva.ts';
import { NULL_REF, type XenDb, type XenRecord, XenRefusal } from './xen-db.ts';

export type Words = ReadonlyMap<string, string>;

/** What a handler gives: an HTTP status, and the body of an export. */
export interface Served {
  status: number;
  body: Iterable<Buffer>;
}

/** Bytes of an upload, and what the task is to say. */
export type Taken = (db: XenDb, words: Words, body: Buffer) => Promise<string>;

export interface HandlerOptions {
  xvaChecksum: 'checksum' | 'xxhash';
  hasVhd: boolean;
}

const OK = (body: Iterable<Buffer>): Served => ({ status: 200, body });

export const DOWNLOADS: Record<
  string,
  (db: XenDb, words: Words, options: HandlerOptions) => Served | Promise<Served>
> = {
  '/export': async (db, words, { xvaChecksum }) => {
    const ref = vmOf(db, words);
    const vm = db.get('VM', ref);
    if (vm.power_state === 'Running') throw new XenRefusal('VM_BAD_POWER_STATE', ref, 'halted', 'running');
    const { metadata, vdis } = metadataOf(db, ref);
    const disks = vdis.map((vdi, at) => ({ ref: `Ref:${at}`, disk: db.disks.get(vdi)! }));
    const isGzip = words.get('use_compression') === 'true';
    return OK([await packXva({ metadata, disks }, xvaChecksum, isGzip)]);
  },
  '/export_metadata': async (db, words) => {
    const pack = tar.pack();
    pack.entry({ name: 'ova.xml' }, ovaXml(metadataOf(db, vmOf(db, words)).metadata));
    pack.finalize();
    const parts: Buffer[] = [];
    for await (const part of pack) parts.push(part as Buffer);
    return OK(parts);
  },
  '/export_raw_vdi': (db, words, { hasVhd }) => {
    const format = words.get('format') ?? 'raw';
    const ref = vdiOf(db, words);
    if (db.isAttached(ref)) throw new XenRefusal('VDI_IN_USE', ref, 'data_export');
    const disk = db.disks.get(ref)!;
    if (format === 'raw') return OK(disk.raw());
    if (format !== 'vhd') return { status: 404, body: [] };
    if (!hasVhd) throw new XenRefusal('VDI_TOO_LARGE', ref, String(disk.sizeBytes));
    return OK(disk.vhd());
  },
  '/pool/xmldbdump': (db) =>
    OK([
      Buffer.from(
        `<?xml version="1.0" encoding="UTF-8"?>\n<database><pool>${db.one('pool')}</pool></database>\n`,
      ),
    ]),
};

export const UPLOADS: Record<string, Taken> = {
  '/import_raw_vdi': async (db, words, body) => {
    const ref = vdiOf(db, words);
    const disk = db.disks.get(ref)!;
    if (words.get('format') === 'vhd') disk.takeVhd(body);
    else disk.write(0, body);
    return '';
  },
  /** Of a VM whose disks are there. */
  '/import_metadata': async (db, words, body) => {
    const { metadata } = await unpackXva(body, true);
    const { vm, vbds, vifs } = metadata as { vm: XenRecord; vbds: { vbd: XenRecord }[]; vifs: XenRecord[] };
    const ref = db.createVm({ ...vm, power_state: 'Halted' });
    for (const { vbd } of vbds) {
      if (vbd.VDI !== NULL_REF) db.get('VDI', vbd.VDI);
      db.createVbd({ ...vbd, VM: ref, attached: false });
    }
    for (const vif of vifs)
      db.createVif({ ...vif, VM: ref, MAC: words.get('restore') === 'true' ? vif.MAC : '' });
    return `<value><array><data><value>${ref}</value></data></array></value>`;
  },
  '/import': async (db, words, body) => {
    const { metadata, disks } = await unpackXva(body, words.get('force') === 'true');
    const { vm, vbds, vifs } = metadata as { vm: XenRecord; vbds: XenRecord[]; vifs: XenRecord[] };
    const isRestore = words.get('restore') === 'true';
    const sr = words.get('sr_id') ?? db.get('pool', db.one('pool')).default_SR;
    if (sr === NULL_REF) throw new XenRefusal('DEFAULT_SR_NOT_FOUND', NULL_REF);
    const ref = db.createVm({ ...vm, power_state: 'Halted' });
    if (isRestore) db.get('VM', ref).uuid = vm.uuid;
    for (const [at, { vbd, vdi }] of (vbds as { vbd: XenRecord; vdi: XenRecord | null }[]).entries()) {
      let made = NULL_REF;
      if (vdi !== null) {
        made = db.createVdi({ ...vdi, SR: sr });
        const disk = db.disks.get(made) ?? new SimDisk(0);
        for (const [number, bytes] of disks.get(`Ref:${at}`) ?? []) disk.write(number * 1_048_576, bytes);
      }
      db.createVbd({ ...vbd, VM: ref, VDI: made });
    }
    for (const vif of vifs) db.createVif({ ...vif, VM: ref, MAC: isRestore ? vif.MAC : '' });
    return `<value><array><data><value>${ref}</value></data></array></value>`;
  },
};

/** Disks come first, so that `Ref:N` counts them. */
function metadataOf(db: XenDb, ref: string): { metadata: unknown; vdis: string[] } {
  const vm = db.get('VM', ref);
  const vbds = (vm.VBDs as string[])
    .map((one) => db.get('VBD', one))
    .sort((a, b) => Number(a.VDI === NULL_REF) - Number(b.VDI === NULL_REF));
  const vdis = vbds.map(({ VDI }) => String(VDI)).filter((one) => one !== NULL_REF);
  const metadata = {
    vm,
    vbds: vbds.map((vbd) => ({ vbd, vdi: vbd.VDI === NULL_REF ? null : db.get('VDI', vbd.VDI) })),
    vifs: (vm.VIFs as string[]).map((one) => db.get('VIF', one)),
  };
  return { metadata, vdis };
}

function vmOf(db: XenDb, words: Words): string {
  const ref = words.get('ref') ?? db.byUuid('VM', words.get('uuid'));
  db.get('VM', ref);
  return ref;
}

function vdiOf(db: XenDb, words: Words): string {
  const word = words.get('vdi') ?? '';
  if (word.startsWith('OpaqueRef:')) db.get('VDI', word);
  return word.startsWith('OpaqueRef:') ? word : db.byUuid('VDI', word);
}

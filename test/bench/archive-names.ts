/** Names of VMs, runs and archives as a large site has them; the same in each run. */
import { createHash } from 'node:crypto';
import { printArchiveName, printFolderName } from '../../src/archive/names.ts';
import type { ArchiveName, Stamp } from '../../src/model/archive.ts';

const ROLES = (
  'exchange SQL web dc FileServer app CRM erp print test citrix-ts Büro oracle proxy mail dns dhcp ' +
  'backup monitor wiki git build jira vpn radius sharepoint intranet archive scan fax voip license ' +
  'wsus antivirus report cube staging demo template kiosk'
).split(' ');
const SITES = (
  'berlin hamburg münchen köln wien zürich paris lyon london leeds oslo malmö aarhus gent porto ' +
  'madrid roma torino athens tallinn riga vilnius brno gdańsk austin'
).split(' ');

/** Name of the n-th VM; all differ. */
export function vmName(n: number): string {
  const role = ROLES[n % ROLES.length] ?? '';
  const site = SITES[Math.floor(n / ROLES.length) % SITES.length] ?? '';
  const serial = Math.floor(n / (ROLES.length * SITES.length)) + 1;
  return `${role}-${site}-${String(serial).padStart(2, '0')}`;
}

export function vmUuid(n: number): string {
  const digits = createHash('sha1').update(`vm ${n}`).digest('hex');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
}

export interface BenchRun {
  vm: string;
  uuid: string;
  folder: string;
  stamp: Stamp;
  archives: { file: string; name: ArchiveName }[];
}

/** Runs of one VM with two disks: first FULLs with their empty DELTAs (4 archives), then DELTAs (2 each). */
export function* runsOfVm(n: number, runCount: number): Generator<BenchRun> {
  const vm = vmName(n);
  const uuid = vmUuid(n);
  const fullStamp = stampOf(n, 0);
  for (let run = 0; run < runCount; run++) {
    const stamp = stampOf(n, run);
    const archives = [`${vm}.vmdk`, `${vm}_1.vmdk`].flatMap((disk, at) => {
      const common = { generation: 3 as const, scsiId: `0${at}`, disk, encrypted: false, stamp, fullStamp };
      const delta: ArchiveName = { ...common, kind: 'delta', codec: null };
      return run === 0 ? [{ ...common, kind: 'full' as const, codec: 'gzip' as const }, delta] : [delta];
    });
    yield {
      vm,
      uuid,
      folder: printFolderName({ date: stamp.slice(0, 10), vm, uuid, allFulls: run === 0 }),
      stamp,
      archives: archives.map((name) => ({ file: printArchiveName(name), name })),
    };
  }
}

/** Nightly runs, one a day; VMs begin on different days of 2024 and at different minutes. */
function stampOf(n: number, run: number): Stamp {
  const minute = Date.UTC(2024, 0, 1 + (n % 300) + run, 20 + (n % 4), n % 60);
  return new Date(minute).toISOString().slice(0, 16);
}

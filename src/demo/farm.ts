/** A small farm in a folder of its own: three VMs on a datastore, two local targets, phd.yaml. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeStub } from '../engine/index.ts';
import type { DiskContent } from './disk-content.ts';

const MB = 1024 * 1024;
/** The program's own files: what the disks of the demo carry. */
const PROGRAM_FOLDER = fileURLToPath(new URL('..', import.meta.url));
const REMOVED_FILE = 'system.log';

export interface FarmDisk {
  name: string;
  flatPath: string;
  sizeBytes: number;
}

export interface FarmVm {
  name: string;
  folder: string;
  targetNumber: number;
  disks: FarmDisk[];
}

export interface Farm {
  home: string;
  vms: FarmVm[];
}

interface Plan {
  name: string;
  uuid: string;
  targetNumber: number;
  /** Size of each disk and of the large file on it, in MB. */
  disks: { name: string; sizeMb: number; fileMb: number }[];
}

const PLANS: readonly Plan[] = [
  {
    name: 'web',
    uuid: '56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 01',
    targetNumber: 1,
    disks: [{ name: 'web', sizeMb: 64, fileMb: 16 }],
  },
  {
    name: 'database',
    uuid: '56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 02',
    targetNumber: 2,
    disks: [
      { name: 'database', sizeMb: 64, fileMb: 12 },
      { name: 'database_1', sizeMb: 96, fileMb: 40 },
    ],
  },
  {
    name: 'mail',
    uuid: '56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 03',
    targetNumber: 1,
    disks: [{ name: 'mail', sizeMb: 64, fileMb: 20 }],
  },
];

/** Makes the farm in an empty home. */
export async function makeFarm(home: string, content: DiskContent, signal?: AbortSignal): Promise<Farm> {
  const datastore = path.join(home, 'datastore');
  for (const folder of ['datastore', 'target1', 'target2']) await fs.mkdir(path.join(home, folder));
  await fs.writeFile(
    path.join(home, 'phd.yaml'),
    'targets:\n' +
      '  - { number: 1, name: first,  transport: vmfs, path: target1 }\n' +
      '  - { number: 2, name: second, transport: vmfs, path: target2 }\n' +
      'datastores: [ datastore ]\n',
    { mode: 0o600 },
  );
  const vms: FarmVm[] = [];
  for (const plan of PLANS) vms.push(await makeVm(datastore, plan, content, signal));
  return { home, vms };
}

async function makeVm(
  datastore: string,
  plan: Plan,
  content: DiskContent,
  signal?: AbortSignal,
): Promise<FarmVm> {
  const folder = path.join(datastore, plan.name);
  await fs.mkdir(folder);
  const disks: FarmDisk[] = [];
  for (const { name, sizeMb, fileMb } of plan.disks) {
    const flatPath = path.join(folder, `${name}-flat.vmdk`);
    const tree = path.join(path.dirname(datastore), 'tree');
    await makeTree(tree, name, fileMb * MB);
    await content.fill(flatPath, sizeMb * MB, tree, signal);
    await fs.rm(tree, { recursive: true });
    await writeStub(flatPath, 'vmfs', 'lsilogic');
    disks.push({ name: `${name}.vmdk`, flatPath, sizeBytes: sizeMb * MB });
  }
  await fs.writeFile(path.join(folder, `${plan.name}.vmx`), vmxText(plan));
  return { name: plan.name, folder, targetNumber: plan.targetNumber, disks };
}

/** Files as a small server has them: many small ones, a log, a large one. */
async function makeTree(tree: string, name: string, fileBytes: number): Promise<void> {
  await fs.mkdir(tree);
  await fs.cp(PROGRAM_FOLDER, path.join(tree, 'program'), { recursive: true });
  await fs.writeFile(path.join(tree, 'hostname'), `${name}\n`);
  await fs.writeFile(path.join(tree, REMOVED_FILE), logText(name, 20_000));
  await fs.writeFile(path.join(tree, 'large.bin'), await partOfNode(0, fileBytes));
}

/** A real file of any size up to that of the running Node binary. */
async function partOfNode(offsetBytes: number, sizeBytes: number): Promise<Buffer> {
  const node = await fs.open(process.execPath, 'r');
  try {
    const { buffer, bytesRead } = await node.read(Buffer.alloc(sizeBytes), 0, sizeBytes, offsetBytes);
    return buffer.subarray(0, bytesRead);
  } finally {
    await node.close();
  }
}

function logText(name: string, lines: number): string {
  return Array.from({ length: lines }, (_, n) => `${name} request ${n} took ${(n * 7919) % 997} ms\n`).join(
    '',
  );
}

function vmxText(plan: Plan): string {
  const lines = [
    '.encoding = "UTF-8"',
    'config.version = "8"',
    'virtualHW.version = "4"',
    `displayName = "${plan.name}"`,
    `uuid.bios = "${plan.uuid}"`,
    'guestOS = "other26xlinux"',
    'scsi0.present = "TRUE"',
    'scsi0.virtualDev = "lsilogic"',
    ...plan.disks.flatMap(({ name }, unit) => [
      `scsi0:${unit}.present = "TRUE"`,
      `scsi0:${unit}.fileName = "${name}.vmdk"`,
      `scsi0:${unit}.deviceType = "scsi-hardDisk"`,
    ]),
  ];
  return `${lines.join('\n')}\n`;
}

/** A working day: every disk of these VMs gets a new file of 2 MB and loses its log. */
export async function changeFarm(
  farm: Farm,
  vmNames: readonly string[],
  content: DiskContent,
  signal?: AbortSignal,
): Promise<void> {
  const added = path.join(farm.home, 'new.bin');
  await fs.writeFile(added, await partOfNode(44 * MB, 2 * MB));
  for (const vm of farm.vms.filter(({ name }) => vmNames.includes(name))) {
    for (const disk of vm.disks) await content.change(disk.flatPath, added, REMOVED_FILE, signal);
  }
  await fs.rm(added);
}

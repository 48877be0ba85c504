/** Restore plans over several VMs, kept as files a person can read: `plans/NAME.yaml` beside phd.yaml. */
import { constants } from 'node:fs';
import { open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { Document, parseDocument } from 'yaml';
import { z } from 'zod';
import { writeClosedFile } from '../config/edit-config.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type { Places } from '../model/config.ts';
import { lastStampOf } from './list-archives.ts';

const plain = z.string().regex(/^[^\p{Cc}]+$/u, 'expected text without control characters');

const planSchema = z.strictObject({
  /** In the order they are restored. */
  vms: z
    .array(
      z.strictObject({
        /** Name for people. */
        vm: plain,
        /** Lower case; empty for archives that bear none: then the name counts. */
        uuid: z.string().regex(/^[0-9a-f-]{0,36}$/, 'expected a UUID'),
        /** Folder that its disks go to. */
        to: plain.refine((text) => path.isAbsolute(text), 'expected an absolute path'),
      }),
    )
    .min(1, 'expected at least one VM')
    .max(1_000),
  /** The newest complete run on or before it; without it the newest. */
  onOrBefore: z.string().refine(isDate, 'expected YYYY-MM-DD or YYYY-MM-DDTHH:MM').optional(),
  vmx: z.enum(['none', 'unchanged', 'moved', 'copy']).default('none'),
  /** Read the finished disks again. */
  verify: z.boolean().default(false),
  /** Number of the first job of its last run. */
  lastGroup: z.number().int().min(1).optional(),
});

export type RestorePlan = z.output<typeof planSchema>;
export type PlanVmx = RestorePlan['vmx'];

/** A file among the plans; `plan` is null if it is none. */
export interface SavedPlan {
  name: string;
  plan: RestorePlan | null;
  fault: string | null;
}

const ENDING = '.yaml';
const MAX_PLAN_BYTES = 1024 * 1024;
const HEAD = ` Restore plan of phd: VMs in the order they are restored, each with the folder its disks go to.
 onOrBefore: the newest complete run up to this date. vmx: none, unchanged, moved or copy.`;

/** Why this cannot be the name of a plan, or undefined. */
export function planNameFault(name: string): string | undefined {
  if (name.trim() === '') return 'a name is needed';
  const isPlain = /^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u.test(name) && !/[ .]$/.test(name);
  if (isPlain && Buffer.byteLength(name) <= 200) return undefined;
  return 'letters, digits, blanks, dots, dashes; it begins with a letter or a digit';
}

/** Why this is no date to restore to, or undefined. */
export function planDateFault(text: string): string | undefined {
  return isDate(text) ? undefined : 'expected YYYY-MM-DD or YYYY-MM-DDTHH:MM';
}

/** All plans, by name; other files are left out. Throws IO. */
export async function listPlans(places: Places): Promise<SavedPlan[]> {
  const names = await readdir(folderOf(places)).catch((error) => {
    const failure = fromErrno(error, `cannot list ${folderOf(places)}`);
    if (failure.code === 'NOT_FOUND') return [];
    throw failure;
  });
  const plans: SavedPlan[] = [];
  for (const file of names.sort()) {
    const name = file.slice(0, -ENDING.length);
    if (!file.endsWith(ENDING) || planNameFault(name) !== undefined) continue;
    try {
      plans.push({ name, plan: await readPlan(places, name), fault: null });
    } catch (error) {
      plans.push({ name, plan: null, fault: fromErrno(error, `cannot read plan ${name}`).message });
    }
  }
  return plans;
}

/** Throws USAGE (name), NOT_FOUND, CONFIG_INVALID with file, key and what was expected. */
export async function readPlan(places: Places, name: string): Promise<RestorePlan> {
  const file = fileOf(places, name);
  const document = parseDocument(await textOf(file), { prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) {
    throw new PhdError('CONFIG_INVALID', `${file} is no YAML: ${error.message.split('\n')[0]}`);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new PhdError('CONFIG_INVALID', `${file}: ${(cause as Error).message}`);
  }
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new PhdError('CONFIG_INVALID', `${file}: ${issue?.path.join('.') || 'plan'}: ${issue?.message}`);
}

/** Writes the plan, over one of this name if there is one; its own comments stay at the top. Throws USAGE, IO. */
export async function savePlan(places: Places, name: string, plan: RestorePlan): Promise<string> {
  const file = fileOf(places, name);
  const checked = planSchema.safeParse(plan);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw new PhdError('USAGE', `this plan cannot be saved: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  try {
    await makeFolder(folderOf(places));
  } catch (error) {
    throw fromErrno(error, `cannot make ${folderOf(places)}`);
  }
  const document = new Document(checked.data);
  document.commentBefore = HEAD;
  await writeClosedFile(file, document.toString({ lineWidth: 0 }));
  return file;
}

/** Throws USAGE (name), IO. */
export async function removePlan(places: Places, name: string): Promise<void> {
  try {
    await rm(fileOf(places, name), { force: true });
  } catch (error) {
    throw fromErrno(error, `cannot remove plan ${name}`);
  }
}

function isDate(text: string): boolean {
  try {
    lastStampOf(text);
    return true;
  } catch {
    return false;
  }
}

function folderOf(places: Places): string {
  return path.join(places.configDir, 'plans');
}

function fileOf(places: Places, name: string): string {
  const fault = planNameFault(name);
  if (fault !== undefined) {
    throw new PhdError('USAGE', `${JSON.stringify(name)} cannot be the name of a plan: ${fault}`);
  }
  return path.join(folderOf(places), `${name}${ENDING}`);
}

async function textOf(file: string): Promise<string> {
  try {
    // A pipe of this name must not hold up the list.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await handle.stat();
      if (!stat.isFile() || stat.size > MAX_PLAN_BYTES) {
        throw new PhdError('CONFIG_INVALID', `${file} is no plan: no file, or over ${MAX_PLAN_BYTES} bytes`);
      }
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot read ${file}`);
  }
}

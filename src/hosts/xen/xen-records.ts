/** Records of XenAPI as far as they are used. Older releases write whole numbers as text. */
import { z } from 'zod';

const wholeNumber = z
  .union([z.number().int(), z.string().regex(/^-?\d{1,19}$/)])
  .transform(Number)
  .pipe(z.number().int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER));
const texts = z.record(z.string(), z.string());
export const ref = z.string().min(1).max(200);
const refs = z.array(ref);
const uuid = z.string().regex(/^[0-9a-fA-F-]{36}$/, 'expected a UUID');
const label = z.string().max(65_536);

export const NO_REF = 'OpaqueRef:NULL';

export const vmRecord = z.looseObject({
  uuid,
  name_label: label,
  name_description: label.default(''),
  power_state: z.string(),
  is_a_template: z.boolean(),
  is_a_snapshot: z.boolean(),
  is_control_domain: z.boolean(),
  snapshot_of: ref.default(NO_REF),
  snapshots: refs.default([]),
  resident_on: ref.default(NO_REF),
  VBDs: refs,
  VIFs: refs.default([]),
  other_config: texts.default({}),
});
export type VmRecord = z.infer<typeof vmRecord>;

export const vbdRecord = z.looseObject({
  uuid,
  VM: ref,
  VDI: ref,
  userdevice: z.string().max(64),
  bootable: z.boolean().default(false),
  mode: z.string().default('RW'),
  type: z.string(),
  empty: z.boolean().default(false),
});
export type VbdRecord = z.infer<typeof vbdRecord>;

export const vdiRecord = z.looseObject({
  uuid,
  name_label: label,
  name_description: label.default(''),
  SR: ref,
  virtual_size: wholeNumber.pipe(z.number().min(0)),
  physical_utilisation: wholeNumber.default(-1),
  is_a_snapshot: z.boolean().default(false),
  other_config: texts.default({}),
});
export type VdiRecord = z.infer<typeof vdiRecord>;

export const vifRecord = z.looseObject({
  uuid,
  device: z.string().max(64),
  MAC: z.string().max(64),
  network: ref,
});

export const srRecord = z.looseObject({
  uuid,
  name_label: label,
  type: z.string(),
  content_type: z.string().default(''),
  physical_size: wholeNumber,
  physical_utilisation: wholeNumber,
});
export type SrRecord = z.infer<typeof srRecord>;

export const networkRecord = z.looseObject({ uuid, name_label: label, bridge: z.string().default('') });

export const hostRecord = z.looseObject({
  uuid,
  name_label: label,
  address: z.string().max(253),
  enabled: z.boolean().default(true),
  software_version: texts.default({}),
});

export const poolRecord = z.looseObject({
  uuid,
  name_label: label,
  master: ref,
  default_SR: ref.default(NO_REF),
});

export const taskRecord = z.looseObject({
  status: z.enum(['pending', 'success', 'failure', 'cancelling', 'cancelled']),
  result: z.string().default(''),
  error_info: z.array(z.string()).default([]),
});

/** All records of a class, by reference. */
export const recordsOf = <Of extends z.ZodType>(one: Of) => z.record(ref, one);
export const nothing = z.unknown();

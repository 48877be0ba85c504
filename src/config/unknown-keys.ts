/** Keys of phd.yaml that this program does not know: a slip of the pen, or meant for another version. */
import { isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml';
import { z } from 'zod';
import { nearNames } from '../model/near-names.ts';

export interface UnknownKey {
  /** 1 is the first line. */
  line: number;
  /** `targets[0].readonly` */
  key: string;
  /** The known key it may mean; null if none is near. */
  near: string | null;
}

/** Every key of the document that `schema` does not name, in the order of the file. */
export function unknownKeys(node: unknown, schema: z.ZodType, lines: LineCounter, path = ''): UnknownKey[] {
  const known = isMap(node) ? objectOf(plainSchema(schema)) : plainSchema(schema);
  if (known instanceof z.ZodArray && isSeq(node)) {
    const element = known.element as z.ZodType;
    return node.items.flatMap((item, at) => unknownKeys(item, element, lines, `${path}[${at}]`));
  }
  if (!(known instanceof z.ZodObject) || !isMap(node)) return [];
  const shape = known.shape as Record<string, z.ZodType>;
  return node.items.flatMap((pair) => {
    const name = isScalar(pair.key) ? String(pair.key.value) : '';
    const key = path === '' ? name : `${path}.${name}`;
    const inner = Object.hasOwn(shape, name) ? shape[name] : undefined;
    if (inner !== undefined) return unknownKeys(pair.value, inner, lines, key);
    const offset = (pair.key as Node | null)?.range?.[0] ?? 0;
    const [near = null] = nearNames(name, Object.keys(shape), 1);
    return [{ line: lines.linePos(offset).line, key, near }];
  });
}

/** Of several forms that of an object, which may be wrapped in checks. */
function objectOf(schema: z.ZodType): z.ZodType {
  if (!(schema instanceof z.ZodUnion)) return schema;
  const forms = (schema.options as z.ZodType[]).map(plainSchema);
  return forms.find((form) => form instanceof z.ZodObject) ?? schema;
}

/** The schema below its defaults and options. */
export function plainSchema(schema: z.ZodType): z.ZodType {
  let plain = schema;
  while (plain instanceof z.ZodDefault || plain instanceof z.ZodPrefault || plain instanceof z.ZodOptional)
    plain = plain.unwrap() as z.ZodType;
  return plain;
}

/**
 * The part of phd.yaml that may leave this machine, and that may be taken from elsewhere: keys that are known, without
 * commands, variables, addresses with secrets in them, and files outside the configuration folder. Such a text can
 * neither tell a secret nor, taken over on another machine, run a command or send one of its files away.
 */
import path from 'node:path';
import { parseDocument, stringify } from 'yaml';
import { z } from 'zod';
import { PhdError } from '../errors.ts';
import { parseConfig } from './load-config.ts';
import { configSchema } from './schema.ts';
import { plainSchema } from './unknown-keys.ts';

/** What runs, what comes from the environment, what may hold a secret in itself. */
const LEFT_OUT = /(Command|Env|[Hh]ooks?|[Uu]rl)$|^(pre|post)[A-Z]|^(run)?(before|after)/i;
/** Keys that name a file of the configuration folder. */
const FILE_KEY = /Files?$|^statusLog$/;

export type PortableConfig = Record<string, unknown>;

/** Throws CONFIG_INVALID if the text is no valid configuration; `name` stands for it in messages. */
export function portableConfig(text: string, name: string): PortableConfig {
  const [fault] = parseConfig(text, name).faults;
  if (fault !== undefined) throw new PhdError('CONFIG_INVALID', fault);
  const value: unknown = parseDocument(text).toJS({ maxAliasCount: 100 }) ?? {};
  return portable(value, configSchema) as PortableConfig;
}

/** As YAML. */
export function printConfig(config: PortableConfig): string {
  return stringify(config, { lineWidth: 0 });
}

function portable(value: unknown, schema: z.ZodType | undefined): unknown {
  const known = schema && plainSchema(schema);
  if (Array.isArray(value)) {
    const element = known instanceof z.ZodArray ? (known.element as z.ZodType) : undefined;
    return value.map((one) => portable(one, element));
  }
  if (typeof value !== 'object' || value === null) return value;
  const shape = known instanceof z.ZodObject ? (known.shape as Record<string, z.ZodType>) : undefined;
  const kept = Object.entries(value).filter(
    ([key, inner]) =>
      (shape === undefined || Object.hasOwn(shape, key)) &&
      !LEFT_OUT.test(key) &&
      (!FILE_KEY.test(key) || liesInside(inner)),
  );
  return Object.fromEntries(kept.map(([key, inner]) => [key, portable(inner, shape?.[key])]));
}

/** Relative paths that stay in the folder. */
function liesInside(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(liesInside);
  if (typeof value !== 'string' || path.isAbsolute(value)) return false;
  return !path.normalize(value).split('/').includes('..');
}

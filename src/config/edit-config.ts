/** Changes phd.yaml without touching its comments, its order or keys this program does not know. */
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { type Document, isCollection, isNode, isScalar, parse, parseDocument } from 'yaml';
import { fromErrno, PhdError } from '../errors.ts';
import { parseConfig, readConfigText } from './load-config.ts';
import { configSchema } from './schema.ts';

export type ConfigKey = (string | number)[];

/**
 * Applies `change` to the document and writes the file (0600, synced, renamed) if the result is valid; a file that
 * was broken before must be mended by hand. Throws CONFIG_INVALID with the first fault, IO.
 */
export async function editConfig(file: string, change: (document: Document) => void): Promise<void> {
  const before = await readConfigText(file);
  const faultsBefore = parseConfig(before, file).faults;
  const document = parseDocument(before);
  if (document.errors.length > 0)
    throw new PhdError('CONFIG_INVALID', faultsBefore[0] ?? `${file} is no YAML`);
  change(document);
  const after = document.toString({ lineWidth: 0 }).replace(/\n+$/, '\n');
  const fault = parseConfig(after, file).faults.find((one) => !faultsBefore.includes(one));
  if (fault !== undefined) throw new PhdError('CONFIG_INVALID', `not changed: ${fault}`);
  await writeClosedFile(file, after);
}

/** Replaces a file at once or not at all: work file (0600), sync, rename, sync of the folder. Throws IO, NO_SPACE. */
export async function writeClosedFile(file: string, content: string): Promise<void> {
  const part = `${file}.part`;
  try {
    await rm(part, { force: true });
    const handle = await open(part, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(part, file);
    const folder = await open(path.dirname(file), 'r');
    await folder.sync().finally(() => folder.close());
  } catch (error) {
    await rm(part, { force: true });
    throw fromErrno(error, `cannot write ${file}`);
  }
}

/** `targets[0].path` as keys. Throws USAGE. */
export function parseKey(text: string): ConfigKey {
  const isKey = /^[A-Za-z]\w*(\[\d{1,4}\]|\.[A-Za-z]\w*)*$/.test(text);
  if (!isKey)
    throw new PhdError(
      'USAGE',
      `${JSON.stringify(text)} is no key: expected one like index.maxAgeMinutes or targets[0].path`,
    );
  return (text.match(/\w+/g) ?? []).map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

/** The value of a key as the file or its default gives it. Throws NOT_FOUND, CONFIG_INVALID. */
export async function getConfigValue(file: string, key: ConfigKey): Promise<unknown> {
  const text = await readConfigText(file);
  const { faults } = parseConfig(text, file);
  if (faults[0] !== undefined) throw new PhdError('CONFIG_INVALID', faults[0]);
  let value: unknown = configSchema.parse(parse(text) ?? {});
  for (const part of key)
    value = Object.hasOwn(Object(value), part)
      ? (value as Record<string | number, unknown>)[part]
      : undefined;
  if (value === undefined)
    throw new PhdError('NOT_FOUND', `${printKey(key)} is not set in ${file} and has no default`);
  return value;
}

/** Sets a key to a value written as YAML (`15`, `true`, `[ /a, /b ]`). Throws USAGE, CONFIG_INVALID. */
export async function setConfigValue(file: string, key: ConfigKey, yamlText: string): Promise<void> {
  let value: unknown;
  try {
    value = parse(yamlText);
  } catch (error) {
    throw new PhdError('USAGE', `${JSON.stringify(yamlText)} is no YAML value`, { cause: error });
  }
  await editConfig(file, (document) => putValue(document, key, value));
}

/** A value in the place of another keeps the comment that stands beside it. */
function putValue(document: Document, key: ConfigKey, value: unknown): void {
  const before = document.getIn(key, true);
  const node = document.createNode(value);
  if (isScalar(before) && isScalar(node)) {
    before.value = node.value;
    return;
  }
  if (isNode(before) && isNode(node)) {
    node.comment = before.comment ?? null;
    node.commentBefore = before.commentBefore ?? null;
    if (isCollection(before) && isCollection(node) && before.flow !== undefined) node.flow = before.flow;
  }
  document.setIn(key, node);
}

/** Removes a key, so that its default holds. Throws NOT_FOUND, CONFIG_INVALID. */
export async function removeConfigValue(file: string, key: ConfigKey): Promise<void> {
  await editConfig(file, (document) => {
    if (!document.deleteIn(key)) throw new PhdError('NOT_FOUND', `${printKey(key)} is not set in ${file}`);
  });
}

function printKey(key: ConfigKey): string {
  return key
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '');
}

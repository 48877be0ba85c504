/** A copy of the configuration without secrets, and of `vmdks.auto`, on every target that may be written. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { loadConfig, readConfigText } from '../config/load-config.ts';
import { portableConfig, printConfig } from '../config/portable-config.ts';
import { type ReadableSecret, readableSecrets, secretIn } from '../config/readable-secrets.ts';
import { writeClosedFile } from '../engine/configuration.ts';
import { type EngineContext, placeOf } from '../engine/context.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Config, Places } from '../model/config.ts';
import { vmdksFile } from '../replication/vmdks-file.ts';
import { hostFolder, removeOldCopies, timeName, writeCopy } from './copy-place.ts';
import { withoutWords, wordsIn } from './vmdks-words.ts';

/** A target that did not take its copy is tried again with it after so long. */
const TRY_AGAIN_MS = 3_600_000;

export interface CopyTexts {
  configText: string;
  vmdksText: string | null;
  /** Of both; what a target has. */
  digest: string;
}

interface OwnTexts extends CopyTexts {
  /** Those of vmdks.auto, which are in neither text. */
  words: ReadableSecret[];
}

export interface CopyResult {
  targetNumber: number;
  /** Null: the target has its copy now, or had it already. */
  error: PhdError | null;
  isNew: boolean;
}

const copyState = z.record(
  z.string(),
  z.object({
    digest: z.string().nullable(),
    failedAt: z.string().nullable(),
    /** Of what it did not take then: anything newer is tried at once. */
    failedDigest: z.string().nullable().default(null),
  }),
);
type CopyState = z.output<typeof copyState>;

/** What may leave this machine, if no secret stands in it. Throws CONFIG_INVALID, IO. */
async function textsOf(places: Places, config: Config): Promise<OwnTexts> {
  const head = '# Copy of phd.yaml, made by phd: without secrets, commands and comments.\n';
  const configText = head + printConfig(portableConfig(await readConfigText(config.file), config.file));
  const vmdks = await readFile(vmdksFile(places), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw fromErrno(error, `cannot read ${vmdksFile(places)}`);
  });
  const vmdksText = vmdks === null ? null : withoutWords(vmdks);
  const digest = createHash('sha256')
    .update(JSON.stringify([configText, vmdksText]))
    .digest('hex');
  return { configText, vmdksText, digest, words: wordsIn(vmdks ?? '') };
}

/** Throws CONFIG_INVALID if a secret that can be read stands in a text: it is where no secret belongs. */
async function requireNoSecrets(
  { configText, vmdksText, words }: OwnTexts,
  config: Config,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const secrets = [...(await readableSecrets(config, env)), ...words];
  for (const [name, text] of [
    ['phd.yaml', configText],
    ['vmdks.auto', vmdksText ?? ''],
  ] as const) {
    const whose = secretIn(text, secrets);
    if (whose !== undefined)
      throw new PhdError('CONFIG_INVALID', `no copy is kept: the ${whose} stands in ${name} itself`);
  }
}

/**
 * Puts a copy on each target that may be written and has not this very one. Targets that fail are in the result and
 * stop no other. Throws CONFIG_INVALID as above, IO.
 */
export async function keepCopies(
  context: EngineContext,
  env: NodeJS.ProcessEnv,
  targets: readonly number[] | null = null,
): Promise<CopyResult[]> {
  const { places, config, clock } = context;
  const texts = await textsOf(places, config);
  const state = await readState(places);
  const failed = (before: CopyState[string] | undefined): CopyState[string] => ({
    digest: before?.digest ?? null,
    failedAt: clock.now().toISOString(),
    failedDigest: texts.digest,
  });
  const wanted = config.targets.filter(
    ({ number, readOnly }) => !readOnly && (targets === null || targets.includes(number)),
  );
  const lacking = wanted.map(placeOf).filter((key) => state[key]?.digest !== texts.digest);
  if (lacking.length > 0)
    await requireNoSecrets(texts, config, env).catch(async (error: unknown) => {
      for (const key of lacking) state[key] = failed(state[key]);
      await writeState(places, config, state);
      throw error;
    });
  const results: CopyResult[] = [];
  for (const target of wanted) {
    const key = placeOf(target);
    if (state[key]?.digest === texts.digest) {
      results.push({ targetNumber: target.number, error: null, isNew: false });
      continue;
    }
    const error = await keepOn(context, target.number, texts);
    state[key] =
      error === null ? { digest: texts.digest, failedAt: null, failedDigest: null } : failed(state[key]);
    results.push({ targetNumber: target.number, error, isNew: error === null });
  }
  await writeState(places, config, state);
  return results;
}

async function keepOn(
  context: EngineContext,
  number: number,
  { configText, vmdksText }: CopyTexts,
): Promise<PhdError | null> {
  const hostName = hostFolder(context.hostName);
  try {
    const storage = await context.storage(number);
    const time = timeName(context.clock.now());
    await writeCopy(storage, { hostName, time, configText, vmdksText });
    await removeOldCopies(storage, hostName).catch((error: Error) =>
      context.log(`target ${number}: old copies of the configuration stay: ${error.message}`),
    );
    return null;
  } catch (error) {
    const { code, message } = fromErrno(error, 'no copy could be written');
    const words = `target ${number}: the copy of the configuration is not kept: ${message}`;
    return new PhdError(code, words, { cause: error });
  }
}

/** Whether some target lacks the copy of what holds now. Throws CONFIG_INVALID, IO. */
export async function areCopiesDue(places: Places, now: Date): Promise<boolean> {
  const config = await loadConfig(places);
  const wanted = config.targets.filter(({ readOnly }) => !readOnly);
  if (wanted.length === 0) return false;
  const { digest } = await textsOf(places, config);
  const state = await readState(places);
  return wanted.some((target) => {
    const known = state[placeOf(target)];
    if (known?.digest === digest) return false;
    if (known?.failedDigest !== digest) return true;
    const agoMs = now.getTime() - Date.parse(known?.failedAt ?? '');
    return !(agoMs >= 0 && agoMs < TRY_AGAIN_MS);
  });
}

function fileOf(places: Places): string {
  return path.join(places.stateDir, 'configuration-copies.json');
}

/** What is known of targets that are gone is dropped. */
async function writeState(places: Places, config: Config, state: CopyState): Promise<void> {
  const present = new Set(config.targets.map(placeOf));
  const kept = Object.fromEntries(Object.entries(state).filter(([key]) => present.has(key)));
  await writeClosedFile(fileOf(places), `${JSON.stringify(kept)}\n`);
}

async function readState(places: Places): Promise<CopyState> {
  try {
    return copyState.parse(JSON.parse(await readFile(fileOf(places), 'utf8')));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing || error instanceof SyntaxError || error instanceof z.ZodError) return {};
    throw fromErrno(error, `cannot read ${fileOf(places)}`);
  }
}

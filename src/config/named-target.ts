/** The target that a number names. */
import { PhdError } from '../errors.ts';
import type { Config, TargetConfig } from '../model/config.ts';

/** Throws USAGE, with the numbers that there are, if there is no such target. */
export function namedTarget({ file, targets }: Config, number: number): TargetConfig {
  const target = targets.find((one) => one.number === number);
  if (target === undefined) throw noSuchTarget(file, targets, number);
  return target;
}

export function noSuchTarget(
  file: string,
  targets: readonly Pick<TargetConfig, 'number' | 'name'>[],
  number: number,
): PhdError {
  const known = targets.map((one) => `${one.number} (${one.name})`).join(', ');
  const words = known === '' ? 'it has none: phd target add makes one' : `it has ${known}`;
  return new PhdError('USAGE', `there is no target ${number} in ${file}; ${words}`);
}

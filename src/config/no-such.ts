/** What is said to a name that phd.yaml does not hold. */
import { PhdError } from '../errors.ts';

export function noSuch(
  kind: string,
  name: string,
  file: string,
  names: readonly string[],
  whatToDo: string,
): PhdError {
  const words = names.length === 0 ? `it has none: ${whatToDo}` : `it has ${names.join(', ')}`;
  return new PhdError('USAGE', `there is no ${kind} ${name} in ${file}; ${words}`);
}

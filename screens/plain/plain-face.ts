/** The dialogue as numbered lines. */
import { PhdError } from '../../src/errors.ts';

export class PlainFace {
  constructor(_options: unknown) {
    throw new PhdError('USAGE', 'the console needs a terminal with a full screen: see phd --help');
  }
}

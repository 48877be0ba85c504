/** Takes out of a painted frame what a slow line need not carry: moves of the cursor to where it stands already. */
import { cellsOf } from '../frame.ts';

const TOKEN = /\x1b\[([\d;?]*)([@-~])|[^\x1b]+|\x1b/g;

/**
 * Expects what blessed paints: text, SGR, cursor moves (CUP, CUF), EL, DL, IL, scroll margins. `columns` is the width of
 * the screen. The same cells come out with fewer bytes.
 */
export function squeeze(painted: string, columns: number): string {
  let squeezed = '';
  /** Where the cursor stands; undefined: not known. */
  let at: { row: number; column: number } | undefined;
  let wanted: { row: number; column: number } | undefined;
  const go = (): void => {
    if (wanted !== undefined) squeezed += move(at, wanted);
    at = wanted ?? at;
    wanted = undefined;
  };
  for (const [token, parameters = '', final] of painted.matchAll(TOKEN)) {
    if (final === undefined) {
      go();
      squeezed += token;
      const column = (at?.column ?? 0) + cellsOf(token).length;
      // Beyond the last column terminals differ.
      at = at === undefined || column >= columns ? undefined : { ...at, column };
      continue;
    }
    const from: typeof at = wanted ?? at;
    if (final === 'H') {
      const [row, column] = parameters.split(';').map(Number);
      wanted = { row: (row || 1) - 1, column: (column || 1) - 1 };
    } else if (final === 'C' && from !== undefined) {
      wanted = { ...from, column: from.column + (Number(parameters) || 1) };
    } else {
      // Colours do not care where the cursor stands; margins and lines that come or go leave it anywhere.
      if (final !== 'm') go();
      squeezed += token;
      if (!/[mK]/.test(final)) at = undefined;
    }
  }
  go();
  return squeezed;
}

type Place = { row: number; column: number };

/** The shortest way from one place to another. */
function move(from: Place | undefined, to: Place): string {
  if (from?.row === to.row) {
    const step = to.column - from.column;
    if (step === 0) return '';
    if (step === 1) return '\x1b[C';
    if (step > 0) return `\x1b[${step}C`;
  }
  return `\x1b[${to.row + 1};${to.column + 1}H`;
}

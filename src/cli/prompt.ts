/** Questions on the terminal. Secrets are never echoed; without a terminal they are read as one line of input. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { escapeText } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { CliStreams } from './cli.ts';

/** Asks for a line without showing what is typed. Throws CANCELLED at the end of input. */
export function askSecret(streams: CliStreams, question: string): Promise<string> {
  return askLine(streams, question, false);
}

/** Asks yes or no; anything but `yes` is no, and so is a missing terminal. */
export async function askYes(streams: CliStreams, question: string): Promise<boolean> {
  if (!streams.stdin.isTTY) return false;
  return (await askLine(streams, `${question} (yes/no) `, true)) === 'yes';
}

function askLine(streams: CliStreams, question: string, isEchoed: boolean): Promise<string> {
  const isTerminal = streams.stdin.isTTY === true;
  if (isTerminal) streams.stderr.write(escapeText(question));
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({
    input: streams.stdin,
    output: isEchoed ? streams.stderr : silent,
    terminal: isTerminal,
  });
  return new Promise((resolve, reject) => {
    lines.once('line', (line) => {
      resolve(line);
      lines.close();
    });
    lines.once('SIGINT', () => lines.close());
    lines.once('close', () => {
      if (isTerminal && !isEchoed) streams.stderr.write('\n');
      reject(new PhdError('CANCELLED', 'cancelled'));
    });
  });
}

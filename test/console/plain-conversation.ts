/** A numbered dialogue over pipes in memory: lines go in, what is printed comes back. */
import { PassThrough } from 'node:stream';
import { UNKNOWN_STATE } from '../../menus/state.ts';
import type { Look } from '../../screens/look.ts';
import { PlainFace } from '../../screens/plain/plain-face.ts';

const LOOK: Look = { kind: 'thin', isMono: true, charset: 'ascii', hasMouse: false, isSlow: false };

export interface Conversation {
  face: PlainFace;
  type: (line: string) => void;
  /** No more input comes. */
  end: () => void;
  /** All that was printed so far. */
  printed: () => string;
}

export function openConversation(look: Partial<Look> = {}): Conversation {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  let text = '';
  stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  const face = new PlainFace({
    streams: {
      stdin: stdin as unknown as NodeJS.ReadStream,
      stdout: stdout as unknown as NodeJS.WriteStream,
    },
    look: { ...LOOK, ...look },
    state: async () => UNKNOWN_STATE,
    why: '',
  });
  return {
    face,
    type: (line) => void stdin.write(`${line}\n`),
    end: () => void stdin.end(),
    printed: () => text,
  };
}

/** All lines at once, as a pipe brings them; then the end of input. */
export async function answer<R>(
  lines: readonly string[],
  work: (face: PlainFace) => Promise<R>,
  look?: Partial<Look>,
): Promise<{ result: R; printed: string }> {
  const { face, type, end, printed } = openConversation(look);
  for (const line of lines) type(line);
  end();
  const result = await work(face);
  face.closeNow();
  return { result, printed: printed() };
}

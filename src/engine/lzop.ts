/** Plain bytes of an lzop FULL, through the `lzop` program. */
import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { PhdError } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';

/** The stream ends normally only if lzop answered 0. Throws PROGRAM_MISSING, ARCHIVE_DAMAGED, errors of the source. */
export async function* lzopPlain(source: ByteSource): AsyncGenerator<Buffer> {
  const child = spawn('lzop', ['-dc'], { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 300);
  });
  let missing: PhdError | undefined;
  const exited = new Promise<number | null>((resolve) => {
    child.on('error', (cause) => {
      missing = new PhdError('PROGRAM_MISSING', 'an lzop FULL needs the program lzop: install it', { cause });
      resolve(null);
    });
    child.on('close', resolve);
  });
  let sourceError: unknown;
  const input = Readable.from(source.read(0, source.sizeBytes), { objectMode: false });
  input.on('error', (error) => {
    sourceError = error;
    child.kill();
  });
  // lzop closing its input early shows in its exit status.
  child.stdin.on('error', () => input.unpipe());
  input.pipe(child.stdin);
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const status = await exited;
    if (missing) throw missing;
    if (sourceError) throw sourceError;
    if (status !== 0)
      throw new PhdError(
        'ARCHIVE_DAMAGED',
        `the lzop FULL is damaged: ${complaint.replaceAll(/\s+/g, ' ').trim()}`,
      );
  } finally {
    input.destroy();
    child.kill();
    await exited;
  }
}

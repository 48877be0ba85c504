/**
 * A small program that runs on the host as long as a VM is held still: it reads blocks and answers zeros with one byte, and
 * it hashes blocks where they lie. Asked by lines, answered in their order.
 */
import { DIGEST_BYTES } from '../../archive/geometry.ts';
import { PhdError } from '../../errors.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import type { RunningCommand } from '../host-line.ts';
import type { EsxShell } from './esx-shell.ts';

/**
 * `r PATH SIZE FIRST COUNT BLOCK` -> for each block 0, or 1 and its bytes; `d` the same -> for each block 2 and its digest
 * (zeros for a block of zeros), then 3 and the digest of all. Anything that fails -> 9, a length in one byte, and words.
 * PATH is UTF-8 in hexadecimal.
 */
const PROGRAM = `
import sys, hashlib
o = sys.stdout.buffer
files = {}
for line in sys.stdin.buffer:
    try:
        op, name, size, first, count, block = line.split()
        name = bytes.fromhex(name.decode())
        size, first, count, block = int(size), int(first), int(count), int(block)
        f = files.get(name)
        if f is None:
            f = files[name] = open(name, 'rb', 0)
        zeros = bytes(block)
        whole = hashlib.sha256()
        only_zeros = True
        f.seek(first * block)
        for n in range(first, first + count):
            want = min(block, size - n * block)
            data = f.read(want)
            while len(data) < want:
                more = f.read(want - len(data))
                if not more:
                    raise IOError('it ends at byte %d' % (n * block + len(data)))
                data += more
            is_zero = data == zeros[:want]
            if op == b'r':
                o.write(b'\\0' if is_zero else b'\\1' + data)
            else:
                whole.update(data)
                only_zeros = only_zeros and is_zero
                o.write(b'\\2' + (bytes(32) if is_zero else hashlib.sha256(data).digest()))
                if n % 16 == 0:
                    o.flush()
        if op == b'd':
            o.write(b'\\3' + (bytes(32) if only_zeros else whole.digest()))
    except Exception as error:
        words = str(error).encode('utf-8', 'replace')[:255]
        o.write(b'\\x09' + bytes([len(words)]) + words)
    o.flush()
`;

export interface BlockRange {
  path: string;
  sizeBytes: number;
  firstBlock: number;
  count: number;
  blockBytes: number;
}

export class PythonHelper {
  readonly #running: RunningCommand;
  readonly #answers: AsyncIterator<Buffer>;
  readonly #where: string;
  readonly #timeoutMs: number;
  #rest: Buffer = Buffer.alloc(0);
  #last: Promise<unknown> = Promise.resolve();

  private constructor(running: RunningCommand, where: string, timeoutMs: number) {
    this.#running = running;
    this.#answers = running.stdout[Symbol.asyncIterator]();
    this.#where = where;
    this.#timeoutMs = timeoutMs;
  }

  static async start(shell: EsxShell): Promise<PythonHelper> {
    const running = await shell.lasting(`exec python3 -c ${shellQuoted(PROGRAM)}`);
    return new PythonHelper(running, `host ${shell.config.name}`, shell.config.timeoutMs);
  }

  /** Fills `target`, which is as long as the blocks. Throws TARGET_UNREACHABLE, TARGET_REFUSED. */
  async read(range: BlockRange, target: Buffer): Promise<void> {
    await this.#ask('r', range, async () => {
      for (let at = 0; at < target.length; at += range.blockBytes) {
        const block = target.subarray(at, Math.min(at + range.blockBytes, target.length));
        const kind = await this.#kind(range);
        if (kind === 0) block.fill(0);
        else await this.#fill(block, kind === 1);
      }
    });
  }

  /** Digests of the blocks, and the one of all. Throws as above. */
  async digests(range: BlockRange): Promise<{ digests: Buffer; regionDigest: Buffer }> {
    const digests = Buffer.alloc(range.count * DIGEST_BYTES);
    const regionDigest = Buffer.alloc(DIGEST_BYTES);
    await this.#ask('d', range, async () => {
      for (let at = 0; at < digests.length; at += DIGEST_BYTES) {
        const kind = await this.#kind(range);
        await this.#fill(digests.subarray(at, at + DIGEST_BYTES), kind === 2);
      }
      await this.#fill(regionDigest, (await this.#kind(range)) === 3);
    });
    return { digests, regionDigest };
  }

  stop(): void {
    this.#running.stop();
  }

  /** Questions go out at once; each answer is taken when those before it are. */
  async #ask(op: string, range: BlockRange, take: () => Promise<void>): Promise<void> {
    const { path, sizeBytes, firstBlock, count, blockBytes } = range;
    const name = Buffer.from(path).toString('hex');
    this.#running.stdin.write(`${op} ${name} ${sizeBytes} ${firstBlock} ${count} ${blockBytes}\n`);
    const answer = this.#last.then(take);
    // A refusal leaves the answers in step; a broken line fails all that come after.
    this.#last = answer.catch((error) => {
      if (!(error instanceof PhdError) || error.code !== 'TARGET_REFUSED') throw error;
    });
    this.#last.catch(() => undefined);
    await answer;
  }

  async #kind(range: BlockRange): Promise<number> {
    const kind = (await this.#bytes(1))[0]!;
    if (kind !== 9) return kind;
    const words = (await this.#bytes((await this.#bytes(1))[0]!)).toString('utf8');
    throw new PhdError('TARGET_REFUSED', `${this.#where}: cannot read ${range.path}: ${words}`);
  }

  async #bytes(count: number): Promise<Buffer> {
    const bytes = Buffer.alloc(count);
    await this.#fill(bytes, true);
    return bytes;
  }

  async #fill(target: Buffer, isExpected: boolean): Promise<void> {
    if (!isExpected)
      throw new PhdError('TARGET_LIED', `${this.#where}: the helper there answers out of step`);
    for (let at = 0; at < target.length; ) {
      if (this.#rest.length === 0) this.#rest = await this.#more();
      const part = this.#rest.subarray(0, target.length - at);
      part.copy(target, at);
      this.#rest = this.#rest.subarray(part.length);
      at += part.length;
    }
  }

  async #more(): Promise<Buffer> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const words = `${this.#where}: no answer within ${this.#timeoutMs} ms`;
        reject(new PhdError('TARGET_UNREACHABLE', words));
      }, this.#timeoutMs);
    });
    try {
      const { value, done } = await Promise.race([this.#answers.next(), silence]);
      if (!done) return value;
    } catch (error) {
      if (error instanceof PhdError) throw error;
      // The channel broke; its end has the words.
    } finally {
      clearTimeout(timer);
    }
    const { stderr } = await this.#running.ended;
    const last = stderr.trim().split('\n').at(-1)?.slice(0, 200) ?? '';
    throw new PhdError('TARGET_UNREACHABLE', `${this.#where}: the helper there ended ${last}`.trimEnd());
  }
}

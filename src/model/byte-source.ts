/** Bytes that can be read from anywhere: a file on a target, or the plaintext of an encrypted one. */
export interface ByteSource {
  sizeBytes: number;
  /** Exactly `lengthBytes` bytes from `offsetBytes`, or the iteration fails. */
  read(offsetBytes: number, lengthBytes: number): AsyncIterable<Buffer>;
}

/** Reads a short range into one buffer. */
export async function readRange(
  source: ByteSource,
  offsetBytes: number,
  lengthBytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source.read(offsetBytes, lengthBytes)) chunks.push(chunk);
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
}

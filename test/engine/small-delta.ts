/** Whole DELTAs without blocks: the real program, an empty part `maps`, manifest and trailer. */
import { readFileSync } from 'node:fs';
import {
  PART_ALIGNMENT,
  paddedHead,
  paddingBytes,
  printTrailer,
  sha256Hex,
  TRAILER_BYTES,
} from '../../src/archive/delta-layout.ts';
import { printDeltaManifest } from '../../src/archive/manifest.ts';
import type { Stamp } from '../../src/model/archive.ts';

const PROGRAM = readFileSync(new URL('../../src/archive/delta-program.sh', import.meta.url));
const DIGEST = '0'.repeat(64);
const ID = '11111111-2222-3333-4444-555555555555';

export interface SmallDelta {
  uuid: string;
  stamp: Stamp;
  fullStamp?: Stamp;
  /** `SS disk` */
  disk?: string;
  /** `SS disk` of each; default: the disk alone. */
  runDisks?: readonly string[];
  encrypted?: boolean;
}

/** Bytes of the DELTA. Host `esx1`, display name `Web`, 1 MiB, 3 changed blocks unless it is empty. */
export function smallDelta(of: SmallDelta): Buffer {
  const { stamp, fullStamp = stamp, disk = '00 web.vmdk', runDisks = [disk], encrypted = false } = of;
  const split = (text: string) => ({ scsiId: text.slice(0, 2), disk: text.slice(3) });
  const head = paddedHead(PROGRAM);
  const manifest = printDeltaManifest({
    kind: stamp === fullStamp ? 'empty' : 'delta',
    program: 'phd 0.1.0',
    vm: 'web',
    displayName: 'Web',
    uuid: of.uuid,
    host: 'esx1',
    runId: ID,
    ...split(disk),
    diskBytes: 1_048_576,
    blockBytes: 262_144,
    stamp,
    timeUtc: `${stamp}:00Z`,
    utcOffsetMinutes: 0,
    fullId: ID,
    runDisks: runDisks.map(split),
    fullStamp,
    fullFile: '00-web.vmdk.gz-260301-1000.phd',
    fullFolder: `2026.03.01-web.${of.uuid}.FULL`,
    fullCodec: 'gzip',
    fullEncrypted: encrypted,
    fullBytes: 1000,
    encrypted,
    fullMapDigest: encrypted ? null : DIGEST,
    mapDigest: encrypted ? null : DIGEST,
    createType: 'vmfs',
    adapterType: 'lsilogic',
    changedBlocks: stamp === fullStamp ? 0 : 3,
    unreadableSectors: 0,
    payloadBlocks: 0,
    parts: [{ name: 'maps', offsetBytes: head.length, sizeBytes: PART_ALIGNMENT, sha256: DIGEST }],
    files: [],
  });
  const manifestOffset = head.length + PART_ALIGNMENT;
  const end = manifestOffset + manifest.length;
  const padding = paddingBytes(end, TRAILER_BYTES);
  const trailer = printTrailer({
    manifestOffset,
    manifestBytes: manifest.length,
    manifestSha256: sha256Hex(manifest),
    headBytes: head.length,
    headSha256: sha256Hex(head),
    fileBytes: end + padding + TRAILER_BYTES,
  });
  return Buffer.concat([head, Buffer.alloc(PART_ALIGNMENT), manifest, Buffer.alloc(padding), trailer]);
}

/** A DELTA as another program of this naming would begin. */
export const FOREIGN_DELTA: Buffer = Buffer.from(
  `#!/bin/sh\n# esXpress 3\n${'echo a program of another maker\n'.repeat(200)}exit 0\n`,
);

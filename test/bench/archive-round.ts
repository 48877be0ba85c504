/** One round of the comparison: FULL, DELTA, restore, verify, in turn with the peers, each from nothing. */
import { mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { type BenchDisk, BLOCK_BYTES, putState } from './disk-image.ts';
import { type Command, type Contender, requireSameFile, runJob, runOrThrow } from './measure.ts';
import type { PeerPrograms, ProgramName } from './peer-programs.ts';
import { doneLine, PhdHome, type WrittenArchive, writtenArchive } from './phd.ts';
import type { Samples } from './samples.ts';
import { selfExtractorJob } from './self-extractor.ts';
import { countWrites } from './written-bytes.ts';

export const JOBS = {
  full: 'FULL backup',
  delta: 'DELTA backup, 2 % changed',
  restore: 'restore FULL+DELTA, synced',
  verify: 'verify',
  selfExtractor: 'self-extractor, restore and proof',
  inPlace: 'in-place restore, 2 % differ',
} as const;

export interface RoundInput {
  disk: BenchDisk;
  /** Copies of both states, to prove what was restored. */
  beforeImage: string;
  afterImage: string;
  /** Made anew for each round and removed after it. */
  folder: string;
  round: number;
  peers: PeerPrograms;
  samples: Samples;
  withBackup: boolean;
  withRestore: boolean;
  /** What an archive of each program takes on disk, of the last round. */
  archiveBytes: Record<string, number>;
  /** Bytes that the in-place restore wrote. */
  inPlace: InPlaceFigures[];
}

export interface InPlaceFigures {
  differingBytes: number;
  /** As the program says. */
  writtenBytes: number;
  /** As the kernel saw it: bytes of all writes to the flat and what lies beside it; null without strace. */
  observedBytes: number | null;
}

interface Ours {
  codec: 'gzip' | 'zstd';
  program: string;
  home: PhdHome;
  targetFolder: string;
  full?: WrittenArchive;
  delta?: WrittenArchive;
}

/** Our pair of archives of one round. */
export interface ArchivePair {
  home: PhdHome;
  targetFolder: string;
  fullPath: string;
  deltaPath: string;
  deltaRef: string;
}

/** Runs the round; `afterwards` gets our gzip pair before everything is removed. */
export async function runRound(
  input: RoundInput,
  afterwards: (pair: ArchivePair) => Promise<void>,
): Promise<void> {
  const { disk, folder } = input;
  mkdirSync(folder, { recursive: true });
  try {
    await putState(disk.flatPath, disk, 'before');
    const ours = (['gzip', 'zstd'] as const).map((codec) => oursOf(input, codec));
    await fullJob(input, ours);
    await putState(disk.flatPath, disk, 'after');
    await deltaJob(input, ours);
    const gzip = ours.find((one) => one.codec === 'gzip');
    if (gzip?.full === undefined || gzip.delta === undefined) return;
    if (input.withRestore) {
      await restoreJob(input, ours, gzip.full.fullPath);
      await verifyJob(input, ours);
      await inPlaceJob(input, gzip);
      await selfExtractorJob({ ...input, job: JOBS.selfExtractor }, pairOf(gzip));
    }
    await afterwards(pairOf(gzip));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function pairOf({ home, targetFolder, full, delta }: Ours): ArchivePair {
  if (full === undefined || delta === undefined) throw new Error('a backup is missing');
  const { deltaPath, deltaRef } = delta;
  return { home, targetFolder, fullPath: full.fullPath, deltaPath, deltaRef };
}

function oursOf({ folder, disk }: RoundInput, codec: Ours['codec']): Ours {
  const targetFolder = path.join(folder, `target-${codec}`);
  mkdirSync(targetFolder);
  const target = `- { number: 1, name: local, transport: vmfs, path: ${JSON.stringify(targetFolder)} }`;
  const home = new PhdHome(path.join(folder, `home-${codec}`), [target], path.dirname(disk.vmFolder));
  return { codec, program: `phd ${codec}`, home, targetFolder };
}

/** A contender for each peer that is there. */
function ofPeers(
  input: RoundInput,
  list: readonly (Omit<Contender, 'isOurs' | 'command'> & {
    needs: ProgramName;
    words: () => Omit<Command, 'program'>;
  })[],
): Contender[] {
  return list.flatMap(({ needs, words, ...rest }) => {
    const found = input.peers.get(needs);
    if (found === undefined) return [];
    const command = (): Command => {
      const { env, ...more } = words();
      return { program: found.path, ...more, env: { ...found.env, ...env } };
    };
    return [{ ...rest, isOurs: false, command }];
  });
}

function resticEnv({ folder }: RoundInput): NodeJS.ProcessEnv {
  return {
    RESTIC_REPOSITORY: path.join(folder, 'restic'),
    RESTIC_PASSWORD: 'bench',
    RESTIC_CACHE_DIR: path.join(folder, 'restic-cache'),
  };
}

function borgEnv({ folder }: RoundInput): NodeJS.ProcessEnv {
  return {
    BORG_REPO: path.join(folder, 'borg'),
    BORG_BASE_DIR: path.join(folder, 'borg-base'),
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  };
}

async function fullJob(input: RoundInput, ours: Ours[]): Promise<void> {
  const { disk, folder, peers, archiveBytes } = input;
  const flat = disk.flatPath;
  const packer = (program: string, needs: ProgramName, args: string[]) => {
    const stdoutFile = path.join(folder, `packed-${needs}`);
    return {
      program,
      needs,
      words: () => ({ args: [...args, flat], stdoutFile }),
      prove: () => {
        archiveBytes[program] = statSync(stdoutFile).size;
        if (needs !== 'gzip' || !input.withRestore) rmSync(stdoutFile);
      },
    };
  };
  const repository = (
    program: 'restic' | 'borg',
    init: string[],
    backup: string[],
    env: NodeJS.ProcessEnv,
  ) => ({
    program,
    needs: program,
    prepare: async () => {
      const found = peers.get(program);
      if (found) await runOrThrow({ program: found.path, args: init, env: { ...found.env, ...env } });
    },
    words: () => ({ args: backup, env }),
  });
  const qcow2 = path.join(folder, 'packed.qcow2');
  const repositories = ofPeers(input, [
    repository('restic', ['init', '-q'], ['backup', '-q', flat], resticEnv(input)),
    repository(
      'borg',
      ['init', '-e', 'none'],
      ['create', '--compression', 'zstd,3', '::full', flat],
      borgEnv(input),
    ),
  ]);
  const packers = ofPeers(input, [
    packer('gzip -6', 'gzip', ['-6', '-c']),
    packer('pigz -6', 'pigz', ['-6', '-c']),
    packer('zstd -3 -T0', 'zstd', ['-3', '-T0', '-q', '-c']),
    packer('lzop', 'lzop', ['-c']),
    {
      program: 'qemu-img convert -c',
      needs: 'qemu-img',
      words: () => ({ args: ['convert', '-f', 'raw', '-O', 'qcow2', '-c', flat, qcow2] }),
      prove: () => {
        archiveBytes['qemu-img convert -c'] = statSync(qcow2).size;
      },
    },
  ]);
  const programs = ours.map(
    (one): Contender => ({
      program: one.program,
      isOurs: true,
      command: () => one.home.command('backup', disk.vmFolder, '--codec', one.codec, '--json'),
      prove: (run) => {
        one.full = writtenArchive(run, one.targetFolder);
        if (one.full.mode !== 'full') throw new Error('a FULL was expected');
        archiveBytes[one.program] = statSync(one.full.fullPath).size;
      },
    }),
  );
  const all = [
    ...programs,
    ...(input.withBackup || input.withRestore ? repositories : []),
    ...(input.withBackup ? packers : []),
  ];
  await runJob(JOBS.full, all, input.round, input.samples);
}

async function deltaJob(input: RoundInput, ours: Ours[]): Promise<void> {
  const { disk } = input;
  const programs = ours.map(
    (one): Contender => ({
      program: one.program,
      isOurs: true,
      command: () => one.home.command('backup', disk.vmFolder, '--codec', one.codec, '--json'),
      prove: (run) => {
        one.delta = writtenArchive(run, one.targetFolder);
        if (one.delta.mode !== 'delta') throw new Error('a DELTA was expected');
      },
    }),
  );
  const peers = ofPeers(input, [
    {
      program: 'restic',
      needs: 'restic',
      words: () => ({ args: ['backup', '-q', disk.flatPath], env: resticEnv(input) }),
    },
    {
      program: 'borg',
      needs: 'borg',
      words: () => ({
        args: ['create', '--compression', 'zstd,3', '::delta', disk.flatPath],
        env: borgEnv(input),
      }),
    },
  ]);
  const all = input.withBackup || input.withRestore ? [...programs, ...peers] : programs;
  await runJob(JOBS.delta, all, input.round, input.samples);
}

async function restoreJob(input: RoundInput, ours: Ours[], fullPath: string): Promise<void> {
  const { disk, folder, beforeImage, afterImage } = input;
  const out = path.join(folder, 'out');
  const file = path.join(out, 'disk');
  const emptyOut = () => {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
  };
  const programs = ours.map(
    (one): Contender => ({
      program: one.program,
      isOurs: true,
      prepare: emptyOut,
      command: () => one.home.command('restore', one.delta?.deltaRef ?? '', '--to', out, '--json'),
      syncPath: () => out,
      prove: () => requireSameFile(afterImage, path.join(out, 'bench-flat.vmdk')),
    }),
  );
  const stream = (program: string, needs: ProgramName, args: string[]) => ({
    program,
    needs,
    prepare: emptyOut,
    words: () => ({ args, stdoutFile: file }),
    syncPath: () => out,
    prove: () => requireSameFile(beforeImage, file),
  });
  const peers = ofPeers(input, [
    {
      program: 'restic restore',
      needs: 'restic',
      prepare: emptyOut,
      words: () => ({ args: ['restore', '-q', 'latest', '--target', out], env: resticEnv(input) }),
      syncPath: () => out,
      prove: () => requireSameFile(afterImage, path.join(out, disk.flatPath)),
    },
    {
      program: 'borg extract --sparse',
      needs: 'borg',
      prepare: emptyOut,
      words: () => ({ args: ['extract', '--sparse', '::delta'], env: borgEnv(input), cwd: out }),
      syncPath: () => out,
      prove: () => requireSameFile(afterImage, path.join(out, disk.flatPath)),
    },
    stream('zcat FULL', 'gzip', ['-dc', fullPath]),
    stream('pigz -dc FULL', 'pigz', ['-dc', fullPath]),
    {
      program: 'qemu-img convert',
      needs: 'qemu-img',
      prepare: emptyOut,
      words: () => ({
        args: ['convert', '-f', 'qcow2', '-O', 'raw', path.join(folder, 'packed.qcow2'), file],
      }),
      syncPath: () => out,
      prove: () => requireSameFile(beforeImage, file),
    },
  ]).filter((one) => input.withBackup || one.program !== 'qemu-img convert');
  const found = input.peers.get('gzip');
  const old: Contender[] =
    found && input.withBackup
      ? [
          {
            program: 'zcat of gzip -6',
            isOurs: false,
            prepare: emptyOut,
            command: () => ({
              program: found.path,
              args: ['-dc', path.join(folder, 'packed-gzip')],
              stdoutFile: file,
              env: found.env,
            }),
            syncPath: () => out,
            prove: () => requireSameFile(beforeImage, file),
          },
        ]
      : [];
  await runJob(JOBS.restore, [...programs, ...peers, ...old], input.round, input.samples);
  rmSync(out, { recursive: true, force: true });
}

/** Ours reads FULL, its empty DELTA and the DELTA; the others their whole repository. */
async function verifyJob(input: RoundInput, ours: Ours[]): Promise<void> {
  const programs = ours.map(
    (one): Contender => ({
      program: one.program,
      isOurs: true,
      command: () =>
        one.home.command(
          'verify',
          one.full?.fullRef ?? '',
          one.full?.deltaRef ?? '',
          one.delta?.deltaRef ?? '',
          '--json',
        ),
      prove: (run) => void doneLine(run),
    }),
  );
  const peers = ofPeers(input, [
    {
      program: 'restic check --read-data',
      needs: 'restic',
      words: () => ({ args: ['check', '-q', '--read-data'], env: resticEnv(input) }),
    },
    {
      program: 'borg check --verify-data',
      needs: 'borg',
      words: () => ({ args: ['check', '--verify-data'], env: borgEnv(input) }),
    },
  ]);
  await runJob(JOBS.verify, [...programs, ...peers], input.round, input.samples);
}

/** Rolls a disk in its first state back to the second; once timed, once more with its writes counted by the kernel. */
async function inPlaceJob(input: RoundInput, gzip: Ours): Promise<void> {
  const { disk, afterImage, peers } = input;
  const out = path.join(input.folder, 'in-place');
  const flat = path.join(out, 'bench-flat.vmdk');
  // Where files are not cloned, blocks are written here first; a clone bears this name while it is written.
  const beside = `${flat}.inplace.part`;
  const words = ['restore', gzip.delta?.deltaRef ?? '', '--to', out, '--in-place', '--assume-off', '--json'];
  mkdirSync(out);
  await runOrThrow({ program: 'cp', args: ['--sparse=always', input.beforeImage, flat] });
  const figures: InPlaceFigures = {
    differingBytes: disk.changes.length * BLOCK_BYTES,
    writtenBytes: Number.NaN,
    observedBytes: null,
  };
  const contender: Contender = {
    program: 'phd gzip',
    isOurs: true,
    command: () => gzip.home.command(...words),
    syncPath: () => out,
    prove: async (run) => {
      const { writtenBytes, besideBytes } = doneLine(run);
      figures.writtenBytes = Number(writtenBytes) + Number(besideBytes);
      await requireSameFile(afterImage, flat);
    },
  };
  await runJob(JOBS.inPlace, [contender], input.round, input.samples);
  const strace = peers.get('strace');
  if (strace !== undefined) {
    await putState(flat, disk, 'before');
    try {
      figures.observedBytes = await countWrites(
        strace,
        gzip.home.command(...words),
        [flat, beside],
        input.folder,
      );
      await requireSameFile(afterImage, flat);
    } catch (error) {
      const reason = `writes could not be counted: ${(error as Error).message}`;
      input.samples.fail({ job: JOBS.inPlace, program: 'strace', isOurs: false, reason });
    }
  }
  if (!Number.isNaN(figures.writtenBytes)) input.inPlace.push(figures);
  rmSync(out, { recursive: true, force: true });
}

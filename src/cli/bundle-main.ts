/**
 * Makes `phd-VERSION-linux-ARCH.tar.gz`: the built program, its production packages as they are installed here, and
 * the running Node binary. Nothing is fetched. Usage: `npm run bundle [-- FOLDER]`.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { formatBytes } from '../engine/display-text.ts';
import { VERSION } from '../engine/version.ts';
import { fromErrno, PhdError } from '../errors.ts';

const run = promisify(execFile);
/** This file lies in dist/src/cli. */
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const PAPERS = ['package.json', 'README.md', 'CHANGELOG.md'];
/** Left over from compiling native packages. */
const BUILD_REMAINS =
  /\/build\/(Release\/)?(obj|obj\.target|\.deps|[^/]*\.a|Makefile|[^/]*\.mk|test_extension\.node)$/;

/** Finds itself through symbolic links too; needs nothing but the shell for a plain path. */
const START_SCRIPT = `#!/bin/sh
# Starts phd with the Node that came with it.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
if [ -L "$self" ]; then self=$(readlink -f -- "$self") || exit 1; fi
here=$(cd "\${self%/*}" && pwd -P) || exit 1
exec "$here/node" "$here/dist/src/main.js" "$@"
`;

interface LockedPackage {
  dev?: boolean;
  optional?: boolean;
}

/** Folders of the packages that the program needs at work, as the lock file has them. */
async function productionPackages(root: string): Promise<string[]> {
  const lock = JSON.parse(await fs.readFile(path.join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  const folders: string[] = [];
  for (const [folder, { dev, optional }] of Object.entries(lock.packages)) {
    if (folder === '' || dev) continue;
    const isThere = await fs.stat(path.join(root, folder)).then(
      () => true,
      () => false,
    );
    if (isThere) folders.push(folder);
    else if (!optional) throw new PhdError('NOT_FOUND', `${folder} is not installed: run npm ci first`);
  }
  return folders;
}

/** Copies a package without packages nested in it: those the lock file names come by themselves. */
async function copyPackage(folder: string, stage: string): Promise<void> {
  const from = path.join(ROOT, folder);
  await fs.cp(from, path.join(stage, folder), {
    recursive: true,
    filter: (file) =>
      !path.relative(from, file).split(path.sep).includes('node_modules') && !BUILD_REMAINS.test(file),
  });
}

/** The built program without its benchmark, packages, Node, start script. */
async function fillStage(stage: string): Promise<void> {
  const rooms = (await fs.readdir(path.join(ROOT, 'dist'))).filter((name) => name !== 'test');
  for (const name of [...PAPERS, ...rooms.map((room) => path.join('dist', room))]) {
    await fs.cp(path.join(ROOT, name), path.join(stage, name), { recursive: true });
  }
  for (const folder of await productionPackages(ROOT)) await copyPackage(folder, stage);
  await fs.copyFile(process.execPath, path.join(stage, 'node'));
  await fs.chmod(path.join(stage, 'node'), 0o755);
  await fs.writeFile(path.join(stage, 'phd'), START_SCRIPT, { mode: 0o755 });
  await run('chmod', ['-R', 'u+rwX,go+rX,go-w', stage]);
}

async function sync(place: string): Promise<void> {
  const handle = await fs.open(place, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Packs, reads the archive back, proves that what it holds starts, and only then gives it its name. */
async function bundle(outFolder: string): Promise<string> {
  const name = `phd-${VERSION}-linux-${process.arch}`;
  const goal = path.join(outFolder, `${name}.tar.gz`);
  const work = await fs.mkdtemp(path.join(tmpdir(), 'phd-bundle-'));
  try {
    const stage = path.join(work, 'pack', name);
    await fs.mkdir(stage, { recursive: true });
    await fillStage(stage);
    await fs.mkdir(outFolder, { recursive: true });
    const owner = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner'];
    await run('tar', [...owner, '-C', path.dirname(stage), '-czf', `${goal}.part`, name]);
    const proof = path.join(work, 'proof');
    await fs.mkdir(proof);
    await run('tar', ['-C', proof, '-xzf', `${goal}.part`]);
    const started = await run(path.join(proof, name, 'phd'), ['--help'], { env: {} });
    if (!started.stdout.includes('backup')) throw new PhdError('IO', 'the unpacked bundle does not start');
    await sync(`${goal}.part`);
    await fs.rename(`${goal}.part`, goal);
    await sync(outFolder);
  } catch (error) {
    await fs.rm(`${goal}.part`, { force: true });
    throw fromErrno(error, `cannot make ${goal}`);
  } finally {
    await fs.rm(work, { recursive: true, force: true });
  }
  return goal;
}

try {
  const goal = await bundle(path.resolve(process.argv[2] ?? ROOT));
  const hash = createHash('sha256');
  await pipeline(createReadStream(goal), hash);
  const { size } = await fs.stat(goal);
  process.stdout.write(`${goal}: ${formatBytes(size)}, SHA-256 ${hash.digest('hex')}\n`);
} catch (error) {
  const failure = fromErrno(error, 'cannot make the bundle');
  process.stderr.write(`phd bundle: ${failure.message}\n`);
  process.exitCode = failure.exitStatus;
}

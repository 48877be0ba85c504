/** Holds the tree to what src/DESIGN.md says of it: the page is read here, so that page and check cannot part. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DESIGN = readFileSync(path.join(ROOT, 'src/DESIGN.md'), 'utf8');
const PROGRAM_FOLDERS = ['src', 'screens', 'menus', 'db'];
const TOP_LEVEL = ['package.json', 'package-lock.json', 'tsconfig.json', 'README.md', 'CHANGELOG.md'].concat(
  ['.gitignore', '.ci', 'test'],
  PROGRAM_FOLDERS,
);

/** Rows of the table under a heading of the page, cells trimmed, without titles. */
function tableUnder(heading: string): string[][] {
  const section = DESIGN.split(/^## /m).find((one) => one.startsWith(heading)) ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

interface Room {
  /** `src/errors.ts`, or a folder that ends in a slash. */
  place: string;
  /** Places it may import. */
  mayImport: Set<string>;
}

/** `src/blocks/` -> blocks, `src/errors.ts` -> errors: the short names of the third column. */
function shortName(place: string): string {
  return path.basename(place).replace(/\.ts$/, '');
}

function readRooms(): Room[] {
  const rooms: Room[] = [];
  const rows = tableUnder('Rooms').map(([first = '', , third = '']) => ({
    places: [...first.matchAll(/`([^`]+)`/g)].map(([, place]) => place as string),
    words: third,
  }));
  const all = rows.flatMap(({ places }) => places);
  const placesOf = (words: string): string[] =>
    words
      .split(/,\s*/)
      .filter((word) => word !== '' && word !== 'nothing')
      .map((word) => {
        const place = all.find((one) => shortName(one) === word);
        if (place === undefined) throw new Error(`DESIGN.md lets something import ${word}, which is no room`);
        return place;
      });
  for (const { places, words } of rows) {
    const above = rooms.map((room) => room.place);
    const special = new Map(
      [...words.matchAll(/\((\w+): ([^)]*)\)/g)].map(([, who, what]) => [who, what as string]),
    );
    const plain = words.replace(/,?\s*\([^)]*\)/g, '');
    for (const place of places) {
      const mayImport = plain === 'all of the above' ? above : placesOf(plain);
      const more = placesOf(special.get(shortName(place)) ?? '');
      rooms.push({ place, mayImport: new Set([...mayImport, ...more, ...places]) });
    }
  }
  return rooms;
}

function sourceFiles(): string[] {
  return PROGRAM_FOLDERS.filter((folder) => existsSync(path.join(ROOT, folder))).flatMap((folder) =>
    readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => path.join(folder, name)),
  );
}

/** What a file imports: by statement, re-export, `import()`, or in a type. */
function importsOf(file: string): string[] {
  const text = readFileSync(path.join(ROOT, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  const statement = /(?:^|\n)\s*(?:import|export)\b[^;'"]*?from\s*['"]([^'"]+)['"]/g;
  const bare = /(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g;
  const call = /\b(?:import|require)\s*\(\s*['"]([^'"]+)['"]/g;
  return [statement, bare, call].flatMap((form) =>
    [...text.matchAll(form)].map(([, what]) => what as string),
  );
}

const FILES = sourceFiles();
const ROOMS = readRooms();

function roomOf(file: string): Room | undefined {
  return ROOMS.find(({ place }) => (place.endsWith('/') ? file.startsWith(place) : file === place));
}

interface Import {
  file: string;
  /** Path in the tree, or the bare name. */
  what: string;
  isOwn: boolean;
}

const IMPORTS: Import[] = FILES.flatMap((file) =>
  importsOf(file).map((what) =>
    what.startsWith('.')
      ? { file, what: path.join(path.dirname(file), what), isOwn: true }
      : { file, what, isOwn: false },
  ),
);

/** `@scope/name/deep` -> `@scope/name` */
function packageOf(name: string): string {
  return name.split('/', name.startsWith('@') ? 2 : 1).join('/');
}

const PACKAGE_JSON = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  allowScripts: Record<string, boolean>;
};

/** Files under version control; in a tree without it, all but what the build and npm make. */
function trackedFiles(): string[] {
  if (existsSync(path.join(ROOT, '.git'))) {
    const list = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' });
    return list.split('\0').filter((file) => file !== '' && existsSync(path.join(ROOT, file)));
  }
  const made = new Set(['node_modules', 'dist']);
  return readdirSync(ROOT, { withFileTypes: true })
    .filter(({ name }) => !made.has(name) && !/\.(tgz|tar\.gz)$/.test(name))
    .flatMap((entry) =>
      entry.isDirectory()
        ? readdirSync(path.join(ROOT, entry.name), { recursive: true, withFileTypes: true })
            .filter((inner) => inner.isFile())
            .map((inner) => path.relative(ROOT, path.join(inner.parentPath, inner.name)))
        : [entry.name],
    );
}

describe('rooms', () => {
  it('the page names rooms, and the tree has files and imports to check', () => {
    expect(ROOMS.length).toBeGreaterThan(10);
    expect(FILES.length).toBeGreaterThan(50);
    expect(IMPORTS.filter(({ isOwn }) => isOwn).length).toBeGreaterThan(200);
  });

  it('every source file lies in a room', () => {
    expect(FILES.filter((file) => roomOf(file) === undefined)).toEqual([]);
  });

  it('a room imports only what the table lets it', () => {
    const broken = IMPORTS.filter(({ isOwn }) => isOwn).filter(({ file, what }) => {
      const from = roomOf(file);
      const to = roomOf(what);
      return from !== undefined && from !== to && (to === undefined || !from.mayImport.has(to.place));
    });
    expect(broken.map(({ file, what }) => `${file} imports ${what}`)).toEqual([]);
  });

  it('no two rooms need each other, directly or around', () => {
    const edges = new Map<string, Set<string>>(ROOMS.map(({ place }) => [place, new Set()]));
    for (const { file, what } of IMPORTS.filter(({ isOwn }) => isOwn)) {
      const from = roomOf(file)?.place;
      const to = roomOf(what)?.place;
      if (from !== undefined && to !== undefined && from !== to) edges.get(from)?.add(to);
    }
    const cycles: string[] = [];
    const walk = (place: string, way: string[]): void => {
      const at = way.indexOf(place);
      if (at >= 0) return void cycles.push([...way.slice(at), place].join(' -> '));
      for (const next of edges.get(place) ?? []) walk(next, [...way, place]);
    };
    for (const { place } of ROOMS) walk(place, []);
    expect([...new Set(cycles)]).toEqual([]);
  });

  it.each([
    ['blessed', 'screens/'],
    ['better-sqlite3', 'db/'],
  ])('only one room knows %s', (name, place) => {
    const elsewhere = IMPORTS.filter(({ file, what, isOwn }) => {
      const isIt = !isOwn && [name, `neo-${name}`].includes(packageOf(what));
      return isIt && !file.startsWith(place);
    });
    expect(elsewhere.map(({ file }) => file)).toEqual([]);
  });

  it('src/archive knows bytes and text only: no files, no network', () => {
    const outside = IMPORTS.filter(({ file, isOwn }) => !isOwn && file.startsWith('src/archive/'));
    const allowed = ['node:zlib', 'node:crypto', 'zstd-napi', 'uuid'];
    expect(
      outside
        .filter(({ what }) => !allowed.includes(packageOf(what)))
        .map(({ file, what }) => `${file}: ${what}`),
    ).toEqual([]);
  });

  it('relative imports name a file that exists, with its ending', () => {
    const absent = IMPORTS.filter(({ what, isOwn }) => isOwn && !existsSync(path.join(ROOT, what)));
    expect(absent.map(({ file, what }) => `${file} imports ${what}`)).toEqual([]);
  });
});

describe('packages', () => {
  it('what the program imports is built in with its node: name, or a dependency', () => {
    const outside = [...new Set(IMPORTS.filter(({ isOwn }) => !isOwn).map(({ what }) => what))];
    const known = (what: string): boolean =>
      what.startsWith('node:')
        ? builtinModules.includes(what.slice(5))
        : packageOf(what) in PACKAGE_JSON.dependencies;
    expect(outside.filter((what) => !known(what))).toEqual([]);
  });

  it('every direct dependency stands with its reason in the page, and nothing else does; types follow their package', () => {
    const listed = tableUnder('Packages').flatMap(([names = '', reason = '']) => {
      expect(reason).not.toBe('');
      return names.split(/,\s*/);
    });
    const direct = [...Object.keys(PACKAGE_JSON.dependencies), ...Object.keys(PACKAGE_JSON.devDependencies)]
      .filter((name) => !name.startsWith('@types/'))
      .map((name) => (listed.includes(name) ? name : path.basename(name)));
    expect(direct.sort()).toEqual(listed.sort());
  });

  it('install scripts: each package that has one is let run or kept from it by name', () => {
    const lock = JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { hasInstallScript?: boolean; os?: string[] }>;
    };
    const withScript = Object.entries(lock.packages)
      .filter(
        ([, { hasInstallScript, os }]) => hasInstallScript && (os === undefined || os.includes('linux')),
      )
      .map(([folder]) => folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length));
    expect(Object.keys(PACKAGE_JSON.allowScripts).sort()).toEqual([...new Set(withScript)].sort());
  });
});

describe('the tree', () => {
  it('the top level holds what it always held', () => {
    const top = [...new Set(trackedFiles().map((file) => file.split(path.sep)[0] as string))];
    expect(top.filter((name) => !TOP_LEVEL.includes(name))).toEqual([]);
    expect(existsSync(path.join(ROOT, '.ci/run'))).toBe(true);
  });

  it('files speak of the project alone: no bench of a maker, no tracker numbers, no debts', () => {
    const foreign: [string, RegExp][] = [
      ['folder of one machine', /(^|[\s"'`(=:])\/(work|root)\/\w/m],
      [
        'page that is not in the tree',
        /\bshared\/(spec|reference|seeds|hooks)\b|\breference\/\w+\.md\b|\.librar[y]\b/,
      ],
      ['section of a page that is not in the tree', /\bspec(\.md)?,? section\b|\bspec §/i],
      ['number in a tracker', /\bissue #?\d|\b(fixes|closes) #\d/i],
      [
        'how it was written',
        /\b(chat ?gp[t]|claud[e]|anthropi[c]|copilo[t]|language mode[l]|AI[- ](generate[d]|writte[n]))\b/i,
      ],
      ['debt', /\b(TOD[O]|FIXM[E]|XX[X]|HAC[K])\b/],
    ];
    const found = trackedFiles()
      .filter((file) => /\.(ts|sh|md|json|ya?ml)$|^\.ci\/run$/.test(file) && file !== 'package-lock.json')
      .flatMap((file) => {
        const text = readFileSync(path.join(ROOT, file), 'utf8');
        return foreign.flatMap(([what, form]) => {
          const hit = form.exec(text);
          if (hit === null) return [];
          const line = text.slice(0, hit.index).split('\n').length;
          return [`${file}:${line}: ${what}: ${hit[0].trim()}`];
        });
      });
    expect(found).toEqual([]);
  });
});

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CliStreams } from '../../src/cli/cli.ts';
import { openProgress, type ProgressFigures, progressLine } from '../../src/cli/progress.ts';
import { printTable } from '../../src/cli/table.ts';
import { main } from '../../src/main.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';
const FOLDER = `2008.04.29-RedHat_VM1.${UUID}.FULL`;
const FULL = '00-RedHat_VM1.vmdk.gz-080429-1134.phd';
const EMPTY = '00-RedHat_VM1.vmdk.delta-2008.04.29-1134-080429-1134.phd';

let home: TempHome;

beforeEach(() => {
  home = makeTempHome();
  home.writeConfig(`targets:
  - { number: 1, name: local, transport: vmfs, path: one }
  - { number: 2, name: second, transport: vmfs, path: two }
`);
  for (const target of ['one', 'two']) home.folder(target);
  home.write(`one/${FOLDER}/${FULL}`, 'full');
  home.write(`one/${FOLDER}/${EMPTY}`, 'delta!');
});

afterEach(() => home.remove());

interface Outcome {
  status: number;
  out: string[];
  err: string[];
}

async function phd(words: string[], input = '', signal = new AbortController().signal): Promise<Outcome> {
  const texts = { stdout: '', stderr: '' };
  const sink = (name: 'stdout' | 'stderr') => {
    const stream = new PassThrough();
    stream.on('data', (chunk) => {
      texts[name] += chunk;
    });
    return stream as unknown as NodeJS.WriteStream;
  };
  const stdin = Readable.from([input]) as unknown as NodeJS.ReadStream;
  const streams: CliStreams = { stdin, stdout: sink('stdout'), stderr: sink('stderr') };
  const status = await main(words, home.env, streams, signal);
  const lines = (text: string) => text.split('\n').filter((line) => line !== '');
  return { status, out: lines(texts.stdout), err: lines(texts.stderr) };
}

describe('phd index and phd list', () => {
  it('what is on the targets is indexed and listed, with the words that other commands take', async () => {
    const indexed = await phd(['index']);
    expect(indexed).toMatchObject({ status: 0, err: [] });
    expect(indexed.out[1]).toMatch(/^1 +local +complete +1 +0 +0 +2 +0$/);
    const listed = await phd(['list']);
    expect(listed).toMatchObject({ status: 0, err: [] });
    expect(listed.out).toHaveLength(3);
    expect(listed.out.join('\n')).toContain(`1:${FOLDER}/${FULL}`);
    expect(listed.out[0]).toMatch(/^DATE +TYPE +VM +SCSI +DISK +SIZE +STATE +ARCHIVE$/);
  });

  it('--json gives the keys of the manual, null where no header was read', async () => {
    await phd(['index']);
    const { out } = await phd(['list', '--json', '--mode', 'full']);
    expect(out.map((line) => JSON.parse(line))).toEqual([
      {
        target: 1,
        targetName: 'local',
        transport: 'vmfs',
        path: `${FOLDER}/${FULL}`,
        vm: 'RedHat_VM1',
        displayName: null,
        uuid: UUID,
        host: null,
        disk: 'RedHat_VM1.vmdk',
        scsiId: '00',
        mode: 'full',
        codec: 'gzip',
        encrypted: false,
        runId: null,
        time: '2008-04-29T11:34',
        fullTime: '2008-04-29T11:34',
        archiveBytes: 4,
        diskBytes: null,
        complete: true,
        held: false,
        foreign: false,
        verifiedAt: null,
        verifyResult: null,
        state: 'without DELTA',
        gpgMasterOffset: null,
      },
    ]);
  });

  it.each([
    [['--vm', 'redhat'], 2],
    [['--vm', 'nothing'], 0],
    [['--disk', 'VM1.v'], 2],
    [['--date', '2008-04-29'], 2],
    [['--date', '2008-04-30..2008-05-01'], 0],
    [['--transport', 'ftp'], 0],
    [['--vmfs', 'only'], 2],
    [['--vmfs', 'hide'], 0],
    [['--target', '2'], 0],
    [['--target', '%'], 2],
    [['--mode', 'delta'], 1],
  ])('list %j', async (words, count) => {
    await phd(['index']);
    const { status, out } = await phd(['list', '--json', ...words]);
    expect({ status, count: out.length }).toEqual({ status: 0, count });
  });

  it('a target that cannot be reached gives one line and status 4; the others are done', async () => {
    home.writeConfig(`targets:
  - { number: 1, name: local, transport: vmfs, path: one }
  - { number: 2, name: second, transport: vmfs, path: nowhere }
`);
    const { status, out, err } = await phd(['index', '--json']);
    expect(status).toBe(4);
    expect(err).toHaveLength(1);
    expect(err[0]).toMatch(/^phd: target 2 \(second\): .*nowhere/);
    expect(out.map((line) => JSON.parse(line))).toMatchObject([
      { event: 'done', targetNumber: 1, archiveCount: 2, code: null },
      { event: 'error', targetNumber: 2, code: 'TARGET_UNREACHABLE' },
    ]);
  });

  it('names that a terminal would act on are shown, not obeyed', async () => {
    const hostile = `2008.04.29-a%1B[2Jb\u202ec.${UUID}`;
    mkdirSync(path.join(home.root, 'two', hostile));
    writeFileSync(path.join(home.root, 'two', hostile, FULL), 'x');
    await phd(['index']);
    const { out } = await phd(['list', '--target', '2']);
    expect(out[1]).toContain('a\\x1b[2Jb\\u{202e}c');
    expect(out.join('')).not.toMatch(/[\u001b\u202e]/);
  });

  it('two VMs of one name are told apart by the end of their UUID', async () => {
    home.write(`two/${FOLDER.replace('d965', 'beef')}/${FULL}`, 'full');
    await phd(['index']);
    const { out } = await phd(['list', '--mode', 'full']);
    expect(out.join('\n')).toMatch(
      /RedHat_VM1 \(d965\)[\s\S]*RedHat_VM1 \(beef\)|RedHat_VM1 \(beef\)[\s\S]*RedHat_VM1 \(d965\)/,
    );
  });

  it('an index that was never made is told', async () => {
    const { status, out, err } = await phd(['list']);
    expect({ status, out }).toEqual({ status: 0, out: [] });
    expect(err).toEqual(['phd: there is nothing to list yet: the index was never made, run phd index']);
  });

  it('cancelled ends with status 130', async () => {
    expect(await phd(['index'], '', AbortSignal.abort())).toMatchObject({
      status: 130,
      err: ['phd: cancelled'],
    });
  });
});

describe('wrong words', () => {
  it.each([
    [['bogus'], 'phd: there is no command "bogus": see phd --help'],
    [['list', '--zzzzzzzzz'], "phd: unknown option '--zzzzzzzzz'"],
    [['list', '--mode', 'half'], 'phd: --mode "half": expected all, full, delta'],
    [['list', '--target', '0'], 'phd: --target "0": expected a whole number 1 to 9999'],
    [
      ['list', '--date', '\u001b[31m'],
      'phd: "\\u001b[31m" is no date: expected YYYY-MM-DD or YYYY-MM-DDTHH:MM',
    ],
    [['config', 'set', 'index.maxAgeMinutes'], 'phd: config set: give either a value or --remove'],
  ])('%j end with one line and status 2', async (words, line) => {
    expect(await phd(words)).toEqual({ status: 2, out: [], err: [line] });
  });

  it('a broken configuration names file, line and key', async () => {
    home.writeConfig('targets:\n  - { number: 1, name: a, transport: nfs, path: /a }\n');
    const { status, err } = await phd(['list']);
    expect({ status, err }).toEqual({
      status: 2,
      err: [`phd: ${home.root}/phd.yaml:2: targets[0].transport: expected one of "vmfs"|"ftp"|"ssh"`],
    });
  });

  it('help is no error', async () => {
    const { status, out } = await phd(['--help']);
    expect(status).toBe(0);
    expect(out.join('\n')).toContain('index [options]');
  });
});

describe('phd target and phd config', () => {
  it('a target is added, changed and removed in the file; a secret of a missing file stops no other target', async () => {
    const add = [
      'target',
      'add',
      '3',
      '--name',
      'ftp1',
      '--transport',
      'ftp',
      '--host',
      'h',
      '--user',
      'u',
      '--path',
      '',
    ];
    expect((await phd([...add, '--password-file', 'secrets/none'])).status).toBe(0);
    expect((await phd(add)).err[0]).toContain('target 3 is there already');
    expect((await phd(['target', 'edit', '3', '--port', '2121', '--read-only', 'true'])).status).toBe(0);
    const listed = (await phd(['target', 'list', '--json'])).out.map((line) => JSON.parse(line));
    expect(listed[2]).toMatchObject({ number: 3, port: 2121, readOnly: true, listedAt: null });
    const indexed = await phd(['index']);
    expect(indexed.status).toBe(2);
    expect(indexed.err.join()).toContain('there is no file');
    expect(indexed.out[1]).toContain('complete');
    expect((await phd(['config', 'check'])).err[0]).toContain('password of target 3 (ftp1)');
    expect((await phd(['target', 'remove', '3'])).status).toBe(0);
    expect((await phd(['config', 'check'])).status).toBe(0);
    expect((await phd(['target', 'remove', '3'])).status).toBe(2);
  });

  it('a target passes its test and is left as it was', async () => {
    const { status, out } = await phd(['target', 'test', '2', '--json']);
    expect(status).toBe(0);
    expect(out.map((line) => JSON.parse(line).ok)).not.toContain(false);
    expect((await phd(['index', '--json'])).out.map((line) => JSON.parse(line))[1]).toMatchObject({
      folderCount: 0,
      strayEntries: 0,
    });
  });

  it('a setting is set, read and removed', async () => {
    expect((await phd(['config', 'set', 'index.maxAgeMinutes', '30'])).status).toBe(0);
    expect((await phd(['config', 'get', 'index.maxAgeMinutes'])).out).toEqual(['30']);
    expect((await phd(['config', 'set', 'index.maxAgeMinutes', '--remove'])).status).toBe(0);
    expect((await phd(['config', 'get', 'index.maxAgeMinutes'])).out).toEqual(['15']);
  });
});

describe('phd passphrase', () => {
  it('a new one is kept closed to others, the one before becomes a former one, none is ever printed', async () => {
    const first = await phd(['passphrase', 'set'], 'FIRST one\n');
    const second = await phd(['passphrase', 'set'], 'SECOND one\n');
    expect([first.status, second.status]).toEqual([0, 0]);
    expect((await phd(['passphrase', 'test'], 'SECOND one\n')).status).toBe(0);
    expect((await phd(['passphrase', 'test'], 'FIRST one\n')).status).toBe(7);
    expect((await phd(['config', 'get', 'encryption.formerPassphraseFiles'])).out).toEqual([
      '["secrets/system.1"]',
    ]);
    expect((await phd(['config', 'check'])).status).toBe(0);
    expect([...first.out, ...first.err, ...second.out, ...second.err].join()).not.toMatch(/FIRST|SECOND/);
  });

  it('an empty one is refused, and so is a test of one that is not set', async () => {
    expect((await phd(['passphrase', 'set', 'master'], '\n')).status).toBe(7);
    expect((await phd(['passphrase', 'test', 'master'], 'x\n')).status).toBe(7);
    expect((await phd(['passphrase', 'set'], '')).status).toBe(130);
  });
});

describe('tables', () => {
  it('columns are as wide as what is seen: wide characters count twice, marks not at all', () => {
    expect(
      printTable(
        [{ title: 'A' }, { title: 'N', align: 'right' }],
        [
          ['\u4e2d\u6587', '1'],
          ['e\u0301', '22'],
          ['\t', '3'],
        ],
      ),
    ).toEqual(['A      N', '\u4e2d\u6587   1', 'e\u0301     22', '\\x09   3']);
  });
});

describe('progress', () => {
  const figures: ProgressFigures = {
    label: 'a\u001b.vmdk',
    percent: 45.4,
    bytes: 2300 * 1024 * 1024,
    totalBytes: 5120 * 1024 * 1024,
    bytesPerSecond: 14 * 1024 * 1024,
    meanBytesPerSecond: 13.1 * 1024 * 1024,
    elapsedSeconds: 161,
    remainingSeconds: 201,
  };

  it('one line tells it all, and remaining time only when it is known', () => {
    expect(progressLine(figures)).toBe(
      'a\\x1b.vmdk: 45 %, 2300 of 5120 MB, 14.0 MB/s (mean 13.1), elapsed 02:41, remaining 03:21',
    );
    expect(progressLine({ ...figures, remainingSeconds: null })).not.toContain('remaining');
  });

  it.each([false, true])(
    'without a terminal it comes every five seconds and at the end (JSON: %s)',
    async (isJson) => {
      let nowMs = 0;
      let text = '';
      const stream = () => {
        const through = new PassThrough();
        through.on('data', (chunk) => {
          text += chunk;
        });
        return through as unknown as NodeJS.WriteStream;
      };
      const view = await openProgress({ stdout: stream(), stderr: stream() }, isJson, () => nowMs);
      for (let second = 0; second <= 12; second++) {
        nowMs = second * 1000;
        view.show({ ...figures, percent: second < 12 ? second * 8 : 100 });
      }
      view.end();
      const lines = text.trim().split('\n');
      expect(lines).toHaveLength(4);
      const percents = lines.map((line) =>
        isJson ? JSON.parse(line).percent : Number(/(\d+) %/.exec(line)?.[1]),
      );
      expect(percents).toEqual([0, 40, 80, 100]);
    },
  );
});

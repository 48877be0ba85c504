import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../../src/main.ts';
import { smallDelta } from '../engine/small-delta.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';
const FOLDER = `2026.03.01-web.${UUID}.FULL`;
const NEXT = `2026.03.02-web.${UUID}`;
const FULL = '00-web.vmdk.gz.gpg-260301-1000.phd';
const EMPTY = '00-web.vmdk.delta.gpg-2026.03.01-1000-260301-1000.phd';
const DELTA = '00-web.vmdk.delta.gpg-2026.03.02-1000-260301-1000.phd';

let home: TempHome;

beforeEach(() => {
  home = makeTempHome();
  home.writeConfig('targets:\n  - { number: 1, name: local, transport: vmfs, path: one }\n');
  mkdirSync(path.join(home.root, 'one'));
});
afterEach(() => home.remove());

async function phd(...words: string[]): Promise<string[]> {
  let text = '';
  const stdout = new PassThrough();
  stdout.on('data', (chunk) => {
    text += chunk;
  });
  const streams = {
    stdin: Readable.from(['']) as unknown as NodeJS.ReadStream,
    stdout: stdout as unknown as NodeJS.WriteStream,
    stderr: stdout as unknown as NodeJS.WriteStream,
  };
  expect(await main(words, home.env, streams, new AbortController().signal)).toBe(0);
  return text.split('\n').filter((line) => line !== '');
}

describe('phd list tells', () => {
  it('in column STATE and in JSON what keeps a row from being counted on', async () => {
    const uuid = UUID;
    const runDisks = ['00 web.vmdk', '01 data.vmdk'];
    const stamp = '2026-03-02T10:00';
    home.write(`one/${FOLDER}/${FULL}`, 'full');
    home.write(
      `one/${NEXT}/${DELTA}`,
      smallDelta({ uuid, stamp, fullStamp: '2026-03-01T10:00', runDisks, encrypted: true }),
    );
    await phd('index');
    const [title = '', ...lines] = await phd('list');
    const stateOf = (file: string) => {
      const line = lines.find((one) => one.endsWith(file)) ?? '';
      return line.slice(title.indexOf('STATE'), title.indexOf('ARCHIVE')).trim();
    };
    expect([stateOf(FULL), stateOf(DELTA)]).toEqual(['without DELTA', 'partial']);
    const rows = (await phd('list', '--json')).map((line) => JSON.parse(line));
    expect(rows).toMatchObject([
      { state: 'partial', host: 'esx1', displayName: 'Web', diskBytes: 1_048_576, gpgMasterOffset: null },
      { state: 'without DELTA', host: null, gpgMasterOffset: 49 },
    ]);

    const bytes = smallDelta({ uuid, stamp: '2026-03-01T10:00', encrypted: true });
    home.write(`one/${FOLDER}/${EMPTY}`, bytes);
    home.write(`one/${NEXT}/${DELTA}`, bytes.subarray(0, -512));
    await phd('index', '--force');
    const later = (await phd('list', '--json')).map((line) => JSON.parse(line));
    expect(later.map((row) => [row.path, row.state])).toEqual([
      [`${NEXT}/${DELTA}`, 'arriving or cut'],
      [`${FOLDER}/${EMPTY}`, null],
      [`${FOLDER}/${FULL}`, null],
    ]);
  });

  it('in its help how gpg opens an encrypted FULL with the master passphrase', async () => {
    expect((await phd('list', '--help')).join('\n')).toContain('tail -c +49 FULL | gpg -d');
  });
});

/**
 * A VM of a host is found, held still, backed up and let go, whatever happens. The host is one in memory, for what counts
 * here is the order of the engine's calls; real kinds of host have tales of their own.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as BackupHost from '../../src/engine/backup-host.ts';
import type * as Library from '../../src/engine/index.ts';
import type { FrozenVm, Host, HostVm } from '../../src/hosts/host.ts';
import type { HostConfig } from '../../src/model/config.ts';
import { only, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;
const { chooseVm } = (await import(`${BUILT}engine/backup-host.js`)) as typeof BackupHost;

const SIZE = 65_536;
const vm = (name: string, id: string, uuid: string | null = null): HostVm => ({
  id,
  name,
  uuid,
  place: null,
  power: 'on',
});
const VMS = [vm('web', '1', '564d1111-0000'), vm('mail', '2', '564d2222-0000'), vm('web', '3'), vm('4', '5')];

class MemoryHost implements Host {
  readonly config = { name: 'box', type: 'device' } as HostConfig;
  calls: string[] = [];
  onRead: () => void = () => undefined;
  onRelease: () => void = () => undefined;

  async listVms(): Promise<HostVm[]> {
    return VMS;
  }

  async freeze({ name }: HostVm): Promise<FrozenVm> {
    this.calls.push(`freeze ${name}`);
    return {
      source: {
        folder: `box/${name}`,
        hostName: 'box',
        vmName: name,
        displayName: name,
        uuid: '564d2222-3333-4444-5555-666677778888',
        files: [],
        refused: [],
        notices: [],
        disks: [
          {
            scsiId: '00',
            name: 'sda.img',
            flatPath: 'box:/dev/sda',
            reader: {
              read: async (_block, target) => {
                this.onRead();
                target.fill(7);
              },
              digests: null,
            },
            descriptorPath: null,
            descriptorText: null,
            sizeBytes: SIZE,
            createType: null,
            adapterType: null,
          },
        ],
      },
      release: async () => {
        this.calls.push(`release ${name}`);
        this.onRelease();
      },
    };
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }
}

describe('A VM of a host', () => {
  const tale = new Tale();
  let context: Library.EngineContext;
  beforeAll(async () => {
    context = await phd.openContext({ env: tale.home.env });
  });
  afterAll(async () => {
    await context.close();
    tale.remove();
  });
  const of = (host: Host): Library.EngineContext => ({ ...context, host: async () => host });

  it('is found by name, by uuid in any case, or by id; a name borne twice is refused with what tells them apart', () => {
    expect(chooseVm(VMS, { host: 'box', vm: 'mail' }).id).toBe('2');
    expect(chooseVm(VMS, { host: 'box', vm: '564D1111-0000' }).id).toBe('1');
    expect(chooseVm(VMS, { host: 'box', vm: '3' }).id).toBe('3');
    expect(chooseVm(VMS, { host: 'box', vm: '4' }).id).toBe('5');
    expect(() => chooseVm(VMS, { host: 'box', vm: 'web' })).toThrow(/has 2 VMs named web.*564d1111-0000, 3/);
    expect(() => chooseVm(VMS, { host: 'box', vm: 'maill' })).toThrow(/no VM maill: is mail meant/);
    expect(() => chooseVm(VMS, { host: 'box', vm: 'nothing' })).toThrow(/see phd host list box/);
  });

  it('is let go after its backup', async () => {
    const host = new MemoryHost();
    const result = await phd.backupHostVm(of(host), { host: 'box', vm: 'mail' });
    expect(result.failed).toEqual([]);
    expect(only(result.disks)).toMatchObject({ mode: 'full', disk: 'sda.img' });
    expect(host.calls).toEqual(['freeze mail', 'release mail']);
  });

  it('is let go where its backup fails', async () => {
    const host = new MemoryHost();
    host.onRead = () => {
      throw new phd.PhdError('TARGET_UNREACHABLE', 'box:22: the line died');
    };
    const folders = readdirSync(tale.path('one'));
    const { failed } = await phd.backupHostVm(of(host), { host: 'box', vm: 'mail', mode: 'full' });
    expect(readdirSync(tale.path('one'))).toEqual(folders);
    expect(only(failed).error.code).toBe('TARGET_UNREACHABLE');
    const work = phd.backupHostVm(of(host), { host: 'box', vm: 'mail', codec: 'gzip', target: 99 });
    await expect(work).rejects.toMatchObject({ code: 'USAGE' });
    expect(host.calls).toEqual(['freeze mail', 'release mail']);
  });

  it('that cannot be let go is told loudly, and the backup counts as failed', async () => {
    const host = new MemoryHost();
    host.onRelease = () => {
      throw new phd.PhdError('TARGET_UNREACHABLE', 'the snapshot stays');
    };
    const warnings: string[] = [];
    const { failed, disks } = await phd.backupHostVm(
      of(host),
      { host: 'box', vm: 'mail' },
      { onWarning: (message) => warnings.push(message) },
    );
    expect(only(disks).mode).toBe('delta');
    expect(only(failed).error.message).toBe('box/mail could not be let go as it was: the snapshot stays');
    expect(warnings).toContain('box/mail could not be let go as it was: the snapshot stays');
  });

  it('is held by one backup at a time', async () => {
    const host = new MemoryHost();
    const refused: unknown[] = [];
    const read = host.freeze.bind(host);
    host.freeze = async (one) => {
      await phd
        .backupHostVm(of(new MemoryHost()), { host: 'box', vm: 'mail' })
        .catch((error: unknown) => refused.push(error));
      return await read(one);
    };
    await phd.backupHostVm(of(host), { host: 'box', vm: 'mail' });
    expect(only(refused)).toMatchObject({ code: 'LOCKED' });
  });
});

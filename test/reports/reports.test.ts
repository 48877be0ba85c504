/** Reports of backup jobs: status log, mail through a real SMTP server, health ping, and the status for monitoring. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sendMail } from '../../src/reports/mail.ts';
import { subjectOf, textOf } from '../../src/reports/report-text.ts';
import type { RunReport } from '../../src/reports/run-report.ts';
import { MAIL_PASSWORD, MAIL_USER, type MailServer, startMailServer } from '../support/servers/smtpd.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, Tale } from '../tales/tale.ts';

const NOTHING: RunReport = {
  runId: 'x',
  job: 'nightly',
  mode: 'delta',
  startedAt: '2026-11-26T21:00:00.000Z',
  endedAt: '2026-11-26T21:30:00.000Z',
  vms: [],
  removedRuns: 0,
  errors: [],
  warnings: [],
  isKilled: false,
};
const vm = (name: string, result: 'done' | 'warnings' | 'failed', message: string | null = null) => ({
  vm: name,
  from: '/vms',
  target: 1,
  job: 7,
  result,
  code: message === null ? null : 'IO',
  message,
  disks: 1,
  diskBytes: 1024,
  archiveBytes: 512,
  seconds: 2,
  startedAt: null,
  endedAt: null,
});

describe('The words of a report', () => {
  it('tell the outcome first, and what failed before what did not', () => {
    const report = {
      ...NOTHING,
      vms: [vm('web', 'done'), vm('db', 'failed', 'the line died')],
      warnings: ['odd'],
    };
    expect(subjectOf(report, 'backup1')).toBe('FAILED: backup job nightly on backup1: 1 backed up, 1 error');
    expect(subjectOf({ ...NOTHING, isKilled: true }, 'h')).toMatch(/^KILLED: /);
    expect(subjectOf({ ...NOTHING, vms: [vm('web', 'warnings')] }, 'h')).toMatch(/^WARNING: /);
    const text = textOf(report, 'backup1');
    expect(text.indexOf('db: the line died')).toBeLessThan(text.indexOf('web: 1 disk'));
  });

  it('of hostile names stay one line of 78 columns in the subject, and show what they are in the text', () => {
    const name = `x\r\nBcc: evil@example.com\n\u001b[2J${'y'.repeat(200)}`;
    const report = { ...NOTHING, job: name, vms: [vm(name, 'failed', name)] };
    expect(subjectOf(report, name)).toMatch(/^[\x20-\x7e]{1,78}$/);
    expect(
      textOf(report, name)
        .split('\n')
        .every((line) => /^[\x20-\x7e]{0,78}$/.test(line)),
    ).toBe(true);
  });
});

describe('A run of a backup job', () => {
  let tale: Tale;
  let mail: MailServer;
  let http: Server;
  const asked: string[] = [];
  let answer = 200;
  beforeAll(async () => {
    mail = await startMailServer();
    http = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      request.resume();
      response.writeHead(answer).end();
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    tale = new Tale();
    tale.home.write('mailword', `${MAIL_PASSWORD}\n`, 0o600);
    tale.home.write('ping', `http://127.0.0.1:${(http.address() as AddressInfo).port}/secret-uuid\n`, 0o600);
    for (const name of ['web', 'db']) await tale.makeVm(name, [{ name: `${name}.vmdk`, sizeBytes: MIB }]);
    configure();
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    tale.remove();
    http.close();
    await mail.stop();
  });

  function configure(vms = 'web, db', more = ''): void {
    tale.configure({
      config: `backupJobs:\n  - { name: nightly, vms: [${vms}] }\nreports:\n  statusLog: log/status.log\n  pingUrlFile: ping\n  mail: { host: 127.0.0.1, port: ${mail.port}, caFile: ${mail.caFile}, user: ${MAIL_USER}, passwordFile: mailword, from: phd@example.com, to: [admin@example.com, boss@example.com], retries: 0${more} }\n`,
    });
  }

  it('is told by mail over STARTTLS with login, by the ping, and in the status log', async () => {
    const run = await tale.phd(['backup', '--job', 'nightly']);
    expect(run.status, run.stderr).toBe(0);
    const letter = only(mail.letters());
    expect(letter).toMatchObject({ from: 'phd@example.com', to: ['admin@example.com', 'boss@example.com'] });
    expect(letter.content).toMatch(/^Subject: (OK|WARNING): backup job nightly on .*2 backed up/m);
    expect(letter.content).toContain('run.json');
    expect(asked).toEqual(['POST /secret-uuid/start', 'POST /secret-uuid']);
    const log = readFileSync(tale.path('log', 'status.log'), 'utf8').trim().split('\n');
    expect(log).toHaveLength(6);
    for (const line of log)
      expect(line).toMatch(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d,(backup-job|vm-backup),[^,]+,(begin|end),/);
    expect(log[0]).toMatch(/,begin,nightly \(delta\)$/);
    expect(log[1]).toMatch(/,vm-backup,[^,]+,begin,(web|db) to target 1$/);
    expect(log[5]).toMatch(/,end,nightly S:\d W:\d E:0$/);
    expect(run.stdout + run.stderr).not.toMatch(/secret-uuid|mail "word"/);
  });

  it('that cannot even begin is told, for nobody sees what a job of cron prints', async () => {
    const database = tale.path('state', 'jobs.db');
    for (const name of readdirSync(tale.path('state')).filter((one) => one.startsWith('jobs.db')))
      renameSync(tale.path('state', name), tale.path('state', `kept.${name}`));
    mkdirSync(database);
    asked.length = 0;
    const run = await tale.phd(['backup', '--job', 'nightly']);
    expect(run.status).toBe(1);
    expect(asked).toEqual(['POST /secret-uuid/fail']);
    expect(mail.letters().at(-1)?.content).toMatch(/it was not begun: .*jobs\.db/);
    const log = readFileSync(tale.path('log', 'status.log'), 'utf8');
    expect(log).toMatch(/,end,ERROR it was not begun: .*\n.*,end,nightly S:0 W:0 E:1\n$/);
    rmdirSync(database);
    for (const name of readdirSync(tale.path('state')).filter((one) => one.startsWith('kept.')))
      renameSync(tale.path('state', name), tale.path('state', name.slice('kept.'.length)));
  });

  it('a status log that is a pipe which nobody reads is told, and holds nothing up', async () => {
    const pipe = tale.path('pipe');
    execFileSync('mkfifo', [pipe]);
    tale.configure({
      config: `backupJobs:\n  - { name: nightly, vms: [web] }\nreports: { statusLog: pipe }\n`,
    });
    const run = await tale.phd(['backup', '--job', 'nightly']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain(`cannot write the status log ${pipe}`);
    configure();
  });

  it('that fails says so everywhere; a report that fails is told and is no failure of its own', async () => {
    configure('web, nobody', ', tls: tls');
    answer = 404;
    asked.length = 0;
    const run = await tale.phd(['backup', '--job', 'nightly']);
    expect(run.status).toBe(1);
    expect(asked.at(-1)).toBe('POST /secret-uuid/fail');
    expect(run.stdout).toContain('health ping of 127.0.0.1');
    expect(run.stdout).toMatch(/mail by 127\.0\.0\.1:\d+: /);
    expect(run.stdout).not.toContain('secret-uuid');
    const ownLog = readFileSync(tale.path('log', 'phd.log'), 'utf8');
    expect(ownLog).toMatch(/report: .*health ping of 127\.0\.0\.1/);
    expect(ownLog).toMatch(/report: .*mail by 127\.0\.0\.1/);
    expect(mail.letters()).toHaveLength(2);
    expect(readFileSync(tale.path('log', 'status.log'), 'utf8')).toMatch(/,end,nightly S:\d W:\d E:1\n$/);
    answer = 200;
    configure();
  });

  it('is mailed only on failure where that is asked for', async () => {
    configure('web', ', when: failure');
    await tale.phd(['backup', '--job', 'nightly']);
    expect(mail.letters()).toHaveLength(2);
    configure('nobody', ', when: failure');
    await tale.phd(['backup', '--job', 'nightly']);
    expect(mail.letters()[2]?.content).toMatch(/^Subject: FAILED: /m);
    configure();
  });

  it('can be tried: phd report test', async () => {
    const run = await tale.phd(['report', 'test']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('ok  mail to admin@example.com, boss@example.com by 127.0.0.1');
    expect(mail.letters()).toHaveLength(4);
    tale.home.write('mailword', 'wrong\n', 0o600);
    answer = 404;
    const refused = await tale.phd(['report', 'test']);
    answer = 200;
    expect(refused.status).toBe(4);
    expect(refused.stdout).toMatch(/^ok {2}status log /);
    expect(refused.stderr).toContain('health ping of 127.0.0.1');
    expect(refused.stderr).toMatch(/mail by 127\.0\.0\.1:\d+: .*(authentication|535)/i);
    expect(refused.stderr).not.toContain('wrong');
    tale.home.write('mailword', `${MAIL_PASSWORD}\n`, 0o600);
  });

  it('shows in phd status, whose exit status monitoring reads', async () => {
    configure('web');
    expect((await tale.phd(['backup', '--job', 'nightly'])).status).toBe(0);
    await tale.phd(['index']);
    const good = await tale.phd(['status', '--json']);
    expect(good.status, good.stdout).toBe(0);
    const [state] = linesOf(good) as never as {
      status: string;
      findings: { about: string; text: string }[];
    }[];
    expect(state?.findings.map(({ about }) => about)).toEqual(
      expect.arrayContaining(['daemon', 'queue', 'target 1 one', 'backup job nightly', 'verify plan']),
    );
    expect((await tale.phd(['locks', 'stop', '--backup'])).status).toBe(0);
    const held = await tale.phd(['status']);
    expect(held.status).toBe(1);
    expect(held.stdout).toMatch(/^warning +lock of backups: backups are stopped by .* since /m);
    expect((await tale.phd(['locks', 'clear', '--backup'])).status).toBe(0);
    configure('nobody');
    await tale.phd(['backup', '--job', 'nightly']);
    const bad = await tale.phd(['status', '--short']);
    expect(bad.status).toBe(2);
    expect(bad.stdout).toMatch(/^PHD CRITICAL: backup job nightly: .*1 error/);
  });
});

describe('Mail', () => {
  const settings = (port: number, more: object = {}) => ({
    host: '127.0.0.1',
    port,
    tls: 'starttls' as const,
    caFile: null as string | null,
    user: MAIL_USER,
    password: null,
    from: 'phd@example.com',
    to: ['admin@example.com'],
    when: 'always' as const,
    retries: 3,
    timeoutMs: 10_000,
    ...more,
  });
  const letter = { subject: 's', text: 't', json: '{}' };

  it('that is put off is tried again, each time after a longer pause', async () => {
    const server = await startMailServer({ failures: 2 });
    const waits: number[] = [];
    const retries: string[] = [];
    try {
      await sendMail(settings(server.port, { caFile: server.caFile }), letter, {
        password: MAIL_PASSWORD,
        wait: async (milliseconds) => void waits.push(milliseconds),
        onWarning: (message) => retries.push(message),
      });
      expect(waits).toEqual([15_000, 60_000]);
      expect(retries[0]).toContain('451');
      expect(server.letters()).toHaveLength(1);
    } finally {
      await server.stop();
    }
  });

  it('that a greylist puts off is tried again; recipients that are not taken are told', async () => {
    const server = await startMailServer({ failures: 1 });
    const warnings: string[] = [];
    const hooks = {
      password: MAIL_PASSWORD,
      wait: async () => undefined,
      onWarning: (message: string) => void warnings.push(message),
    };
    const sure = { caFile: server.caFile };
    try {
      await sendMail(settings(server.port, { ...sure, to: ['grey@example.com'] }), letter, hooks);
      expect(warnings).toEqual([expect.stringMatching(/450.*; tried again$/)]);
      const both = ['nobody@example.com', 'admin@example.com'];
      await sendMail(settings(server.port, { ...sure, to: both }), letter, hooks);
      expect(warnings[1]).toMatch(/: not taken for nobody@example.com$/);
      expect(server.letters().map(({ to }) => to)).toEqual([['grey@example.com'], ['admin@example.com']]);
      await expect(
        sendMail(settings(server.port, { ...sure, to: ['nobody@example.com'] }), letter, hooks),
      ).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
      await expect(
        sendMail(settings(server.port, { caFile: '/nowhere/ca.pem' }), letter, hooks),
      ).rejects.toMatchObject({
        message: expect.stringContaining('/nowhere/ca.pem'),
      });
    } finally {
      await server.stop();
    }
  });

  it('is not sent in clear, nor to a server nobody vouches for; nobody listening is tried to the end', async () => {
    const plain = await startMailServer({ tls: 'none' });
    const hooks = { password: MAIL_PASSWORD, wait: async () => undefined, onWarning: () => undefined };
    try {
      await expect(sendMail(settings(plain.port), letter, hooks)).rejects.toMatchObject({
        message: expect.not.stringContaining(MAIL_PASSWORD),
      });
      expect(plain.letters()).toEqual([]);
      await sendMail(settings(plain.port, { tls: 'none' }), letter, hooks);
      expect(plain.letters()).toHaveLength(1);
    } finally {
      await plain.stop();
    }
    const unknown = await startMailServer();
    await expect(sendMail(settings(unknown.port), letter, hooks)).rejects.toMatchObject({
      message: expect.stringMatching(/certificate/i),
    });
    await unknown.stop();
    let tries = 0;
    await expect(
      sendMail(settings(unknown.port), letter, { ...hooks, onWarning: () => tries++ }),
    ).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(tries).toBe(3);
  });
});

/**
 * A simulated pool of XenServer: an HTTPS server for each member on a loopback address of its own, all at one port, with the
 * calls of XenAPI (JSON-RPC) and the handlers that this program uses.
 *
 * It is written from public documents (the XenAPI reference, the xapi sources' description of its handlers, what Xen Orchestra and
 * NAUbackup expect of them) and has never met a real XenServer. Real are TLS with self-signed certificates, HTTP, tar with SHA-1 or
 * XXH64 of each piece, VHD, tasks that decide over a transfer, the refusal of chunked uploads, redirection to another member,
 * HOST_IS_SLAVE. Not shown: storage that fills slowly, coalescing, licences, guests. `ova.xml` holds JSON in one element where the
 * real one holds values of XML-RPC; nothing here reads it but this server.
 */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { requirePeer } from '../../peers.ts';
import { makeTempHome } from '../../temp-home.ts';
import { freePort } from '../own-namespace.ts';
import { answerCall } from './xen-calls.ts';
import { NULL_REF, XenDb, XenRefusal } from './xen-db.ts';
import { DOWNLOADS, type HandlerOptions, UPLOADS, type Words } from './xen-handlers.ts';

export const XEN_USER = 'root';
export const XEN_PASSWORD = 'xen "word" 7';

export interface XenMember {
  address: string;
  ref: string;
  /** SHA-256 of its certificate. */
  tlsPin: string;
}

/** What goes wrong; all of it is off at first. `times` counts down. */
export interface XenFaults {
  /** A call that is refused. */
  refuse?: { method: string; code: string; params?: string[]; times: number };
  /** After the call was done its answer is lost. */
  loseAnswer?: { method: string; times: number };
  /** Every session ends now, once. */
  endSessions?: boolean;
  /** Where a handler sends to. */
  redirect?: { handler: string; location: string; times: number };
  /** The socket is cut in the body. */
  cut?: { handler: string; afterBytes: number; times: number };
  /** The body ends so many bytes early, cleanly, and the task says success. */
  short?: { handler: string; bytes: number };
  /** The body is whole, and the task fails. */
  failTask?: { handler: string; code: string; params: string[] };
  /** One byte of what is kept of an upload is wrong. */
  spoilUpload?: { atByte: number };
  /** The answer begins and nothing follows. */
  stall?: { handler: string };
  /** A blank now and then instead of an answer, for ever. */
  drip?: { method: string };
}

export interface SimulatedXen {
  readonly port: number;
  /** The master first. */
  readonly members: XenMember[];
  readonly db: XenDb;
  /** Method, or handler with its words but session and task, in order. */
  readonly seen: string[];
  faults: XenFaults;
  /** Which member is the master from now on. */
  moveMaster(index: number): void;
  stop(): Promise<void>;
}

export interface XenOptions extends Partial<HandlerOptions> {
  members?: number;
  numbersAreText?: boolean;
  canQuiesce?: boolean;
}

export async function startSimulatedXen(options: XenOptions = {}): Promise<SimulatedXen> {
  const { members: memberCount = 1, numbersAreText = true } = options;
  const db = new XenDb(numbersAreText);
  const openssl = await requirePeer('openssl');
  const home = makeTempHome();
  const port = await freePort();
  const pool = new Pool(db, options);
  for (let index = 0; index < memberCount; index++) {
    const address = `127.0.0.${1 + index}`;
    const [key, cert] = [path.join(home.root, `${index}.key`), path.join(home.root, `${index}.pem`)];
    execFileSync(
      openssl.path,
      // biome-ignore format: words of one command
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', `/CN=member${index}`, '-keyout', key, '-out', cert],
      { env: openssl.env, stdio: 'ignore' },
    );
    const certificate = readFileSync(cert);
    const ref = db.add('host', {
      name_label: `member${index}`,
      address,
      enabled: true,
      software_version: { product_version: '8.3.0', product_brand: 'XCP-ng' },
    });
    const tlsPin = new X509Certificate(certificate).fingerprint256.replaceAll(':', '').toLowerCase();
    pool.members.push({ address, ref, tlsPin });
    const server = https.createServer({ key: readFileSync(key), cert: certificate }, (request, response) => {
      pool.serve(index, request, response).catch((error: Error) => response.destroy(error));
    });
    await new Promise<void>((resolve) => server.listen(port, address, resolve));
    pool.servers.push(server);
  }
  const local = db.add('SR', {
    name_label: 'Local storage',
    type: 'ext',
    content_type: 'user',
    shared: false,
    physical_size: db.number(1e12),
    physical_utilisation: db.number(1e9),
    PBDs: [],
  });
  db.add('SR', {
    name_label: 'small',
    type: 'nfs',
    content_type: 'user',
    shared: true,
    physical_size: db.number(1_000_000),
    physical_utilisation: db.number(0),
    PBDs: [],
  });
  db.add('SR', {
    name_label: 'DVD drives',
    type: 'udev',
    content_type: 'iso',
    shared: false,
    physical_size: db.number(0),
    physical_utilisation: db.number(0),
    PBDs: [],
  });
  db.add('network', { name_label: 'Pool-wide network associated with eth0', bridge: 'xenbr0' });
  db.add('pool', { name_label: 'lab pool', master: pool.members[0]!.ref, default_SR: local });
  const dom0 = db.addVm({ name: 'Control domain on host: member0', hasCd: false });
  db.get('VM', dom0.ref).is_control_domain = true;
  const template = db.addVm({ name: 'Debian Bookworm 12', power: 'Halted' });
  db.get('VM', template.ref).is_a_template = true;
  return {
    port,
    db,
    members: pool.members,
    seen: pool.seen,
    get faults() {
      return pool.faults;
    },
    set faults(faults) {
      pool.faults = faults;
    },
    moveMaster: (index) => pool.moveMaster(index),
    stop: async () => {
      for (const server of pool.servers) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
      home.remove();
    },
  };
}

class Pool {
  readonly members: XenMember[] = [];
  readonly servers: https.Server[] = [];
  readonly seen: string[] = [];
  faults: XenFaults = {};
  readonly #db: XenDb;
  readonly #options: XenOptions;
  #master = 0;

  constructor(db: XenDb, options: XenOptions) {
    this.#db = db;
    this.#options = options;
  }

  moveMaster(index: number): void {
    this.#master = index;
    this.#db.get('pool', this.#db.one('pool')).master = this.members[index]!.ref;
  }

  async serve(index: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://member');
    if (url.pathname === '/jsonrpc') return await this.#call(index, request, response);
    const words = new Map(url.searchParams);
    const shown = [...words]
      .filter(([key]) => !['session_id', 'task_id'].includes(key))
      .map((word) => word.join('='));
    this.seen.push(`${this.members[index]!.address} ${request.method} ${url.pathname}?${shown.join('&')}`);
    if (!this.#db.sessions.has(words.get('session_id') ?? '')) return void response.writeHead(401).end();
    const { redirect } = this.faults;
    if (redirect?.handler === url.pathname && redirect.times-- > 0) {
      const location = redirect.location.replace('%QUERY%', url.search);
      return void response.writeHead(302, { location, connection: 'close' }).end();
    }
    if (request.method === 'PUT') await this.#take(url.pathname, words, request, response);
    else await this.#give(url.pathname, words, response);
  }

  async #call(index: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, params, id } = JSON.parse((await bodyOf(request)).toString()) as {
      method: string;
      params: unknown[];
      id: number;
    };
    this.seen.push(method);
    const { refuse, loseAnswer } = this.faults;
    let answer: Record<string, unknown>;
    try {
      if (this.faults.endSessions) {
        this.faults.endSessions = false;
        this.#db.sessions.clear();
      }
      if (index !== this.#master) throw new XenRefusal('HOST_IS_SLAVE', this.members[this.#master]!.address);
      if (refuse?.method === method && refuse.times-- > 0)
        throw new XenRefusal(refuse.code, ...(refuse.params ?? []));
      const state = {
        db: this.#db,
        user: XEN_USER,
        password: XEN_PASSWORD,
        canQuiesce: this.#options.canQuiesce ?? false,
      };
      answer = { result: answerCall(state, method, params) };
    } catch (error) {
      if (!(error instanceof XenRefusal)) throw error;
      answer = { error: { code: 1, message: error.message, data: error.params } };
    }
    if (loseAnswer?.method === method && loseAnswer.times-- > 0) return void request.socket.destroy();
    if (this.faults.drip?.method === method) {
      const timer = setInterval(() => response.write(' '), 20);
      response.once('close', () => clearInterval(timer));
      return void response.writeHead(200, { 'content-type': 'application/json' });
    }
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ jsonrpc: '2.0', ...answer, id }));
  }

  async #give(handler: string, words: Words, response: ServerResponse): Promise<void> {
    const options = { xvaChecksum: 'xxhash', hasVhd: true, ...this.#options } as const;
    try {
      const served = await DOWNLOADS[handler]?.(this.#db, words, options);
      if (served === undefined || served.status !== 200) {
        this.#endTask(words, new XenRefusal('INTERNAL_ERROR', 'unknown handler or format'));
        return void response.writeHead(served?.status ?? 404, { connection: 'close' }).end();
      }
      // As the real one: no length, the end of the connection is the end of the body.
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200, { connection: 'close' });
      if (this.faults.stall?.handler === handler) return void response.flushHeaders();
      await this.#send(handler, served.body, response);
      const { failTask } = this.faults;
      if (failTask?.handler === handler) throw new XenRefusal(failTask.code, ...failTask.params);
      this.#endTask(words, '');
    } catch (error) {
      this.#endTask(words, error as Error);
      // The real one closes the connection, or answers 500 where nothing was sent yet.
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { connection: 'close' });
    }
    response.end();
  }

  async #send(handler: string, body: Iterable<Buffer>, response: ServerResponse): Promise<void> {
    const { cut, short } = this.faults;
    const all = short?.handler === handler ? Buffer.concat([...body]) : null;
    const parts = all === null ? body : [all.subarray(0, all.length - short!.bytes)];
    const gone = new Promise((resolve) => response.once('close', resolve));
    let sent = 0;
    for (const part of parts) {
      if (cut?.handler === handler && sent + part.length > cut.afterBytes && cut.times-- > 0) {
        response.socket?.destroy();
        throw new XenRefusal('INTERNAL_ERROR', 'the client went away');
      }
      sent += part.length;
      if (!response.write(part)) await Promise.race([once(response, 'drain'), gone]);
      if (response.destroyed) throw new XenRefusal('INTERNAL_ERROR', 'the client went away');
    }
  }

  async #take(
    handler: string,
    words: Words,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const upload = UPLOADS[handler];
    if (upload === undefined) return void response.writeHead(404, { connection: 'close' }).end();
    if (request.headers['transfer-encoding'] !== undefined) {
      // xapi answers so and fails the task.
      this.#endTask(words, new XenRefusal('IMPORT_ERROR_CANNOT_HANDLE_CHUNKED'));
      return void response.writeHead(403, { connection: 'close' }).end();
    }
    // As the real one: leave to go on before the body is read.
    response.writeHead(200, { connection: 'close' });
    response.flushHeaders();
    const { cut, spoilUpload, failTask } = this.faults;
    if (cut?.handler === handler && cut.times-- > 0) {
      request.socket.destroy();
      return this.#endTask(words, new XenRefusal('IMPORT_ERROR_PREMATURE_EOF'));
    }
    const body = await bodyOf(request);
    if (spoilUpload) body[spoilUpload.atByte] = body[spoilUpload.atByte]! ^ 1;
    try {
      if (failTask?.handler === handler) throw new XenRefusal(failTask.code, ...failTask.params);
      this.#endTask(words, await upload(this.#db, words, body));
    } catch (error) {
      this.#endTask(words, error as Error);
    }
    response.end();
  }

  #endTask(words: Words, ended: string | Error): void {
    const task = this.#db.records.task.get(words.get('task_id') ?? NULL_REF);
    if (task === undefined) return;
    if (typeof ended === 'string') Object.assign(task, { status: 'success', result: ended });
    else
      Object.assign(task, {
        status: 'failure',
        error_info:
          ended instanceof XenRefusal ? [ended.message, ...ended.params] : ['INTERNAL_ERROR', ended.message],
      });
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

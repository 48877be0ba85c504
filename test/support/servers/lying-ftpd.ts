/** A scripted FTP server that keeps files and folders in memory and misbehaves in one chosen way. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

export type Lie =
  | 'none'
  /** Keeps half of an upload and answers 226. */
  | 'short store'
  /** Keeps an upload with one byte changed near its end. */
  | 'changed store'
  /** Says of every file that it is one byte longer. */
  | 'wrong size'
  /** Keeps nothing of an upload and answers 226. */
  | 'lost store'
  /** Keeps a first part of an upload and has no room for more. */
  | 'full disk'
  /** Is gone, for good, after a first part of an upload; keeps that. */
  | 'death in write'
  /** Is gone, for good, after a first part of a download. */
  | 'death in read'
  /** Hangs up with 421 instead of taking an upload. */
  | 'thrown out'
  /** Says 421 to each connection. */
  | 'always busy'
  /** Says a file was renamed and leaves it. */
  | 'no rename'
  /** Sends every file of some size with one byte changed in its middle. */
  | 'changed read'
  /** The same, but each file only once. */
  | 'changed first read'
  /** Cuts a listing after two names, says so in its reply. */
  | 'cut list'
  /** Cuts a listing in the middle of a line, with the data connection, and answers 426. */
  | 'broken list'
  /** Puts CR, LF, slashes and escape codes into listed names. */
  | 'hostile names'
  /** Answers PWD with text that has no end. */
  | 'endless reply'
  /** Takes a connection and stays silent after a first part of the data. */
  | 'stalled read'
  /** Stops to read an upload after a first part. */
  | 'stalled write'
  /** Cuts both connections in mid-download, each time after a third of a megabyte. */
  | 'cut read'
  /** Cuts both connections once in mid-upload, keeps what came; takes REST. */
  | 'cut write'
  /** As `cut write`, but refuses REST before STOR. */
  | 'cut write for good'
  /** Ends a download early with 226. */
  | 'short read'
  /** Refuses DELE, and stores half. */
  | 'no delete'
  /** Says 421 to the first two connections. */
  | 'busy'
  /** Repeats the password in its answer. */
  | 'echoed password'
  /** Says it is IIS. */
  | 'iis';

export interface LyingServer {
  port: number;
  /** By path, `/folder/name`. */
  files: Map<string, Buffer>;
  folders: Set<string>;
  /** May be set at any time; a server that is gone comes back by it. */
  lie: Lie;
  connections: () => number;
  stop(): Promise<void>;
}

const CUT_AT = 350_000;
const fileLine = (name: string, size: number): string => `-rw-r--r-- 1 a a ${size} Jan 01 2020 ${name}\r\n`;

/** What all sessions of a server share. */
class Content {
  readonly files = new Map<string, Buffer>();
  readonly folders = new Set<string>(['/']);
  readonly sockets = new Set<Socket>();
  connections = 0;
  #lie: Lie = 'none';
  /** Uploads cut, files sent changed. */
  cuts = 0;
  readonly sentChanged = new Set<string>();
  isGone = false;

  get lie(): Lie {
    return this.#lie;
  }

  set lie(lie: Lie) {
    this.#lie = lie;
    this.isGone = false;
    this.cuts = 0;
    this.sentChanged.clear();
  }

  /** Nobody hears of this server again, until it tells another lie. */
  die(): void {
    this.isGone = true;
    for (const socket of this.sockets) socket.destroy();
  }
}

export async function startLyingServer(lie: Lie): Promise<LyingServer> {
  const content = new Content();
  content.lie = lie;
  const server = createServer((socket) => {
    content.connections += 1;
    content.sockets.add(socket);
    socket.on('error', () => undefined);
    if (content.isGone) {
      socket.destroy();
      return;
    }
    if (content.lie === 'always busy' || (content.lie === 'busy' && content.connections <= 2)) {
      socket.end('421 Too many connections\r\n');
      return;
    }
    new Session(socket, content).start();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    files: content.files,
    folders: content.folders,
    get lie() {
      return content.lie;
    },
    set lie(next) {
      content.lie = next;
    },
    connections: () => content.connections,
    stop: async () => {
      for (const socket of content.sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

class Session {
  readonly #socket: Socket;
  readonly #content: Content;
  #data: Promise<Socket> | undefined;
  #dataServer: Server | undefined;
  #restart = 0;
  #folder = '/';
  #renamed = '';

  constructor(socket: Socket, content: Content) {
    this.#socket = socket;
    this.#content = content;
  }

  get #lie(): Lie {
    return this.#content.lie;
  }

  get #files(): Map<string, Buffer> {
    return this.#content.files;
  }

  start(): void {
    this.#say(this.#lie === 'iis' ? '220 Microsoft FTP Service' : '220 ready');
    let text = '';
    this.#socket.on('data', (chunk) => {
      text += chunk.toString();
      const lines = text.split('\r\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const blank = line.indexOf(' ');
        const verb = blank < 0 ? line : line.slice(0, blank);
        // A client that hangs up ends the command, not the server.
        this.#answer(verb.toUpperCase(), blank < 0 ? '' : line.slice(blank + 1)).catch(() =>
          this.#socket.destroy(),
        );
      }
    });
  }

  #say(text: string): void {
    this.#socket.write(`${text}\r\n`);
  }

  async #answer(verb: string, argument: string): Promise<void> {
    switch (verb) {
      case 'USER':
        return this.#say('331 password');
      case 'PASS':
        return this.#say(this.#lie === 'echoed password' ? `530 wrong password ${argument}` : '230 in');
      case 'PWD':
        if (this.#lie === 'endless reply') {
          const more = (): void => {
            while (!this.#socket.destroyed && this.#socket.write('257-more '.repeat(1000)));
          };
          this.#socket.on('drain', more);
          return more();
        }
        return this.#say('257 "/" here');
      case 'CWD':
        if (!this.#content.folders.has(argument)) return this.#say('550 no such folder');
        this.#folder = argument;
        return this.#say('250 there');
      case 'MKD':
        if (this.#content.folders.has(argument)) return this.#say('550 is there already');
        this.#content.folders.add(argument);
        return this.#say(`257 "${argument}" made`);
      case 'RNFR':
        this.#renamed = argument;
        return this.#say(this.#files.has(argument) ? '350 to what' : '550 no such file');
      case 'RNTO':
        return this.#rename(argument);
      case 'SYST':
        return this.#say(this.#lie === 'iis' ? '215 Windows_NT' : '215 UNIX Type: L8');
      case 'EPSV':
        return this.#passive();
      case 'REST':
        if (this.#lie === 'cut write for good') return this.#say('501 no restart');
        this.#restart = Number(argument);
        return this.#say('350 go on');
      case 'SIZE': {
        const file = this.#files.get(argument);
        if (file === undefined) return this.#say('550 no such file');
        return this.#say(`213 ${file.length + (this.#lie === 'wrong size' ? 1 : 0)}`);
      }
      case 'DELE':
        if (this.#lie === 'no delete') return this.#say('550 permission denied');
        return this.#say(this.#files.delete(argument) ? '250 gone' : '550 no such file');
      case 'LIST':
        return this.#list();
      case 'RETR':
        return this.#retrieve(argument);
      case 'STOR':
        return this.#store(argument);
      case 'TYPE':
      case 'STRU':
      case 'OPTS':
        return this.#say('200 fine');
      case 'QUIT':
        this.#socket.end('221 bye\r\n');
        return;
      default:
        return this.#say('502 not known');
    }
  }

  async #passive(): Promise<void> {
    this.#dataServer?.close();
    const server = createServer();
    this.#dataServer = server;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#data = once(server, 'connection').then(([socket]: Socket[]) => {
      server.close();
      const data = socket as Socket;
      this.#content.sockets.add(data);
      data.on('error', () => undefined);
      return data;
    });
    this.#say(`229 passive (|||${(server.address() as { port: number }).port}|)`);
  }

  #rename(to: string): void {
    const file = this.#files.get(this.#renamed);
    if (file !== undefined && this.#lie !== 'no rename') {
      this.#files.delete(this.#renamed);
      this.#files.set(to, file);
    }
    this.#say(file === undefined ? '550 no such file' : '250 renamed');
  }

  /** Lines of LIST for what lies directly in the folder of the session. */
  #entries(): string[] {
    const inside = this.#folder === '/' ? '/' : `${this.#folder}/`;
    const names = (paths: Iterable<string>): string[] =>
      [...paths]
        .filter((path) => path.startsWith(inside) && path !== '/')
        .map((path) => path.slice(inside.length));
    const folders = names(this.#content.folders).filter((name) => !name.includes('/'));
    const files = names(this.#files.keys()).filter((name) => !name.includes('/'));
    return [
      ...folders.map((name) => `drwxr-xr-x 1 a a 4096 Jan 01 2020 ${name}\r\n`),
      ...files.map((name) => fileLine(name, this.#files.get(inside + name)?.length ?? 0)),
    ];
  }

  async #list(): Promise<void> {
    const data = await this.#data;
    this.#say('150 list');
    let lines = this.#entries();
    let reply = '226 done';
    if (this.#lie === 'cut list') {
      lines = lines.slice(0, 2);
      reply = '226 Output truncated to 2 matches';
    }
    if (this.#lie === 'broken list') {
      const text = lines.join('');
      data?.write(text.slice(0, text.length >> 1), () => data.destroy());
      return this.#say('426 connection closed, transfer aborted');
    }
    if (this.#lie === 'hostile names') {
      lines.push(
        fileLine('evil\r\nDELE /good', 1),
        fileLine('../../etc/passwd', 2),
        fileLine('a\u001b[2Jb', 3),
        fileLine('huge', 1e23),
      );
      lines.push(fileLine('..', 4), fileLine('sub/dir', 5), 'drwx what is this\r\n');
    }
    data?.end(lines.join(''));
    this.#say(reply);
  }

  async #retrieve(path: string): Promise<void> {
    const data = await this.#data;
    const content = this.#files.get(path);
    if (content === undefined) {
      data?.destroy();
      return this.#say('550 no such file');
    }
    const rest = this.#asSent(path, content).subarray(this.#restart);
    this.#restart = 0;
    this.#say('150 coming');
    if (this.#lie === 'stalled read') {
      data?.write(rest.subarray(0, 10));
      return;
    }
    const isDeath = this.#lie === 'death in read';
    if ((isDeath || this.#lie === 'cut read') && rest.length > CUT_AT) {
      data?.write(rest.subarray(0, CUT_AT), () => {
        data.destroy();
        this.#socket.destroy();
        if (isDeath) this.#content.die();
      });
      return;
    }
    data?.end(this.#lie === 'short read' ? rest.subarray(0, Math.floor(rest.length / 2)) : rest);
    if (data) await once(data, 'close');
    this.#say('226 done');
  }

  #asSent(path: string, content: Buffer): Buffer {
    const { sentChanged } = this.#content;
    const mayChange =
      this.#lie === 'changed read' || (this.#lie === 'changed first read' && !sentChanged.has(path));
    if (!mayChange || content.length < CUT_AT) return content;
    sentChanged.add(path);
    const copy = Buffer.from(content);
    const middle = copy.length >> 1;
    copy[middle] = (copy[middle] as number) ^ 1;
    return copy;
  }

  async #store(path: string): Promise<void> {
    const data = await this.#data;
    if (data === undefined) return this.#say('425 no data connection');
    if (this.#lie === 'thrown out') {
      data.destroy();
      this.#socket.end('421 come again tomorrow\r\n');
      return;
    }
    const before = (this.#files.get(path) ?? Buffer.alloc(0)).subarray(0, this.#restart);
    this.#restart = 0;
    const mayCut = this.#lie.startsWith('cut write') && ++this.#content.cuts === 1;
    this.#say('150 send');
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of data as AsyncIterable<Buffer>) {
      parts.push(chunk);
      bytes += chunk.length;
      if (this.#lie === 'full disk' && bytes > CUT_AT) {
        this.#files.set(path, Buffer.concat([before, ...parts]).subarray(0, CUT_AT));
        data.destroy();
        return this.#say('552 no room on the disk');
      }
      const isDeath = this.#lie === 'death in write';
      if ((mayCut || isDeath) && bytes > CUT_AT) {
        this.#files.set(path, Buffer.concat([before, ...parts]));
        data.destroy();
        this.#socket.destroy();
        if (isDeath) this.#content.die();
        return;
      }
      if (this.#lie === 'stalled write' && bytes > CUT_AT) await new Promise(() => undefined);
    }
    const whole = Buffer.concat([before, ...parts]);
    if (this.#lie === 'changed store' && whole.length > 0) whole[whole.length - 5] = (whole.at(-5) ?? 0) ^ 1;
    if (this.#lie === 'lost store') return this.#say('226 all stored');
    const keepsHalf = this.#lie === 'short store' || this.#lie === 'no delete';
    this.#files.set(path, keepsHalf ? whole.subarray(0, whole.length >> 1) : whole);
    this.#say('226 all stored');
  }
}

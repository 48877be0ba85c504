/** A scripted FTP server that keeps files in memory and misbehaves in one chosen way. */
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
  /** Cuts a listing after two names, says so in its reply. */
  | 'cut list'
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
  files: Map<string, Buffer>;
  connections: () => number;
  stop(): Promise<void>;
}

const CUT_AT = 350_000;

export async function startLyingServer(lie: Lie): Promise<LyingServer> {
  const files = new Map<string, Buffer>();
  const sockets = new Set<Socket>();
  let connections = 0;
  let cuts = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
    if (lie === 'busy' && connections <= 2) {
      socket.end('421 Too many connections\r\n');
      return;
    }
    const session = new Session(socket, files, lie, sockets, () => {
      cuts += 1;
      return cuts === 1;
    });
    session.start();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    files,
    connections: () => connections,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

class Session {
  readonly #socket: Socket;
  readonly #files: Map<string, Buffer>;
  readonly #lie: Lie;
  readonly #sockets: Set<Socket>;
  readonly #isFirstCut: () => boolean;
  #data: Promise<Socket> | undefined;
  #dataServer: Server | undefined;
  #restart = 0;

  constructor(
    socket: Socket,
    files: Map<string, Buffer>,
    lie: Lie,
    sockets: Set<Socket>,
    isFirstCut: () => boolean,
  ) {
    this.#socket = socket;
    this.#files = files;
    this.#lie = lie;
    this.#sockets = sockets;
    this.#isFirstCut = isFirstCut;
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
        return this.#say(argument === '/' ? '250 there' : '550 no such folder');
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
      this.#sockets.add(data);
      data.on('error', () => undefined);
      return data;
    });
    this.#say(`229 passive (|||${(server.address() as { port: number }).port}|)`);
  }

  async #list(): Promise<void> {
    const data = await this.#data;
    this.#say('150 list');
    const line = (name: string, size: number): string => `-rw-r--r-- 1 a a ${size} Jan 01 2020 ${name}\r\n`;
    let lines = [...this.#files].map(([path, content]) => line(path.slice(1), content.length));
    let reply = '226 done';
    if (this.#lie === 'cut list') {
      lines = lines.slice(0, 2);
      reply = '226 Output truncated to 2 matches';
    }
    if (this.#lie === 'hostile names') {
      lines.push(
        line('evil\r\nDELE /good', 1),
        line('../../etc/passwd', 2),
        line('a\u001b[2Jb', 3),
        line('huge', 1e23),
      );
      lines.push(line('..', 4), line('sub/dir', 5), 'drwx what is this\r\n');
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
    const rest = content.subarray(this.#restart);
    this.#restart = 0;
    this.#say('150 coming');
    if (this.#lie === 'stalled read') {
      data?.write(rest.subarray(0, 10));
      return;
    }
    if (this.#lie === 'cut read' && rest.length > CUT_AT) {
      data?.write(rest.subarray(0, CUT_AT), () => {
        data.destroy();
        this.#socket.destroy();
      });
      return;
    }
    data?.end(this.#lie === 'short read' ? rest.subarray(0, Math.floor(rest.length / 2)) : rest);
    if (data) await once(data, 'close');
    this.#say('226 done');
  }

  async #store(path: string): Promise<void> {
    const data = await this.#data;
    if (data === undefined) return this.#say('425 no data connection');
    const before = (this.#files.get(path) ?? Buffer.alloc(0)).subarray(0, this.#restart);
    this.#restart = 0;
    const mayCut = this.#lie.startsWith('cut write') && this.#isFirstCut();
    this.#say('150 send');
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of data as AsyncIterable<Buffer>) {
      parts.push(chunk);
      bytes += chunk.length;
      if (mayCut && bytes > CUT_AT) {
        this.#files.set(path, Buffer.concat([before, ...parts]));
        data.destroy();
        this.#socket.destroy();
        return;
      }
      if (this.#lie === 'stalled write' && bytes > CUT_AT) await new Promise(() => undefined);
    }
    const whole = Buffer.concat([before, ...parts]);
    if (this.#lie === 'changed store' && whole.length > 0) whole[whole.length - 5] = (whole.at(-5) ?? 0) ^ 1;
    const keepsHalf = this.#lie === 'short store' || this.#lie === 'no delete';
    this.#files.set(path, keepsHalf ? whole.subarray(0, whole.length >> 1) : whole);
    this.#say('226 all stored');
  }
}

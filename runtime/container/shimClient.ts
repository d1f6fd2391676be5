/**
 * One connection to one shim's control socket (runtime/shim/protocol.md): what it says about its
 * container or about one exec comes in as events, what it is asked goes out as requests. Knows
 * bytes, no policy; when the connection ends without an exit event, what that means is the caller's
 * to find out.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { createConnection, Socket } from 'node:net';
import { basename } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { type ErrorCode, hasCode, SwarmError } from '../../base/errors.ts';
import { withDeadline } from '../../base/queue.ts';
import {
  AF_UNIX,
  bind,
  check,
  close,
  connect,
  errno,
  errnoName,
  errnoText,
  listen,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  sendWithDescriptors,
  socket,
  systemError,
  unixAddress,
} from '../sys/libc.ts';
import { decodeExitRecord } from './exitRecord.ts';
import type { ExitRecord } from './types.ts';

const SOCKET_NAME = 'control.sock';
const VERSION = 1;
const LENGTH_BYTES = 4;
const HEADER_BYTES = 8;
/** Connections that wait for the shim: as many execs as it takes, and some. */
const BACKLOG = 256;
/** As in the shim; anything longer is not from one. */
const MESSAGE_MAX_BYTES = 64 * 1024;
const REPLY_TIMEOUT_MS = 10_000;
const NANOSECONDS_PER_MS = 1_000_000n;
const FLAG_FROZEN = 1;
/** EOPNOTSUPP, as Node names it: what a shim answers to a request that it does not know. */
const UNKNOWN_REQUEST = 'ENOTSUP';
/** What the shim means by them. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ESRCH: 'not_found',
  EAGAIN: 'exhausted',
  EBUSY: 'conflict',
  ENOTTY: 'invalid',
};

export const TYPE = {
  kill: 1,
  freeze: 2,
  resize: 3,
  attach: 7,
  exec: 8,
  reply: 128,
  state: 129,
  exited: 130,
  execStarted: 131,
  execExited: 132,
  cleared: 134,
} as const;

const PHASES = ['starting', 'running', 'exited', 'created'] as const;

export interface ShimState {
  readonly phase: (typeof PHASES)[number];
  /** 0 once exited. */
  readonly pid: number;
  readonly startedAtMs: number;
  readonly frozen: boolean;
  /** As `identify` gives it; undefined: a shim of an older version does not tell. */
  readonly startTicks: bigint | undefined;
}

export interface ShimEvents {
  state(state: ShimState): void;
  exited(record: ExitRecord): void;
  /** After `exited`: none of its groups is left. */
  cleared?(): void;
  /** The connection is over; nothing else comes. */
  closed(): void;
  /** Only on the connection that asked for it. */
  execStarted?(pid: number): void;
  /** `error` when it was not executed. */
  execExited?(exitCode: number, error: string): void;
}

/**
 * A path to the socket in `execDir` that fits into a socket address however long the directory's
 * own path is. It works until `release` is called.
 */
function socketPath(execDir: string): { readonly path: string; release(): void } {
  const dir = openSync(execDir, constants.O_DIRECTORY | constants.O_RDONLY);
  return { path: `/proc/self/fd/${dir}/${SOCKET_NAME}`, release: () => closeSync(dir) };
}

/**
 * The descriptor of a listening control socket in `execDir`, to be inherited by the shim, and that
 * of the first connection to it.
 */
export function listenForShim(execDir: string): { readonly listener: number; readonly fd: number } {
  const where = socketPath(execDir);
  const fds: number[] = [];
  try {
    const address = unixAddress(where.path);
    const listener = makeSocket();
    fds.push(listener);
    check(bind(listener, address, address.length), `cannot bind the control socket in ${execDir}`);
    check(listen(listener, BACKLOG), `cannot listen on the control socket in ${execDir}`);
    const fd = makeSocket();
    fds.push(fd);
    check(connect(fd, address, address.length), `cannot connect to a shim in ${execDir}`);
    return { listener, fd };
  } catch (error) {
    for (const fd of fds) close(fd);
    throw error;
  } finally {
    where.release();
  }
}

function makeSocket(): number {
  return check(
    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
    'cannot make the control socket',
  );
}

/** A connected descriptor, for what must send descriptors. SwarmError not_found without a shim. */
export function connectShim(execDir: string): number {
  const id = basename(execDir);
  let where: ReturnType<typeof socketPath>;
  try {
    where = socketPath(execDir);
  } catch (error) {
    throw new SwarmError('not_found', `container ${id} has no shim`, { cause: error });
  }
  const fd = makeSocket();
  const address = unixAddress(where.path);
  const result = connect(fd, address, address.length);
  const code = errno();
  where.release();
  if (result === 0) return fd;
  close(fd);
  if (errnoName(code) === 'EAGAIN') {
    throw new SwarmError('exhausted', `container ${id} is asked for too much at once`);
  }
  throw new SwarmError('not_found', `container ${id} has no shim: ${errnoText(code)}`);
}

function encodeMessage(type: number, request: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES - LENGTH_BYTES + payload.length, 0);
  header.writeUInt8(VERSION, 4);
  header.writeUInt8(type, 5);
  header.writeUInt16LE(request, 6);
  return Buffer.concat([header, payload]);
}

/** A request that carries descriptors; they are copied, the caller closes its own. */
export interface DescriptorRequest {
  readonly type: number;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

export class ShimClient {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #events: ShimEvents;
  readonly #send: (message: Uint8Array) => void;
  readonly #replies = new Map<number, (code: number | undefined) => void>();
  #received: Buffer = Buffer.alloc(0);
  #nextRequest = 1;

  /** Connects at once; failure to connect shows as `closed`. */
  static connect(execDir: string, clock: Clock, events: ShimEvents): ShimClient {
    const where = socketPath(execDir);
    const connection = createConnection({ path: where.path });
    // A unix socket connects within the call; the descriptor must only live that long.
    where.release();
    return new ShimClient(connection, clock, events, (message) => void connection.write(message));
  }

  /** By a connection that is there, which is its own from now on. */
  static over(fd: number, clock: Clock, events: ShimEvents): ShimClient {
    const connection = new Socket({ fd });
    return new ShimClient(connection, clock, events, (message) => void connection.write(message));
  }

  /**
   * A connection of its own for requests with descriptors, sent at once and in order: they may wait
   * in the socket for a shim that is yet to be spawned. Resolves with what became of each.
   */
  static withDescriptors(
    execDir: string,
    clock: Clock,
    events: ShimEvents,
    requests: readonly DescriptorRequest[],
    what: string,
  ): { readonly client: ShimClient; readonly done: Promise<void> } {
    const fd = connectShim(execDir);
    try {
      requests.forEach(({ type, payload, fds }, index) => {
        const message = encodeMessage(type, index + 1, payload);
        if (sendWithDescriptors(fd, message, fds) !== message.length) {
          throw systemError(`cannot ${what}`);
        }
      });
    } catch (error) {
      close(fd);
      throw error;
    }
    // Not by the socket's own write: one that fails, as the other end has just closed, ends the
    // socket with what it has yet to read, and that may be how an exec ended.
    const send = (message: Uint8Array): void => {
      const sent = sendWithDescriptors(fd, message, []);
      if (sent === message.length || (sent < 0 && errnoName(errno()) === 'EPIPE')) return;
      throw systemError(`cannot ${what}: its supervisor does not listen`);
    };
    const client = new ShimClient(new Socket({ fd }), clock, events, send);
    client.#nextRequest = requests.length + 1;
    const replies = requests.map((_, index) => client.#reply(index + 1, what));
    return { client, done: Promise.all(replies).then(() => undefined) };
  }

  private constructor(
    connection: Socket,
    clock: Clock,
    events: ShimEvents,
    send: (message: Uint8Array) => void,
  ) {
    this.#send = send;
    this.#clock = clock;
    this.#events = events;
    this.#socket = connection;
    this.#socket.on('data', (data) => this.#take(data));
    this.#socket.on('error', () => {
      // 'close' follows and carries all there is to know: this shim cannot be reached
    });
    this.#socket.on('close', () => {
      for (const settle of this.#replies.values()) settle(undefined);
      this.#replies.clear();
      this.#events.closed();
    });
  }

  /** To the first process; `everyone`: SIGKILL to all. SwarmError not_found when it is over. */
  async kill(signal: number, everyone = false): Promise<void> {
    const payload = Buffer.alloc(8);
    payload.writeInt32LE(signal, 0);
    payload.writeUInt32LE(everyone ? 1 : 0, 4);
    await this.#request(TYPE.kill, payload, 'kill the container');
  }

  /** Stops (true) or continues (false) every process of the container. */
  async freeze(frozen: boolean): Promise<void> {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(frozen ? 1 : 0, 0);
    await this.#request(TYPE.freeze, payload, 'pause the container');
  }

  /** The terminal's size. */
  async resize(rows: number, columns: number): Promise<void> {
    const payload = Buffer.alloc(8);
    payload.writeUInt32LE(rows, 0);
    payload.writeUInt32LE(columns, 4);
    await this.#request(TYPE.resize, payload, "resize the container's terminal");
  }

  close(): void {
    this.#socket.destroy();
  }

  async #request(type: number, payload: Buffer, what: string): Promise<void> {
    const request = this.#nextRequest;
    this.#nextRequest = (this.#nextRequest % 0xffff) + 1;
    if (!this.#socket.destroyed) this.#send(encodeMessage(type, request, payload));
    await this.#reply(request, what);
  }

  async #reply(request: number, what: string): Promise<void> {
    const reply = new Promise<number | undefined>((resolve) => {
      this.#replies.set(request, resolve);
      if (this.#socket.destroyed) resolve(undefined);
    });
    const code = await withDeadline(this.#clock, REPLY_TIMEOUT_MS, what, reply).finally(() =>
      this.#replies.delete(request),
    );
    if (code === undefined) throw new SwarmError('not_found', `cannot ${what}: it has ended`);
    if (code === 0) return;
    const name = errnoName(code);
    if (name === UNKNOWN_REQUEST) {
      throw new SwarmError(
        'unsupported',
        `cannot ${what}: its supervisor is of an older version: restart the container`,
      );
    }
    throw new SwarmError(CODES[name] ?? 'internal', `cannot ${what}: ${errnoText(code)}`, {
      detail: { errno: name },
    });
  }

  #take(data: Buffer): void {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
    while (this.#received.length >= HEADER_BYTES) {
      const length = LENGTH_BYTES + this.#received.readUInt32LE(0);
      const isOurs = length >= HEADER_BYTES && length <= MESSAGE_MAX_BYTES;
      if (!isOurs || this.#received[4] !== VERSION) {
        this.#socket.destroy();
        return;
      }
      if (this.#received.length < length) return;
      const message = this.#received.subarray(0, length);
      this.#received = this.#received.subarray(length);
      this.#dispatch(message[5], message.readUInt16LE(6), message.subarray(HEADER_BYTES));
    }
  }

  #takeExit(payload: Buffer): void {
    try {
      this.#events.exited(decodeExitRecord(payload));
    } catch (error) {
      if (!hasCode(error, 'corrupt')) throw error;
      this.#socket.destroy(); // no shim that we understand: the same as none
    }
  }

  #dispatch(type: number, request: number, payload: Buffer): void {
    if (type === TYPE.reply && payload.length >= 4) {
      this.#replies.get(request)?.(payload.readInt32LE(0));
    } else if (type === TYPE.state && payload.length >= 16) {
      const flags = payload.length >= 20 ? payload.readUInt32LE(16) : 0;
      const ticks = payload.length >= 28 ? payload.readBigUInt64LE(20) : 0n;
      this.#events.state({
        phase: PHASES[payload.readUInt32LE(0)] ?? 'exited',
        pid: payload.readUInt32LE(4),
        startedAtMs: Number(payload.readBigUInt64LE(8) / NANOSECONDS_PER_MS),
        frozen: (flags & FLAG_FROZEN) !== 0,
        startTicks: ticks === 0n ? undefined : ticks,
      });
    } else if (type === TYPE.exited) {
      this.#takeExit(payload);
    } else if (type === TYPE.cleared) {
      this.#events.cleared?.();
    } else if (type === TYPE.execStarted && payload.length >= 4) {
      this.#events.execStarted?.(payload.readUInt32LE(0));
    } else if (type === TYPE.execExited && payload.length >= 4) {
      this.#events.execExited?.(payload.readInt32LE(0), payload.toString('utf8', 4));
    }
  }
}

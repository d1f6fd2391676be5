/**
 * One connection to one shim's control socket (runtime/shim/protocol.md): what it says about its
 * container comes in as events, what it is asked goes out as requests. Knows bytes, no policy; when
 * the connection ends without an exit event, what that means is the caller's to find out.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { withDeadline } from '../../base/queue.ts';
import {
  AF_UNIX,
  bind,
  check,
  close,
  errnoName,
  errnoText,
  listen,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socket,
  unixAddress,
} from '../sys/libc.ts';
import { decodeExitRecord } from './exitRecord.ts';
import type { ExitRecord } from './types.ts';

export const SOCKET_NAME = 'control.sock';
const VERSION = 1;
const LENGTH_BYTES = 4;
const HEADER_BYTES = 8;
const BACKLOG = 16;
/** As in the shim; anything longer is not from one. */
const MESSAGE_MAX_BYTES = 64 * 1024;
const REPLY_TIMEOUT_MS = 10_000;
const NANOSECONDS_PER_MS = 1_000_000n;

const TYPE = {
  kill: 1,
  freeze: 2,
  resize: 3,
  reply: 128,
  state: 129,
  exited: 130,
} as const;

const PHASES = ['starting', 'running', 'exited'] as const;

export interface ShimState {
  readonly phase: (typeof PHASES)[number];
  /** 0 once exited. */
  readonly pid: number;
  readonly startedAtMs: number;
}

export interface ShimEvents {
  state(state: ShimState): void;
  exited(record: ExitRecord): void;
  /** The connection is over; nothing else comes. */
  closed(): void;
}

/**
 * A path to the socket in `execDir` that fits into a socket address however long the directory's
 * own path is. It works until `release` is called.
 */
function socketPath(execDir: string): { readonly path: string; release(): void } {
  const dir = openSync(execDir, constants.O_DIRECTORY | constants.O_RDONLY);
  return { path: `/proc/self/fd/${dir}/${SOCKET_NAME}`, release: () => closeSync(dir) };
}

/** A listening control socket in `execDir`, to be inherited by the shim. Returns its descriptor. */
export function listenForShim(execDir: string): number {
  const fd = check(
    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
    'cannot make the control socket',
  );
  const where = socketPath(execDir);
  try {
    const address = unixAddress(where.path);
    check(bind(fd, address, address.length), `cannot bind the control socket in ${execDir}`);
    check(listen(fd, BACKLOG), `cannot listen on the control socket in ${execDir}`);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  } finally {
    where.release();
  }
}

export class ShimClient {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #events: ShimEvents;
  readonly #replies = new Map<number, (code: number | undefined) => void>();
  #received: Buffer = Buffer.alloc(0);
  #nextRequest = 1;

  /** Connects at once; failure to connect shows as `closed`. */
  constructor(execDir: string, clock: Clock, events: ShimEvents) {
    this.#clock = clock;
    this.#events = events;
    const where = socketPath(execDir);
    this.#socket = createConnection({ path: where.path });
    // A unix socket connects within the call; the descriptor must only live that long.
    where.release();
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
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(HEADER_BYTES - LENGTH_BYTES + payload.length, 0);
    header.writeUInt8(VERSION, 4);
    header.writeUInt8(type, 5);
    header.writeUInt16LE(request, 6);
    const reply = new Promise<number | undefined>((resolve) => {
      this.#replies.set(request, resolve);
      if (this.#socket.destroyed) resolve(undefined);
      else this.#socket.write(Buffer.concat([header, payload]));
    });
    const code = await withDeadline(this.#clock, REPLY_TIMEOUT_MS, what, reply).finally(() =>
      this.#replies.delete(request),
    );
    if (code === undefined) throw new SwarmError('not_found', `cannot ${what}: it has ended`);
    if (code === 0) return;
    const name = errnoName(code);
    throw new SwarmError(
      name === 'ESRCH' ? 'not_found' : 'internal',
      `cannot ${what}: ${errnoText(code)}`,
      {
        detail: { errno: name },
      },
    );
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
      this.#events.state({
        phase: PHASES[payload.readUInt32LE(0)] ?? 'exited',
        pid: payload.readUInt32LE(4),
        startedAtMs: Number(payload.readBigUInt64LE(8) / NANOSECONDS_PER_MS),
      });
    } else if (type === TYPE.exited) {
      this.#takeExit(payload);
    }
  }
}

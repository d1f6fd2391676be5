/**
 * The pipes between a client here and a program in a container. This side's ends become Node
 * streams, the other ends go to the shim, which does all the copying there is (streams.h). A client
 * that does not read has CAPACITY_BYTES; then the program waits, as Docker has it.
 */
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { close, makePipe } from '../sys/libc.ts';
import type { Streams } from './types.ts';

/**
 * For a client that does not read (half of it, if the output comes in small pieces: the kernel
 * counts pages); Docker keeps 1 MB. As much again is kept free for what a program
 * leaves when it ends (streams.h).
 */
const CAPACITY_BYTES = 512 * 1024;
const STDIN = 1;
const STDOUT = 2;
const STDERR = 4;

type Pipe = ReturnType<typeof makePipe>;

export interface StreamPipes {
  readonly streams: Streams;
  /** The payload of a request for them. */
  readonly payload: Uint8Array;
  /** In the order of the request; the shim gets copies. */
  readonly fds: readonly number[];
  /** Closes this process's copies of `fds`; once. */
  handOver(): void;
  readonly isClosed: boolean;
}

export interface StreamOptions {
  readonly stdin: boolean;
  /** Everything comes as stdout. */
  readonly tty: boolean;
  /** The output does not end before this: what the end means is known by then. */
  readonly gate?: Promise<unknown>;
}

/** SwarmError, and nothing is open, when this process has no descriptors left. */
export function openStreams(options: StreamOptions): StreamPipes {
  const input = options.stdin ? [makePipe()] : [];
  const outputs: Pipe[] = [];
  try {
    while (outputs.length < (options.tty ? 1 : 2)) outputs.push(makePipe(CAPACITY_BYTES));
  } catch (error) {
    for (const { read, write } of [...input, ...outputs]) {
      close(read);
      close(write);
    }
    throw error;
  }
  const fds = [...input.map(({ read }) => read), ...outputs.map(({ write }) => write)];
  const [stdin] = input.map(({ write }) =>
    quiet(new Socket({ fd: write, readable: false, writable: true })),
  );
  const [stdout, stderr = Readable.from([])] = outputs.map(
    ({ read }) => new PipeReader(read, options.gate),
  ) as Readable[];
  let isHandedOver = false;
  let isClosed = false;
  const handOver = (): void => {
    if (isHandedOver) return;
    isHandedOver = true;
    for (const fd of fds) close(fd);
  };
  return {
    payload: u32((options.stdin ? STDIN : 0) | STDOUT | (options.tty ? 0 : STDERR)),
    fds,
    handOver,
    get isClosed() {
      return isClosed;
    },
    streams: {
      stdin,
      stdout,
      stderr,
      close(): void {
        isClosed = true;
        for (const stream of [stdin, stdout, stderr]) stream?.destroy();
        handOver();
      },
    },
  };
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

/** A broken pipe is no news here: the stream closes, and what the program did is told otherwise. */
function quiet(socket: Socket): Socket {
  return socket.on('error', () => {
    // 'close' follows
  });
}

class PipeReader extends Readable {
  readonly #socket: Socket;

  constructor(fd: number, gate: Promise<unknown> = Promise.resolve()) {
    super();
    this.#socket = quiet(new Socket({ fd, readable: true, writable: false }));
    this.#socket.pause();
    this.#socket.on('data', (chunk) => {
      if (!this.push(chunk)) this.#socket.pause();
    });
    const end = (): void => {
      if (!this.destroyed && !this.readableEnded) this.push(null);
    };
    this.#socket.on('close', () => gate.then(end, end));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}

/**
 * The terminal of a program: its master goes to whoever listens on the console socket, or, in the
 * foreground, to this process, which copies between it and its own standard streams.
 */
import { read, writeSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import {
  AF_UNIX,
  check,
  close,
  connect,
  errno,
  errnoText,
  makeSocketPair,
  receiveWithDescriptors,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  socket,
  unixAddress,
} from '../sys/libc.ts';
import { copySize, makeRaw } from '../sys/process.ts';

const NAME_MAX_BYTES = 4096;
const CHUNK_BYTES = 32 * 1024;

/** A connected descriptor. SwarmError not_found when nobody listens there. */
export function connectConsole(path: string): number {
  const fd = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 'cannot make a socket');
  const address = unixAddress(path);
  if (connect(fd, address, address.length) === 0) return fd;
  const reason = errnoText(errno());
  close(fd);
  throw new SwarmError('not_found', `cannot connect to the console socket ${path}: ${reason}`);
}

/** Both ends, for a terminal that this process keeps: the second is handed to the shim. */
export function ownConsole(): readonly [number, number] {
  return makeSocketPair();
}

/** The master that came over our end. */
export function takeMaster(ours: number): number {
  const { fds } = receiveWithDescriptors(ours, new Uint8Array(NAME_MAX_BYTES));
  const [master] = fds;
  if (master === undefined) throw new SwarmError('internal', 'the terminal did not come');
  return master;
}

export interface Relay {
  resize(): void;
  /** Resolves once all that was written to the terminal is passed on. */
  finish(): Promise<void>;
}

/** Copies between the terminal and our standard streams until `finish`. */
export function relayTerminal(master: number): Relay {
  const isTerminal = process.stdin.isTTY === true;
  const restore = isTerminal ? makeRaw(0) : undefined;
  if (isTerminal) copySize(0, master);
  const ended = copyOut(master);
  process.stdin.on('data', (data: Buffer) => {
    try {
      writeSync(master, data);
    } catch {
      // the program is gone; its end is heard of elsewhere
    }
  });
  process.stdin.on('error', () => {
    // e.g. a closed terminal: there is no more input then
  });
  return {
    resize: () => copySize(0, master),
    finish: async () => {
      process.stdin.pause();
      await ended;
      restore?.();
    },
  };
}

/** Reading fails once no process has the terminal open any more: that is its end. */
function copyOut(master: number): Promise<void> {
  const buffer = Buffer.alloc(CHUNK_BYTES);
  return new Promise((resolve) => {
    const next = (): void => {
      read(master, buffer, 0, CHUNK_BYTES, null, (error, length) => {
        if (error !== null || length === 0) {
          resolve();
          return;
        }
        writeAll(buffer.subarray(0, length));
        next();
      });
    };
    next();
  });
}

function writeAll(data: Buffer): void {
  let at = 0;
  while (at < data.length) {
    try {
      at += writeSync(1, data, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EAGAIN') return; // nobody reads any more
    }
  }
}

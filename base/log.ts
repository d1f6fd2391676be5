/**
 * Structured logging; pino's only door. One JSON line an event on standard error (or as given).
 * A message says what happened; the fields carry the numbers. Secrets never go in.
 */
import { writeSync } from 'node:fs';
import { type Logger as Pino, pino } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log whose lines also carry `fields`. */
  with(fields: LogFields): Log;
}

class PinoLog implements Log {
  readonly #pino: Pino;

  constructor(logger: Pino) {
    this.#pino = logger;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#pino.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#pino.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#pino.warn(fields, message);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#pino.error(fields, message);
  }

  with(fields: LogFields): Log {
    return new PinoLog(this.#pino.child(fields));
  }
}

/**
 * Writes lines synchronously. One that cannot be written (full disk, closed pipe) is dropped: the
 * log must not end what it tells about. pino's own destination throws there, or waits for ever.
 */
class LineWriter {
  readonly #fd: number;
  #isTorn = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(line: string): void {
    let rest = Buffer.from(this.#isTorn ? `\n${line}` : line);
    const whole = rest.length;
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(this.#fd, rest));
      this.#isTorn = false;
    } catch {
      if (rest.length < whole) this.#isTorn = true;
    }
  }
}

/** A log at `level` to descriptor `fd` (default 2, standard error), written synchronously. */
export function createLog(level: LogLevel, fd = 2): Log {
  return new PinoLog(
    pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, new LineWriter(fd)),
  );
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLog,
};

/**
 * Structured logging; pino's only door. One JSON line an event on standard error (or as given).
 * A message says what happened; the fields carry the numbers. Secrets never go in.
 */
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

/** A log at `level` to descriptor `fd` (default 2, standard error), written synchronously. */
export function createLog(level: LogLevel, fd = 2): Log {
  const destination = pino.destination({ fd, sync: true });
  return new PinoLog(
    pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination),
  );
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLog,
};

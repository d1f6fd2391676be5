/**
 * Messages as engines above read them from an OCI runtime: logrus's text or JSON lines, on standard
 * error or in the file of `--log`. (The daemon's log is base/log.ts.)
 */
import { appendFileSync, writeSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';

type Level = 'debug' | 'info' | 'warning' | 'error';

const STANDARD_ERROR = 2;

export interface OciLogOptions {
  readonly clock: Clock;
  /** undefined: standard error. */
  readonly file?: string;
  readonly format: 'text' | 'json';
  readonly debug: boolean;
}

export class OciLog {
  readonly #options: OciLogOptions;

  constructor(options: OciLogOptions) {
    this.#options = options;
  }

  debug(message: string): void {
    if (this.#options.debug) this.#write('debug', message);
  }

  warn(message: string): void {
    this.#write('warning', message);
  }

  /** In a file it would not be seen, so it is said on standard error, too. */
  fatal(message: string): void {
    this.#write('error', message);
    if (this.#options.file !== undefined) writeSync(STANDARD_ERROR, `${message}\n`);
  }

  #write(level: Level, message: string): void {
    const time = new Date(this.#options.clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'Z');
    const line =
      this.#options.format === 'json'
        ? `${JSON.stringify({ level, msg: message, time })}\n`
        : `time="${time}" level=${level} msg=${JSON.stringify(message)}\n`;
    if (this.#options.file === undefined) writeSync(STANDARD_ERROR, line);
    else appendFileSync(this.#options.file, line);
  }
}

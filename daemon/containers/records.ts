/**
 * JSON records of one kind, a file each in a directory of the data root: read whole when the daemon
 * starts, written whole and renamed into place. What they mean is their users'.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';

const SUFFIX = '.json';
const DAMAGED = '.damaged';
const UNDER_WAY = '.tmp';
const FORMAT = 1;

export class RecordFiles<T extends { readonly format: 1; readonly id: string }> {
  readonly #directory: string;
  readonly #log: Log;

  constructor(directory: string, log: Log) {
    this.#directory = directory;
    this.#log = log;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** A record that is damaged (a power failure) is told in the log and taken away. */
  load(): readonly T[] {
    const records: T[] = [];
    for (const name of readdirSync(this.#directory)) {
      const file = join(this.#directory, name);
      // An earlier process died between writing and renaming it.
      if (name.endsWith(`${SUFFIX}${UNDER_WAY}`)) rmSync(file, { force: true });
      if (!name.endsWith(SUFFIX)) continue;
      try {
        const record = JSON.parse(readFileSync(file, 'utf8')) as T;
        if (record.format !== FORMAT) throw new Error(`format ${record.format} is not known`);
        records.push(record);
      } catch (error) {
        this.#log.error('a damaged record is left out', { file, error: messageOf(error) });
        renameSync(file, `${file}${DAMAGED}`);
      }
    }
    return records;
  }

  /** There was a record, and it could not be read, now or earlier. */
  isDamaged(id: string): boolean {
    return existsSync(`${this.#file(id)}${DAMAGED}`);
  }

  save(record: T): void {
    const file = this.#file(record.id);
    writeFileSync(`${file}${UNDER_WAY}`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${file}${UNDER_WAY}`, file);
  }

  /**
   * As `save`, for what goes on whether it can be written or not (a full disk): the log tells, and
   * the next change tries again.
   */
  keep(record: T): void {
    try {
      this.save(record);
    } catch (error) {
      this.#log.error('a record cannot be written', { id: record.id, error: messageOf(error) });
    }
  }

  remove(id: string): void {
    rmSync(this.#file(id), { force: true });
  }

  #file(id: string): string {
    return join(this.#directory, `${id}${SUFFIX}`);
  }
}

/**
 * Pulled images that may not be on disk yet. A pull does not wait for the disk, since what it
 * brought can be had again: the catalog notes the boot it happened in, the file system is
 * synchronised in the background and the note taken away. What an earlier boot left noted may have
 * been lost with it, and is dropped before anything relies on it.
 */
import { readFileSync } from 'node:fs';
import { hasCode } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Catalog, ImageRecord } from './catalog.ts';
import type { Jobs } from './jobs.ts';

export class Unsynced {
  readonly #directory: string;
  readonly #catalog: Catalog;
  readonly #jobs: Jobs;
  readonly #log: Log;
  #running: Promise<void> | undefined;
  /** Of this kernel's run. */
  readonly boot: string;

  constructor(
    directory: string,
    catalog: Catalog,
    jobs: Jobs,
    log: Log,
    boot: string = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
  ) {
    this.#directory = directory;
    this.#catalog = catalog;
    this.#jobs = jobs;
    this.#log = log;
    this.boot = boot;
  }

  #noted(): ImageRecord[] {
    return [...this.#catalog.state.images.values()].filter(
      (record) => record.unsyncedBoot !== undefined,
    );
  }

  /** On opening, before the sweep. */
  async dropLost(): Promise<void> {
    const noted = this.#noted();
    const lost = noted.filter((record) => record.unsyncedBoot !== this.boot);
    if (lost.length > 0) {
      await this.#catalog.change((draft) => {
        for (const { id } of lost) {
          for (const tag of this.#catalog.tagsOf(id)) draft.tags.delete(tag);
          draft.images.delete(id);
        }
      });
      const images = lost.flatMap((record) => record.pulledAs);
      this.#log.warn('images pulled just before this host stopped have to be pulled again', {
        images,
      });
    }
    if (lost.length < noted.length) this.syncSoon();
  }

  /** One synchronisation at a time; what comes meanwhile has the next. */
  syncSoon(): void {
    this.#running ??= this.#sync()
      .catch((error: unknown) => {
        if (hasCode(error, 'cancelled')) return; // the store was closed: the note stays
        this.#log.warn('pulled images could not be written to disk yet', { error });
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  async #sync(): Promise<void> {
    for (let noted = this.#noted(); noted.length > 0; noted = this.#noted()) {
      await this.#jobs.sync(this.#directory);
      await this.#catalog.change((draft) => {
        for (const record of noted) {
          // What was added meanwhile has the next one.
          if (draft.images.get(record.id) !== record) continue;
          const { unsyncedBoot: _, ...synced } = record;
          draft.images.set(record.id, synced);
        }
      });
    }
  }

  /** The background's work has ended; the jobs were closed before. */
  async ended(): Promise<void> {
    await this.#running;
  }
}

/**
 * The configuration that a log leads to, outside of a running member: the snapshot's, changed by
 * each entry as every member changes it. Used where a log is read or written without the driver; it
 * sends, commits and decides nothing.
 */
import { applyChange, ConfChangeError, changerOf, restoreConf } from './core/confchange.ts';
import { Tracker, toConfState } from './core/tracker.ts';
import { type ConfChange, NO_LIMIT, type SnapshotMeta } from './core/types.ts';
import { MemberTable } from './memberTable.ts';

export class Configuration {
  readonly table = new MemberTable();
  readonly #tracker = new Tracker(1, NO_LIMIT);

  restore(snapshot: SnapshotMeta): void {
    this.table.restore(snapshot.data, snapshot.confState);
    this.#take(restoreConf(changerOf(this.#tracker, 0), snapshot.confState));
  }

  /** A change that cannot be made is skipped, as every member skips it. */
  apply(given: ConfChange): void {
    const change = this.table.admissible(given);
    try {
      this.#take(applyChange(changerOf(this.#tracker, 0), change));
    } catch (error) {
      if (!(error instanceof ConfChangeError)) throw error;
      return;
    }
    this.table.applied(change, toConfState(this.#tracker.config));
  }

  #take({ config, progress }: ReturnType<typeof applyChange>): void {
    this.#tracker.config = config;
    this.#tracker.progress = progress;
  }
}

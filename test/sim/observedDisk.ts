/**
 * A member's disk, watched: the ledger is told what is handed to it and what it says is durable.
 * Planted faults sit here, which a checker must see.
 */
import type { Entry, EntryId, SnapshotMeta } from '../../manager/raft/core/types.ts';
import type { DiskStore, OpenSnapshot, RaftDisk, Recovered } from '../../manager/raft/disk/disk.ts';
import type { WalAppend } from '../../manager/raft/disk/wal.ts';
import type { Machine, Run, Site } from './machine.ts';
import { check } from './violation.ts';

/** Passes everything on, and tells the ledger. */
export class ObservedDisk implements RaftDisk {
  readonly recovered: Recovered;
  readonly #disk: DiskStore;
  readonly #machine: Machine;
  readonly #site: Site;
  readonly #run: Run;
  readonly #checkSynced: () => void;

  constructor(disk: DiskStore, machine: Machine, site: Site, run: Run, checkSynced: () => void) {
    this.recovered = disk.recovered;
    this.#disk = disk;
    this.#machine = machine;
    this.#site = site;
    this.#run = run;
    this.#checkSynced = checkSynced;
  }

  get full(): boolean {
    return this.#disk.full;
  }

  takes(entries: readonly Entry[]): boolean {
    return this.#disk.takes(entries);
  }

  get spaceChanged(): RaftDisk['spaceChanged'] {
    return this.#disk.spaceChanged;
  }

  append(append: WalAppend): void {
    const { planted } = this.#site;
    const { world, id } = this.#machine;
    const { ledger } = world;
    ledger.handed(id, append, this.#run.node?.status());
    const done = (): void => {
      if (append.sync) this.#checkSynced();
      ledger.acknowledged(id, append);
      append.done();
    };
    if (planted === 'ackBeforeSync') {
      this.#disk.append({ ...append, done: () => {} });
      this.#site.schedule.after(0, this.#run.process, done);
    } else if (planted === 'forgetVote' && append.hardState !== undefined) {
      this.#disk.append({ ...append, hardState: { ...append.hardState, vote: 0 }, done });
    } else {
      this.#disk.append({ ...append, done });
    }
  }

  writeSnapshot(
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
    own: boolean,
  ): Promise<void> {
    return this.#disk.writeSnapshot(meta, chunks, own);
  }

  openSnapshot(id: EntryId): Promise<OpenSnapshot> {
    return this.#disk.openSnapshot(id);
  }

  release(keep: EntryId, index: number, old?: number): Promise<void> {
    check(index <= keep.index, 'purged', `member ${this.#machine.id} past its snapshot`);
    return this.#disk.release(keep, index, old);
  }

  rekey(key: Uint8Array): void {
    this.#disk.rekey(key);
  }

  get staleUntil(): number | undefined {
    return this.#disk.staleUntil;
  }

  settled(keep: EntryId): boolean {
    return this.#disk.settled(keep);
  }

  close(): Promise<void> {
    return this.#disk.close();
  }
}

/**
 * The write-ahead log as the driver sees it: append in order, told when durable. Appends that come
 * while a batch is on its way are joined into the next one (one write, one sync). A write that only
 * moves the commit index costs nothing: it rides on the next batch. States: open -> failed (an
 * error inside an allocated segment; the owner must end the process) or closed. `full` is no
 * failure.
 */
import { assert } from '../../../base/assert.ts';
import { MIB } from '../../../base/bytes.ts';
import type { Clock, Timer } from '../../../base/clock.ts';
import { SwarmError } from '../../../base/errors.ts';
import { Signal } from '../../../base/queue.ts';
import { ByteWriter } from '../bytes.ts';
import {
  type Entry,
  type EntryId,
  entriesBytes,
  entryBytes,
  type HardState,
} from '../core/types.ts';
import { frameBytes } from './frame.ts';
import { encodeHead, writeEntryRecord, writeHardState, writeSnapshotMark } from './records.ts';
import type { WalState } from './recovery.ts';
import { staleUntil, type WriterStart } from './segmentWriter.ts';
import { startOnLine } from './threadLine.ts';
import type { ThreadReply, ThreadRequest } from './walThread.ts';

/** Bound of what goes in one batch, unless it is a single entry: half a frame. */
const MAX_BATCH_BYTES = 4 * MIB;
/** Batches lie outside of the thread's heap; what it makes itself is small. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 };
/** While the disk is full, this part of the segment is for votes and the entries of elections. */
const RESERVED_PART = 1 / 8;
/** Most that a record's form adds to an entry, and a frame's to its batch. */
const RECORD_BYTES = 32;
const BATCH_BYTES = 256;
/**
 * A single entry is waited for so long where the last batch took no longer: a fast disk has it in
 * less than the turn of the loop costs that brings a message. No bound of what may hold up the main
 * thread comes near it.
 */
const PATIENCE_MS = 0.3;
/**
 * Where it did not come in time the processors are busy, whatever the disk took: so many batches
 * are not waited for then, twice as many each time that it happens again.
 */
const PASS_OVER_FIRST = 2;
const PASS_OVER_MOST = 256;
/** How often room for a spare segment is looked for while the disk is full. */
const RETRY_SPACE_MS = 1000;

export interface WalAppend {
  readonly entries: readonly Entry[];
  readonly hardState: HardState | undefined;
  /** Marks a snapshot whose file is complete. */
  readonly snapshot: EntryId | undefined;
  /** The snapshot came from a leader and takes the log's place. */
  readonly installs: boolean;
  /** False: `done` may come before this is durable (a moved commit index). */
  readonly sync: boolean;
  readonly done: () => void;
}

/** The log's thread as this side holds it. */
export interface WalThread {
  postMessage(request: ThreadRequest, transfer: ArrayBuffer[]): void;
  /** The same; the answer where it comes within `patienceMs`, in which the caller does nothing. */
  ask?(
    request: ThreadRequest,
    transfer: ArrayBuffer[],
    patienceMs: number,
  ): ThreadReply | undefined;
  on(event: 'message', listener: (reply: ThreadReply) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: () => void): unknown;
  /** Ends it where it stands. */
  terminate(): Promise<unknown>;
}

export type StartThread = (start: WriterStart) => WalThread;

function startWorker(start: WriterStart): WalThread {
  // The file beside this one, whatever the build makes of its suffix.
  const file = import.meta.url.endsWith('.ts') ? './walThread.ts' : './walThread.js';
  return startOnLine(new URL(file, import.meta.url), start, { resourceLimits: THREAD_LIMITS });
}

export class Wal {
  /** Emitted with true when the disk has no room for the next segment, false when it has again. */
  readonly spaceChanged = new Signal<boolean>();
  readonly #thread: WalThread;
  readonly #clock: Clock;
  readonly #onFatal: (error: SwarmError) => void;
  readonly #onSynced: (tookMs: number, bytes: number) => void;
  readonly #directory: string;
  readonly #nodeId: number;
  readonly #maxBatchBytes: number;
  #pending: WalAppend[] = [];
  #writing: WalAppend[] | undefined = undefined;
  #writingBytes = 0;
  #lastTookMs = Number.POSITIVE_INFINITY;
  #passOver = 0;
  #nextPassOver = PASS_OVER_FIRST;
  #hardState: HardState;
  #writtenHardState: HardState;
  #snapshot: EntryId;
  #last: EntryId;
  #full = false;
  /** Left in the open segment, as the thread last said. */
  #roomBytes = 0;
  readonly #reservedBytes: number;
  #failed = false;
  #staleUntil: number | undefined;
  /** New keys that the thread has not said it knows. */
  #rekeying = 0;
  /** Told when a purge is done, in order. */
  #purging: (() => void)[] = [];
  #closing: (() => void) | undefined = undefined;
  #retry: Timer | undefined = undefined;
  readonly #exited = new Signal();
  #hasExited = false;

  constructor(options: {
    start: WriterStart;
    state: Pick<WalState, 'nodeId' | 'hardState' | 'snapshot' | 'base' | 'entries'>;
    clock: Clock;
    onFatal: (error: SwarmError) => void;
    onSynced?: (tookMs: number, bytes: number) => void;
    startThread?: StartThread;
  }) {
    const { start, state, startThread = startWorker } = options;
    this.#clock = options.clock;
    this.#onFatal = options.onFatal;
    this.#onSynced = options.onSynced ?? (() => {});
    this.#directory = start.directory;
    this.#nodeId = state.nodeId;
    this.#maxBatchBytes = Math.min(MAX_BATCH_BYTES, start.segmentBytes / 4);
    this.#hardState = state.hardState;
    this.#writtenHardState = state.hardState;
    this.#snapshot = state.snapshot;
    this.#last = state.entries[state.entries.length - 1] ?? state.base;
    this.#staleUntil = staleUntil(start.segments);
    this.#reservedBytes = start.segmentBytes * RESERVED_PART;
    this.#thread = startThread(start);
    this.#thread.on('message', (reply) => this.#onReply(reply));
    this.#thread.on('error', (error) => this.#fail(error.message));
    this.#thread.on('exit', () => this.#onExit());
  }

  /** No room for the next segment: append only what takes() allows, and votes. */
  get full(): boolean {
    return this.#full;
  }

  /**
   * Whether these entries may be appended. On a full disk what fits the open segment, so that what
   * was under way comes to its end and those who are told of it can be read from; the last part of
   * it is for elections, whose entries are empty.
   */
  takes(entries: readonly Entry[]): boolean {
    if (!this.#full || entries.length === 0) return true;
    const under = [...(this.#writing ?? []), ...this.#pending].map((append) => append.entries);
    let bytes = 0;
    for (const each of [...under, entries]) {
      bytes += frameBytes(entriesBytes(each) + each.length * RECORD_BYTES + BATCH_BYTES);
    }
    const isElection = entries.every(({ data }) => data.length === 0);
    return this.#roomBytes - bytes >= (isElection ? 0 : this.#reservedBytes);
  }

  append(append: WalAppend): void {
    if (this.#failed) return;
    assert(this.#closing === undefined, 'wal: append after close');
    for (const part of this.#split(append)) this.#pending.push(part);
    this.#pump();
  }

  /** An append of any size as parts that fit a batch; the last one carries `done`. */
  #split(append: WalAppend): WalAppend[] {
    const { entries, hardState } = append;
    if (entriesBytes(entries) <= this.#maxBatchBytes) return [append];
    const parts: WalAppend[] = [];
    // The term goes with the first part, as its entries may be of it; the commit index only with
    // the last, as it may cover entries that come no earlier.
    const commit = this.#hardState.commit;
    const early = hardState === undefined ? undefined : { ...hardState, commit };
    let from = 0;
    let bytes = 0;
    for (const [at, entry] of entries.entries()) {
      bytes += entryBytes(entry);
      if (at === from || bytes <= this.#maxBatchBytes) continue;
      const part = entries.slice(from, at);
      const { snapshot } = from === 0 ? append : { snapshot: undefined };
      parts.push({ ...append, entries: part, snapshot, hardState: early, done: () => {} });
      from = at;
      bytes = entryBytes(entry);
    }
    const { snapshot } = from === 0 ? append : { snapshot: undefined };
    parts.push({ ...append, entries: entries.slice(from), snapshot });
    return parts;
  }

  #pump(): void {
    while (this.#writing === undefined && this.#pending.length > 0) {
      const batch = this.#takeBatch();
      if (batch.some((append) => append.sync)) {
        this.#write(batch);
        return;
      }
      // Nothing here promises durability, and all before it is durable.
      for (const append of batch) this.#note(append);
      for (const append of batch) append.done();
    }
    if (this.#writing === undefined) this.#closing?.();
  }

  #takeBatch(): WalAppend[] {
    let bytes = 0;
    let count = 0;
    for (const append of this.#pending) {
      bytes += entriesBytes(append.entries);
      if (count > 0 && bytes > this.#maxBatchBytes) break;
      count += 1;
    }
    return this.#pending.splice(0, count);
  }

  #note(append: WalAppend): void {
    if (append.hardState !== undefined) this.#hardState = append.hardState;
    if (append.snapshot !== undefined && append.snapshot.index >= this.#snapshot.index) {
      this.#snapshot = append.snapshot;
      if (append.installs) this.#last = append.snapshot;
    }
    if (append.entries.length > 0) this.#last = append.entries[append.entries.length - 1];
  }

  #write(batch: WalAppend[]): void {
    const head = encodeHead({
      nodeId: this.#nodeId,
      hardState: this.#writtenHardState,
      snapshot: this.#snapshot,
      last: this.#last,
    });
    let capacity = 64;
    for (const { entries } of batch) capacity += entriesBytes(entries) + entries.length * 24;
    const out = new ByteWriter(capacity);
    let maxIndex = 0;
    for (const append of batch) {
      // A snapshot's mark goes first: the entries after it follow on it.
      if (append.snapshot !== undefined) writeSnapshotMark(out, append.snapshot);
      for (const entry of append.entries) {
        writeEntryRecord(out, entry);
        maxIndex = Math.max(maxIndex, entry.index);
      }
      this.#note(append);
    }
    if (this.#hardState !== this.#writtenHardState || out.length === 0) {
      writeHardState(out, this.#hardState);
      this.#writtenHardState = this.#hardState;
    }
    this.#writing = batch;
    const body = out.take();
    this.#writingBytes = body.length;
    const request = { kind: 'write', batch: { head, body, maxIndex } } as const;
    const transfer = [body.buffer as ArrayBuffer];
    if (this.#isWorthWaiting(batch)) this.#ask(request, transfer);
    else this.#post(request, transfer);
  }

  #isWorthWaiting(batch: readonly WalAppend[]): boolean {
    if (this.#thread.ask === undefined || this.#lastTookMs > PATIENCE_MS) return false;
    if (batch.length !== 1 || batch[0].entries.length !== 1) return false;
    if (this.#passOver === 0) return true;
    this.#passOver -= 1;
    return false;
  }

  #ask(request: ThreadRequest, transfer: ArrayBuffer[]): void {
    const reply = this.#thread.ask?.(request, transfer, PATIENCE_MS);
    if (reply === undefined) {
      this.#passOver = this.#nextPassOver;
      this.#nextPassOver = Math.min(2 * this.#nextPassOver, PASS_OVER_MOST);
      return;
    }
    this.#nextPassOver = PASS_OVER_FIRST;
    this.#onReply(reply);
  }

  #post(request: ThreadRequest, transfer: ArrayBuffer[] = []): void {
    this.#thread.postMessage(request, transfer);
  }

  #onReply(reply: ThreadReply): void {
    if (this.#failed) return;
    if (reply.kind === 'written') {
      const batch = this.#writing;
      assert(batch !== undefined, 'wal: a reply without a batch');
      this.#writing = undefined;
      this.#roomBytes = reply.roomBytes;
      this.#lastTookMs = reply.tookMs;
      this.#onSynced(reply.tookMs, this.#writingBytes);
      for (const append of batch) append.done();
      this.#pump();
    } else if (reply.kind === 'purged' || reply.kind === 'rekeyed') {
      if (reply.kind === 'rekeyed') this.#rekeying -= 1;
      if (this.#rekeying === 0) this.#staleUntil = reply.staleUntil;
      if (reply.kind === 'purged') this.#purging.shift()?.();
    } else if (reply.kind === 'space') {
      this.#roomBytes = reply.roomBytes;
      this.#setFull(reply.full);
    } else if (reply.kind === 'fatal') {
      this.#fail(reply.message);
    }
  }

  #setFull(full: boolean): void {
    if (full && this.#closing === undefined) {
      this.#retry?.cancel();
      this.#retry = this.#clock.afterIdle(RETRY_SPACE_MS, () => this.#post({ kind: 'retry' }));
    }
    if (this.#full === full) return;
    this.#full = full;
    this.spaceChanged.emit(full);
  }

  #fail(message: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#retry?.cancel();
    this.#onFatal(
      new SwarmError(
        'internal',
        `the raft log in ${this.#directory} could not be written: ${message}; ` +
          'what reached the disk is unknown, so this process has to end; check the disk',
      ),
    );
    this.#endPurging();
    this.#closing?.();
  }

  #endPurging(): void {
    for (const done of this.#purging.splice(0)) done();
  }

  #onExit(): void {
    this.#exited.emit();
    this.#hasExited = true;
    this.#endPurging();
    if (this.#closing === undefined) this.#fail('its thread ended');
  }

  /** Removes segments whose entries are all at or below `index`; resolves when they are gone. */
  purge(index: number): Promise<void> {
    if (this.#failed || this.#closing !== undefined) return Promise.resolve();
    this.#post({ kind: 'purge', index });
    return new Promise((done) => this.#purging.push(done));
  }

  /** What is appended from now on is sealed with `key`. */
  rekey(key: Uint8Array): void {
    if (this.#failed || this.#closing !== undefined) return;
    this.#rekeying += 1;
    this.#staleUntil = Math.max(this.#staleUntil ?? 0, this.#last.index);
    this.#post({ kind: 'rekey', key });
  }

  /**
   * Up to this entry (or, at 0, without one) something in the log is sealed with an older key, or
   * not at all; undefined = nothing is. Only purges change that.
   */
  get staleUntil(): number | undefined {
    return this.#staleUntil;
  }

  /** Writes what is pending (unless the disk is full or failed), then ends the thread. */
  async close(): Promise<void> {
    if (!this.#failed && !this.#full && this.#hardState !== this.#writtenHardState) {
      const done = (): void => {};
      const nothing = { entries: [], hardState: undefined, snapshot: undefined, installs: false };
      this.append({ ...nothing, sync: true, done });
    }
    this.#retry?.cancel();
    await new Promise<void>((resolve) => {
      this.#closing = resolve;
      if (this.#failed || this.#full || this.#writing === undefined) resolve();
    });
    if (this.#hasExited) return;
    const ended = new Promise<void>((resolve) => this.#exited.listen(() => resolve()));
    if (this.#failed) await this.#thread.terminate();
    else this.#post({ kind: 'close' });
    await ended;
  }
}

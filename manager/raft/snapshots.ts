/**
 * Snapshots outside of the core: taking them when the log has grown, sending the newest to a member
 * that needs it, storing one that arrives. At most one of each kind at a time (sending: one a
 * member). Streams run beside the main loop; the log is cut only after a snapshot is durable.
 */
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { withDeadline } from '../../base/queue.ts';
import { encodeMessage } from './codec.ts';
import type { MemoryLog } from './core/memoryLog.ts';
import type { Message, SnapshotMeta } from './core/types.ts';
import type { RaftDisk } from './disk/disk.ts';
import type { RaftFigures } from './figures.ts';
import {
  SENDING_LOG_BYTES,
  SNAPSHOT_ENTRIES,
  SNAPSHOT_LOG_BYTES,
  SNAPSHOT_RETRY_MS,
  STOP_TIMEOUT_MS,
  TRAILING_ENTRIES,
} from './limits.ts';
import type { RaftTransport, StateMachine } from './types.ts';

export interface SnapshotHost {
  readonly clock: Clock;
  readonly log: Log;
  readonly disk: RaftDisk;
  readonly memory: MemoryLog;
  readonly transport: RaftTransport;
  readonly stateMachine: StateMachine;
  readonly figures: RaftFigures;
  /** Metadata of the state as of the last applied entry. */
  describe(): SnapshotMeta;
  address(id: number): string | undefined;
  /** Nothing on the disk needs an older key any more. */
  onSettled(): void;
  reportSnapshot(id: number, ok: boolean): void;
}

export class Snapshots {
  readonly #host: SnapshotHost;
  #entries: number;
  #trailing = TRAILING_ENTRIES;
  #old = 0;
  #taking: Promise<void> | undefined = undefined;
  #retryAtMs = 0;
  /** Counts the calls of supersede; `#superseded` follows when it is done. */
  #supersede = 0;
  #superseded = 0;
  /** By the member that it is for. */
  readonly #sending = new Map<number, { readonly index: number; readonly work: Promise<void> }>();
  #receiving = false;
  #stopped = false;

  constructor(host: SnapshotHost, everyEntries = SNAPSHOT_ENTRIES) {
    this.#host = host;
    this.#entries = everyEntries;
  }

  /** From now on: `entries` between snapshots, `trailing` kept behind one, and `old` older ones. */
  keep(entries: number, trailing: number, old: number): void {
    this.#old = old;
    this.#entries = entries;
    this.#trailing = trailing;
  }

  /** After entries were applied: starts a snapshot when the log has grown enough. */
  maybeTake(appliedIndex: number): void {
    const { memory, clock, disk } = this.#host;
    if (this.#taking !== undefined || this.#stopped || disk.full) return;
    const since = appliedIndex - (memory.snapshot()?.index ?? 0);
    const due = since >= this.#entries || (since > 0 && memory.bytes >= SNAPSHOT_LOG_BYTES);
    const wanted = due || (this.#superseding && appliedIndex >= (disk.staleUntil ?? 0));
    if (wanted && clock.nowMs() >= this.#retryAtMs) void this.#takeOnce();
  }

  /**
   * Replaces what is sealed with an older key, or not at all: a snapshot of what the stale part of
   * the log led to takes its place. Those that lag get that snapshot, and older ones that the user
   * wanted kept go: without their key they were of no use.
   */
  supersede(): void {
    this.#supersede += 1;
    this.#retryAtMs = 0;
    this.maybeTake(this.#host.describe().index);
  }

  get #superseding(): boolean {
    return this.#superseded < this.#supersede;
  }

  #takeOnce(): Promise<void> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined;
      // So much may have been applied meanwhile that the next is due, and nothing may follow it.
      this.maybeTake(this.#host.describe().index);
    });
    return this.#taking;
  }

  async #take(): Promise<void> {
    const { disk, log, clock, figures } = this.#host;
    const meta = this.#host.describe();
    const supersedes = this.#superseding ? this.#supersede : undefined;
    const figure = figures.snapshot('taken', clock);
    const { chunks } = this.#host.stateMachine.takeSnapshot();
    try {
      await disk.writeSnapshot(meta, figure.count(chunks), true);
    } catch (error) {
      figure.failed();
      log.error('raft: snapshot failed', { index: meta.index, error: messageOf(error) });
      this.#tryLater();
      return;
    } finally {
      // What was pinned for it is let go, even where reading it never began.
      await chunks[Symbol.asyncIterator]().return?.();
    }
    const newest = this.#host.memory.snapshot()?.index ?? 0;
    if (this.#stopped || newest > meta.index) return;
    if (newest === meta.index && supersedes === undefined) return;
    await new Promise<void>((done) => {
      const mark = { entries: [], hardState: undefined, installs: false, sync: true, done };
      disk.append({ ...mark, snapshot: meta });
    });
    this.#host.memory.noteSnapshot(meta);
    const tookMs = figure.done();
    log.info('raft: snapshot taken', { index: meta.index, bytes: figure.bytes, tookMs });
    if (supersedes === undefined) this.cut();
    else await this.#cutStale(meta, supersedes);
  }

  #tryLater(): void {
    this.#retryAtMs = this.#host.clock.nowMs() + SNAPSHOT_RETRY_MS;
    if (!this.#superseding) return;
    // Nothing else may come that would ask for one.
    this.#host.clock.afterIdle(SNAPSHOT_RETRY_MS, () => {
      // A timer may be early by a hair.
      this.#retryAtMs = 0;
      if (!this.#stopped && this.#superseding) this.maybeTake(this.#host.describe().index);
    });
  }

  async #cutStale(snapshot: SnapshotMeta, supersedes: number): Promise<void> {
    const { memory, disk, log } = this.#host;
    memory.compact(snapshot.index);
    await disk.release(snapshot, snapshot.index, 0);
    if (this.#stopped) return;
    if (supersedes === this.#supersede && disk.settled(snapshot)) {
      this.#superseded = supersedes;
      log.info('raft: nothing is left that an older key sealed', { index: snapshot.index });
      this.#host.onSettled();
    } else {
      this.#tryLater();
    }
  }

  /** Forgets what the newest snapshot makes needless, in memory and on disk. */
  cut(): void {
    const { memory, disk } = this.#host;
    const snapshot = memory.snapshot();
    if (snapshot === undefined) return;
    // With large entries even the trailing part would be too much: keep none then.
    const trailing = memory.bytes > SNAPSHOT_LOG_BYTES ? 0 : this.#trailing;
    const sent = [...this.#sending.values()].map(({ index }) => index);
    const needed = memory.bytes > SENDING_LOG_BYTES ? [] : sent;
    const until = Math.max(0, Math.min(snapshot.index - trailing, ...needed));
    memory.compact(until);
    void disk.release(snapshot, until, this.#old);
  }

  send(message: Message): void {
    const { to, snapshot } = message;
    if (snapshot === undefined || this.#sending.has(to) || this.#stopped) return;
    const work = this.#send(to, message, snapshot).finally(() => this.#sending.delete(to));
    this.#sending.set(to, { index: snapshot.index, work });
  }

  async #send(to: number, message: Message, meta: SnapshotMeta): Promise<void> {
    const { disk, log, transport, clock, figures } = this.#host;
    if (!knows(meta, to)) {
      // It was added after that snapshot, and would refuse it: take a newer one for it.
      await this.#takeOnce();
      if (!this.#stopped) this.#host.reportSnapshot(to, false);
      return;
    }
    const figure = figures.snapshot('sent', clock);
    try {
      const address = this.#host.address(to);
      if (address === undefined) throw new SwarmError('not_found', 'its address is not known');
      const reader = await disk.openSnapshot(meta);
      try {
        const chunks = (fromByte: number): AsyncIterable<Uint8Array> =>
          figure.count(reader.chunks(fromByte));
        await transport.sendSnapshot(to, address, encodeMessage(message), chunks);
      } finally {
        await reader.close();
      }
      const tookMs = figure.done();
      log.info('raft: snapshot sent', { to, index: meta.index, bytes: figure.bytes, tookMs });
      if (!this.#stopped) this.#host.reportSnapshot(to, true);
    } catch (error) {
      figure.failed();
      log.warn('raft: snapshot not sent', { to, index: meta.index, error: messageOf(error) });
      // The core tries again as soon as it is told: not at once, as the cause may well stay.
      clock.afterIdle(SNAPSHOT_RETRY_MS, () => {
        if (!this.#stopped) this.#host.reportSnapshot(to, false);
      });
    }
  }

  /** Stores a snapshot that arrives; the message may be stepped once it resolves. */
  async receive(meta: SnapshotMeta, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#receiving || this.#stopped) {
      throw new SwarmError('unavailable', 'another snapshot is being received');
    }
    this.#receiving = true;
    const { disk, clock, figures } = this.#host;
    const figure = figures.snapshot('received', clock);
    try {
      await disk.writeSnapshot(meta, figure.count(chunks), false);
      figure.done();
    } catch (error) {
      figure.failed();
      throw error;
    } finally {
      this.#receiving = false;
    }
  }

  /** Waits for what is under way, but not for ever: its files count for nothing unfinished. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const { clock, log } = this.#host;
    const all = Promise.allSettled([
      this.#taking,
      ...[...this.#sending.values()].map(({ work }) => work),
    ]);
    await withDeadline(clock, STOP_TIMEOUT_MS, 'stopping snapshots', all).catch((error: unknown) =>
      log.warn('raft: stopped', { error: messageOf(error) }),
    );
  }
}

function knows({ confState }: SnapshotMeta, id: number): boolean {
  const { voters, votersOutgoing, learners } = confState;
  return voters.includes(id) || votersOutgoing.includes(id) || learners.includes(id);
}

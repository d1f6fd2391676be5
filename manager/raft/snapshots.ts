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
  reportSnapshot(id: number, ok: boolean): void;
}

export class Snapshots {
  readonly #host: SnapshotHost;
  #entries: number;
  #trailing = TRAILING_ENTRIES;
  #old = 0;
  #taking: Promise<void> | undefined = undefined;
  #retryAtMs = 0;
  readonly #sending = new Map<number, Promise<void>>();
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
    if (this.#taking !== undefined || this.#stopped || this.#host.disk.full) return;
    const { memory, clock } = this.#host;
    const since = appliedIndex - (memory.snapshot()?.index ?? 0);
    const due = since >= this.#entries || (since > 0 && memory.bytes >= SNAPSHOT_LOG_BYTES);
    if (due && clock.nowMs() >= this.#retryAtMs) void this.#takeOnce();
  }

  #takeOnce(): Promise<void> {
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined;
    });
    return this.#taking;
  }

  async #take(): Promise<void> {
    const { disk, log, clock, figures } = this.#host;
    const meta = this.#host.describe();
    const figure = figures.snapshot('taken', clock);
    const { chunks } = this.#host.stateMachine.takeSnapshot();
    try {
      await disk.writeSnapshot(meta, figure.count(chunks), true);
    } catch (error) {
      figure.failed();
      this.#retryAtMs = clock.nowMs() + SNAPSHOT_RETRY_MS;
      log.error('raft: snapshot failed', { index: meta.index, error: messageOf(error) });
      return;
    } finally {
      // What was pinned for it is let go, even where reading it never began.
      await chunks[Symbol.asyncIterator]().return?.();
    }
    const newest = this.#host.memory.snapshot()?.index ?? 0;
    if (this.#stopped || newest >= meta.index) return;
    await new Promise<void>((done) => {
      const mark = { entries: [], hardState: undefined, installs: false, sync: true, done };
      disk.append({ ...mark, snapshot: meta });
    });
    this.#host.memory.noteSnapshot(meta);
    this.cut();
    log.info('raft: snapshot taken', {
      index: meta.index,
      bytes: figure.bytes,
      tookMs: figure.done(),
    });
  }

  /** Forgets what the newest snapshot makes needless, in memory and on disk. */
  cut(): void {
    const { memory, disk } = this.#host;
    const snapshot = memory.snapshot();
    if (snapshot === undefined) return;
    // With large entries even the trailing part would be too much: keep none then.
    const trailing = memory.bytes > SNAPSHOT_LOG_BYTES ? 0 : this.#trailing;
    const until = Math.max(0, snapshot.index - trailing);
    memory.compact(until);
    disk.release(snapshot, until, this.#old);
  }

  send(message: Message): void {
    const { to, snapshot } = message;
    if (snapshot === undefined || this.#sending.has(to) || this.#stopped) return;
    const work = this.#send(to, message, snapshot).finally(() => this.#sending.delete(to));
    this.#sending.set(to, work);
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
        const chunks = figure.count(reader.chunks());
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
    const all = Promise.allSettled([this.#taking, ...this.#sending.values()]);
    await withDeadline(clock, STOP_TIMEOUT_MS, 'stopping snapshots', all).catch((error: unknown) =>
      log.warn('raft: stopped', { error: messageOf(error) }),
    );
  }
}

function knows({ confState }: SnapshotMeta, id: number): boolean {
  const { voters, votersOutgoing, learners } = confState;
  return voters.includes(id) || votersOutgoing.includes(id) || learners.includes(id);
}

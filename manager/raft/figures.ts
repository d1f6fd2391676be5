/**
 * What a Raft member counts: proposals and how they end, how long the disk and agreement take,
 * snapshots. Counts only; where it stands now is read from its status.
 */
import type { Clock } from '../../base/clock.ts';
import {
  type Counter,
  FAST_SECONDS,
  type Histogram,
  type Meter,
  SLOW_SECONDS,
} from '../../base/meter.ts';

const MS_PER_SECOND = 1000;
const PROPOSALS = 'Changes asked of this manager as the leader, by how they ended.';

export type SnapshotKind = 'taken' | 'sent' | 'received';

interface SnapshotFigures {
  readonly seconds: Histogram;
  readonly bytes: Counter;
}

export class RaftFigures {
  /** Applied here. */
  readonly #accepted: Counter;
  /** Not begun: the caller was told why, and nothing was changed. */
  readonly #refused: Counter;
  /** Begun, and given up: whether it was made is not known, or another leader's took its place. */
  readonly #failed: Counter;
  readonly #commitSeconds: Histogram;
  readonly #syncSeconds: Histogram;
  readonly #syncedBytes: Counter;
  readonly #leaderChanges: Counter;
  readonly #snapshots: Readonly<Record<SnapshotKind, SnapshotFigures>>;
  readonly #snapshotFailures: Counter;
  #lastLeader: number | undefined;

  constructor(meter: Meter) {
    const proposals = (outcome: string): Counter =>
      meter.counter('tsswarm_raft_proposals_total', PROPOSALS, { outcome });
    this.#accepted = proposals('accepted');
    this.#refused = proposals('refused');
    this.#failed = proposals('failed');
    this.#commitSeconds = meter.histogram(
      'tsswarm_raft_commit_duration_seconds',
      'From a proposal at this manager as the leader until it is committed and applied.',
      FAST_SECONDS,
    );
    this.#syncSeconds = meter.histogram(
      'tsswarm_raft_log_sync_duration_seconds',
      'Writing one batch of the log and syncing it to disk (fdatasync).',
      FAST_SECONDS,
    );
    this.#syncedBytes = meter.counter(
      'tsswarm_raft_log_written_bytes_total',
      'Bytes of batches written to the log.',
    );
    this.#leaderChanges = meter.counter(
      'tsswarm_raft_leader_changes_total',
      'Times that another manager took the lead.',
    );
    const snapshots = (kind: SnapshotKind): SnapshotFigures => ({
      seconds: meter.histogram(
        'tsswarm_raft_snapshot_duration_seconds',
        'Snapshots taken, sent to and received from other managers, whole ones.',
        SLOW_SECONDS,
        { kind },
      ),
      bytes: meter.counter('tsswarm_raft_snapshot_bytes_total', 'Bytes of those snapshots.', {
        kind,
      }),
    });
    this.#snapshots = {
      taken: snapshots('taken'),
      sent: snapshots('sent'),
      received: snapshots('received'),
    };
    this.#snapshotFailures = meter.counter(
      'tsswarm_raft_snapshot_failures_total',
      'Snapshots that could not be taken, sent or received to their end.',
    );
  }

  refused(): void {
    this.#refused.add();
  }

  failed(): void {
    this.#failed.add();
  }

  accepted(tookMs: number): void {
    this.#accepted.add();
    this.#commitSeconds.observe(tookMs / MS_PER_SECOND);
  }

  synced(tookMs: number, bytes: number): void {
    this.#syncSeconds.observe(tookMs / MS_PER_SECOND);
    this.#syncedBytes.add(bytes);
  }

  leads(leaderId: number | undefined): void {
    if (leaderId === undefined || leaderId === this.#lastLeader) return;
    if (this.#lastLeader !== undefined) this.#leaderChanges.add();
    this.#lastLeader = leaderId;
  }

  /** One that begins now. */
  snapshot(kind: SnapshotKind, clock: Clock): SnapshotFigure {
    const { seconds, bytes } = this.#snapshots[kind];
    return new SnapshotFigure(clock, seconds, bytes, this.#snapshotFailures);
  }
}

/** One snapshot on its way to or from the disk or another manager. */
export class SnapshotFigure {
  readonly #clock: Clock;
  readonly #seconds: Histogram;
  readonly #total: Counter;
  readonly #failures: Counter;
  readonly #startedMs: number;
  bytes = 0;

  constructor(clock: Clock, seconds: Histogram, total: Counter, failures: Counter) {
    this.#clock = clock;
    this.#seconds = seconds;
    this.#total = total;
    this.#failures = failures;
    this.#startedMs = clock.nowMs();
  }

  /** `chunks` as they are. */
  async *count(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.bytes += chunk.length;
      yield chunk;
    }
  }

  /** How long it took. */
  done(): number {
    const tookMs = this.#clock.nowMs() - this.#startedMs;
    this.#seconds.observe(tookMs / MS_PER_SECOND);
    this.#total.add(this.bytes);
    return Math.round(tookMs);
  }

  failed(): void {
    this.#failures.add();
  }
}

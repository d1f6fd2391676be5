/**
 * What a leader believes of one member's log, and how fast it may send. State machine:
 *   probe      its log's end is unknown; one append at a time   -> replicate (becomeReplicate)
 *   replicate  appends are sent optimistically, `next` runs ahead -> probe (becomeProbe)
 *   snapshot   it needs a snapshot; nothing else is sent        -> probe, replicate
 * Always match < next. Semantics: etcd-io/raft tracker/progress.go.
 */
import { assert } from '../../../base/assert.ts';
import { Inflights } from './inflights.ts';

export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export class Progress {
  match: number;
  next: number;
  sentCommit = 0;
  state: ProgressState = 'probe';
  /** snapshot state: the index of the snapshot under way. */
  pendingSnapshot = 0;
  /** Heard from since CheckQuorum's last look. */
  recentActive: boolean;
  /** Appends paused: a probe is out, or the inflight window is full. */
  flowPaused = false;
  isLearner: boolean;
  inflights: Inflights;

  constructor(fields: {
    match: number;
    next: number;
    isLearner: boolean;
    recentActive: boolean;
    inflights: Inflights;
  }) {
    this.match = fields.match;
    this.next = fields.next;
    this.isLearner = fields.isLearner;
    this.recentActive = fields.recentActive;
    this.inflights = fields.inflights;
  }

  static fresh(next: number, isLearner: boolean, maxMessages: number, maxBytes: number): Progress {
    const inflights = new Inflights(maxMessages, maxBytes);
    return new Progress({ match: 0, next, isLearner, recentActive: false, inflights });
  }

  /** Shares the inflight window, as a configuration change must not forget what is under way. */
  copy(): Progress {
    const copy = new Progress(this);
    copy.sentCommit = this.sentCommit;
    copy.state = this.state;
    copy.pendingSnapshot = this.pendingSnapshot;
    copy.flowPaused = this.flowPaused;
    return copy;
  }

  #resetState(state: ProgressState): void {
    this.flowPaused = false;
    this.pendingSnapshot = 0;
    this.state = state;
    this.inflights.reset();
  }

  becomeProbe(): void {
    // A snapshot that was sent is presumed received: probe right after it.
    const after = this.state === 'snapshot' ? this.pendingSnapshot : 0;
    this.#resetState('probe');
    this.next = Math.max(this.match, after) + 1;
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
  }

  becomeReplicate(): void {
    this.#resetState('replicate');
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#resetState('snapshot');
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.sentCommit = index;
  }

  sentEntries(count: number, bytes: number): void {
    assert(this.state !== 'snapshot', 'raft: append sent during a snapshot');
    if (this.state === 'replicate') {
      if (count > 0) {
        this.next += count;
        this.inflights.add(this.next - 1, bytes);
      }
      this.flowPaused = this.inflights.full();
    } else if (count > 0) {
      this.flowPaused = true;
    }
  }

  /** Whether an empty append with commit `index` can tell the follower anything new. */
  canBumpCommit(index: number): boolean {
    return index > this.sentCommit && this.sentCommit < this.next - 1;
  }

  /** The follower holds everything up to `index`; false when that is old news. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.flowPaused = false;
    return true;
  }

  /** An append at `rejected` was refused; false when the refusal is stale. */
  maybeDecreaseTo(rejected: number, matchHint: number): boolean {
    if (this.state === 'replicate') {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.sentCommit = Math.min(this.sentCommit, this.next - 1);
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, matchHint + 1), this.match + 1);
    this.sentCommit = Math.min(this.sentCommit, this.next - 1);
    this.flowPaused = false;
    return true;
  }

  isPaused(): boolean {
    return this.state === 'snapshot' || this.flowPaused;
  }
}

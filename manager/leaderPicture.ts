/**
 * What only the leader knows (heartbeat ages, how far each manager is), as a follower was told it
 * last. Asked for only while somebody looks, once a second whoever looks; what is old is not shown.
 */
import type { Clock } from '../base/clock.ts';

const REFRESH_MS = 900;
/** Older than this it says more of the past than of now. */
const FORGET_MS = 5000;

export interface LeaderView {
  /** Milliseconds since each node was heard from, by node id. */
  readonly heartbeatAges: ReadonlyMap<string, number>;
  readonly members: ReadonlyMap<number, { readonly reachable: boolean; readonly lag: number }>;
}

export const NO_VIEW: LeaderView = { heartbeatAges: new Map(), members: new Map() };

export class LeaderPicture {
  readonly #clock: Clock;
  readonly #ask: () => Promise<LeaderView>;
  #view = NO_VIEW;
  #atMs = Number.NEGATIVE_INFINITY;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking = false;

  /** `ask` rejects when nobody leads, or the leader does not answer. */
  constructor(clock: Clock, ask: () => Promise<LeaderView>) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** As it was told last; heartbeats have aged meanwhile. */
  peek(): LeaderView {
    const ageMs = this.#clock.nowMs() - this.#atMs;
    if (ageMs > FORGET_MS) return NO_VIEW;
    const heartbeatAges = new Map<string, number>();
    for (const [nodeId, ms] of this.#view.heartbeatAges) heartbeatAges.set(nodeId, ms + ageMs);
    return { ...this.#view, heartbeatAges };
  }

  /** As peek(), and asks anew when it is time. */
  look(): LeaderView {
    const nowMs = this.#clock.nowMs();
    if (!this.#asking && nowMs - this.#askedAtMs >= REFRESH_MS) {
      this.#askedAtMs = nowMs;
      void this.#refresh();
    }
    return this.peek();
  }

  async #refresh(): Promise<void> {
    this.#asking = true;
    try {
      this.#view = await this.#ask();
      this.#atMs = this.#clock.nowMs();
    } catch {
      // The picture grows old, and is not shown then: that is all there is to tell.
    } finally {
      this.#asking = false;
    }
  }
}

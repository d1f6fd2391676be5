/**
 * Compares this manager's store with the leader's, every few seconds while it follows: the hash of
 * the version it has reached with the leader's of that version. A difference is a broken promise of
 * the store's: it is told loudly, and what to do about it, again and again; nothing is repaired
 * here, as nobody can tell which of the two is right.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { differenceText, type ManagerState } from './managerState.ts';
import { hashFormat } from './replica.ts';
import type { StoreState } from './store/types.ts';

const EVERY_MS = 10_000;
/** The same difference is told again after this many comparisons. */
const TOLD_EVERY = 30;

export interface StoreComparisonOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: StoreState;
  /** Name of this manager's host, for people. */
  readonly host: () => string;
  /** The leader's state, asked about `version`; undefined when this manager leads or knows none. */
  readonly askLeader: (version: number) => Promise<ManagerState> | undefined;
}

export class StoreComparison {
  readonly #options: StoreComparisonOptions;
  #timer: Timer | undefined;
  #stopped = false;
  #comparedVersion = -1;
  #differsAt = 0;
  #untold = 0;

  constructor(options: StoreComparisonOptions) {
    this.#options = options;
  }

  /** Version at which the difference was found; 0 = none. */
  get differsAt(): number {
    return this.#differsAt;
  }

  start(): void {
    this.#timer = this.#options.clock.afterIdle(EVERY_MS, () => {
      void this.compare().finally(() => {
        if (!this.#stopped) this.start();
      });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Once, now. Never rejects. */
  async compare(): Promise<void> {
    const { store, askLeader, log } = this.#options;
    const { version } = store;
    const hash = store.hash();
    if (version === this.#comparedVersion && this.#differsAt === 0) return;
    let theirs: ManagerState | undefined;
    try {
      theirs = await askLeader(version);
    } catch (error) {
      log.debug('store not compared', { error: messageOf(error) });
    }
    // Also when the leader has not applied that much yet, or long forgotten it: next time.
    if (theirs === undefined || theirs.hashFormat !== hashFormat() || theirs.hashAt === '') return;
    this.#comparedVersion = version;
    if (theirs.hashAt === hash) this.#same();
    else this.#different(version, hash, theirs.hashAt);
  }

  #same(): void {
    if (this.#differsAt > 0) this.#options.log.info('the store is the same as the leader’s again');
    this.#differsAt = 0;
    this.#untold = 0;
  }

  #different(version: number, hash: string, leaderHash: string): void {
    const { log, host } = this.#options;
    if (this.#differsAt === 0) this.#differsAt = version;
    if (this.#untold === 0) {
      log.error(differenceText(host(), this.#differsAt), { version, hash, leaderHash });
    }
    this.#untold = (this.#untold + 1) % TOLD_EVERY;
  }
}

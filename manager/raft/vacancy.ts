/**
 * A leader whose process is gone (nobody listens where it did) is not waited for: the members that
 * find it out stand for election within a moment, each after a while of its own so that they do not
 * meet. Time-outs say nothing here, so a loaded machine does not cause it. The pre-vote still asks
 * whether a majority has lost the leader too: where it has not, nothing happens.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { NONE } from './core/types.ts';
import type { Engine } from './engine.ts';

/** The first attempt comes within this; an election takes a few milliseconds of it. */
const SPREAD_MS = 100;
/** After it, the time-outs of the core do. Each waits twice as long as the one before. */
const ATTEMPTS = 4;

export class Vacancy {
  readonly #clock: Pick<Clock, 'afterIdle'>;
  readonly #random: Random;
  readonly #engine: Engine;
  readonly #log: Log;
  #timer: Timer | undefined = undefined;

  constructor(clock: Pick<Clock, 'afterIdle'>, random: Random, engine: Engine, log: Log) {
    this.#clock = clock;
    this.#random = random;
    this.#engine = engine;
    this.#log = log;
  }

  follows(id: number): boolean {
    const { raft } = this.#engine;
    return raft.leader === id && raft.role === 'follower';
  }

  /** That member's process is gone. */
  found(id: number): void {
    if (!this.follows(id)) return;
    this.#log.info('raft: the leader is gone', { leader: id });
    this.#engine.raw.forgetLeader();
    this.#stand(0);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #stand(attempt: number): void {
    this.#timer?.cancel();
    // Never before the answers to the attempt before can have come.
    const leastMs = attempt === 0 ? 0 : SPREAD_MS * 2 ** (attempt - 1);
    this.#timer = this.#clock.afterIdle(leastMs + this.#random.below(SPREAD_MS), () => {
      if (this.#engine.raft.leader !== NONE || attempt === ATTEMPTS) return;
      this.#engine.raw.campaign();
      this.#engine.schedule();
      this.#stand(attempt + 1);
    });
  }
}

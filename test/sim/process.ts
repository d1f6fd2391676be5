/**
 * One run of one member's program in the simulation, from its start to its stop or crash: whom
 * events belong to, and its clock, which may be fast or slow. Knows nothing of Raft.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { Owner, Schedule } from './schedule.ts';

const WALL_START_MS = 1_700_000_000_000;

/** Thrown where a dead process calls out: nothing it still does counts. */
export class DeadProcess extends Error {
  override readonly name = 'DeadProcess';
}

export class SimProcess implements Owner {
  readonly id: number;
  readonly schedule: Schedule;
  readonly clock: SimClock;
  alive = true;
  #pausedUntilMs = 0;
  /** Called after each event of this process. */
  afterEvent: () => void = () => {};
  readonly #onDeath = new Set<() => void>();

  /** Its clock runs `rate` as fast as time does, and shows a wall time `wallOffMs` off. */
  constructor(id: number, schedule: Schedule, rate: number, wallOffMs: number) {
    this.id = id;
    this.schedule = schedule;
    this.clock = new SimClock(this, rate, wallOffMs);
  }

  get pausedUntilMs(): number {
    return this.#pausedUntilMs;
  }

  /** Only ever longer: what was put off until then would be overtaken by what comes. */
  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.schedule.nowMs + ms);
  }

  /** Tells those who depend on it; returns the function that stops listening. */
  onDeath(listener: () => void): () => void {
    this.#onDeath.add(listener);
    return () => this.#onDeath.delete(listener);
  }

  die(): void {
    if (!this.alive) return;
    this.alive = false;
    for (const listener of [...this.#onDeath]) listener();
    this.#onDeath.clear();
  }

  requireAlive(): void {
    if (!this.alive) throw new DeadProcess(`process of ${this.id} is dead`);
  }

  /** Resolves after `delayMs`; never, when the process has died by then. */
  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.schedule.after(delayMs, this, resolve);
    });
  }
}

/** As fast as time, or faster, or slower; what was set before keeps its time. */
export class SimClock implements Clock {
  readonly #process: SimProcess;
  #rate: number;
  /** What it showed when the rate was set, and when that was. */
  #shownMs = 0;
  #sinceMs: number;
  readonly #wallStartMs: number;

  constructor(process: SimProcess, rate: number, wallOffMs: number) {
    this.#process = process;
    this.#rate = rate;
    this.#sinceMs = process.schedule.nowMs;
    this.#wallStartMs = WALL_START_MS + process.schedule.nowMs + wallOffMs;
  }

  nowMs(): number {
    return this.#shownMs + (this.#process.schedule.nowMs - this.#sinceMs) * this.#rate;
  }

  set rate(rate: number) {
    this.#shownMs = this.nowMs();
    this.#sinceMs = this.#process.schedule.nowMs;
    this.#rate = rate;
  }

  wallMs(): number {
    return Math.floor(this.#wallStartMs + this.nowMs());
  }

  after(delayMs: number, callback: () => void): Timer {
    const { schedule } = this.#process;
    const event = schedule.after(delayMs / this.#rate, this.#process, callback);
    return {
      cancel: () => {
        event.cancelled = true;
      },
    };
  }

  afterIdle(delayMs: number, callback: () => void): Timer {
    return this.after(delayMs, callback);
  }

  defer(callback: () => void): void {
    this.#process.schedule.after(0, this.#process, callback);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }
}

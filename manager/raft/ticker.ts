/**
 * The rhythm of a Raft member: one tick every 100 ms, on a fixed grid, but only one a wake-up
 * however late it comes: time that this process slept through says nothing about the others. Such
 * pauses are left out of `activeMs`, in which deadlines count.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { PAUSE_MS, TICK_MS } from './limits.ts';

export class Ticker {
  readonly #clock: Clock;
  readonly #onTick: (pausedMs: number) => void;
  #pausedMs = 0;
  #dueMs = 0;
  #timer: Timer | undefined = undefined;
  #running = false;

  /** `onTick` is told how long this process paused before it; 0 mostly. */
  constructor(clock: Clock, onTick: (pausedMs: number) => void) {
    this.#clock = clock;
    this.#onTick = onTick;
  }

  /** Monotonic milliseconds without this process's own pauses. */
  activeMs(): number {
    return this.#clock.nowMs() - this.#pausedMs;
  }

  start(): void {
    this.#running = true;
    this.#dueMs = this.#clock.nowMs() + TICK_MS;
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  #tick(): void {
    const nowMs = this.#clock.nowMs();
    const lateMs = nowMs - this.#dueMs;
    const pausedMs = lateMs > PAUSE_MS ? lateMs : 0;
    this.#pausedMs += pausedMs;
    this.#onTick(pausedMs);
    if (!this.#running) return;
    const dueMs = this.#dueMs + TICK_MS;
    this.#dueMs = dueMs > nowMs ? dueMs : nowMs + TICK_MS;
    this.#timer = this.#clock.after(this.#dueMs - nowMs, () => this.#tick());
  }
}

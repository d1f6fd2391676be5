/**
 * Time, handed in through constructors. SystemClock is the only production clock; the simulator
 * has its own. Nothing outside base/ reads the time or sets a timer in any other way.
 */
export interface Timer {
  /** Idempotent; after it returns the callback does not run. */
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds (fractions allowed) since an arbitrary start; for durations. */
  nowMs(): number;
  /** Milliseconds since the Unix epoch, whole; may step. For what people read. */
  wallMs(): number;
  /** Runs `callback` once, `delayMs` from now (>= 0). The timer keeps the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Like `after`, but does not keep the process alive. */
  afterIdle(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` soon, once the events that wait by now have been taken in. */
  defer(callback: () => void): void;
  /** Resolves `delayMs` from now. */
  sleep(delayMs: number): Promise<void>;
}

/** Node's timers count to it, and fire at once when they are asked for more. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export class SystemClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, callback: () => void): Timer {
    return startTimer(delayMs, callback, false);
  }

  afterIdle(delayMs: number, callback: () => void): Timer {
    return startTimer(delayMs, callback, true);
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }
}

function startTimer(delayMs: number, callback: () => void, isIdle: boolean): Timer {
  let handle: NodeJS.Timeout;
  const wait = (leftMs: number): void => {
    const more = (): void => wait(leftMs - TIMER_MAX_MS);
    handle = leftMs > TIMER_MAX_MS ? setTimeout(more, TIMER_MAX_MS) : setTimeout(callback, leftMs);
    if (isIdle) handle.unref();
  };
  wait(delayMs);
  return { cancel: () => clearTimeout(handle) };
}

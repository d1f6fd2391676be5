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

export class SystemClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, callback: () => void): Timer {
    const handle = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(handle) };
  }

  afterIdle(delayMs: number, callback: () => void): Timer {
    const handle = setTimeout(callback, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, delayMs));
  }
}

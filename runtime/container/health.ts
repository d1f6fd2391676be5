/**
 * Health of one running container, Docker's way: a probe after every interval, one at a time, and a
 * status that follows from their results. `healthAfter` decides purely; HealthMonitor owns the
 * timer and calls the probe it was given. What follows from a status (events, restarts, balancing)
 * is for others.
 *   starting   no probe has passed yet                    passed -> healthy
 *   healthy    the last probes passed, or failed fewer than `retries` times in a row
 *   unhealthy  `retries` probes failed in a row           passed -> healthy
 * While it starts and the start period lasts, failures do not count.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { SECOND_MS } from '../../base/duration.ts';
import { messageOf } from '../../base/errors.ts';
import type { Container, HealthCheck } from './types.ts';

export type HealthStatus = 'starting' | 'healthy' | 'unhealthy';

export interface HealthResult {
  /** Unix ms. */
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** 0 = passed; -1 = it could not be run or took too long. */
  readonly exitCode: number;
  /** At most OUTPUT_MAX_BYTES of what it wrote. */
  readonly output: string;
}

export interface Health {
  readonly status: HealthStatus;
  readonly failingStreak: number;
  /** The last RESULTS_MAX, oldest first. */
  readonly results: readonly HealthResult[];
}

/** How many results are kept, and how much of each one's output; Docker's figures. */
export const RESULTS_MAX = 5;
export const OUTPUT_MAX_BYTES = 4096;

const DEFAULT_INTERVAL_MS = 30 * SECOND_MS;
const DEFAULT_TIMEOUT_MS = 30 * SECOND_MS;
const DEFAULT_START_INTERVAL_MS = 5 * SECOND_MS;
const DEFAULT_RETRIES = 3;

export const NO_HEALTH: Health = { status: 'starting', failingStreak: 0, results: [] };

/** The check with Docker's defaults for what is 0; undefined when there is nothing to run. */
export function effectiveCheck(check: HealthCheck | undefined): HealthCheck | undefined {
  if (check === undefined || check.test.length < 2 || check.test[0] === 'NONE') return undefined;
  return {
    test: check.test,
    intervalMs: check.intervalMs || DEFAULT_INTERVAL_MS,
    timeoutMs: check.timeoutMs || DEFAULT_TIMEOUT_MS,
    retries: check.retries || DEFAULT_RETRIES,
    startPeriodMs: check.startPeriodMs,
    startIntervalMs: check.startIntervalMs || DEFAULT_START_INTERVAL_MS,
  };
}

/** A check given on top of the image's, field by field, as Docker merges them. */
export function mergeCheck(
  image: HealthCheck | undefined,
  given: HealthCheck | undefined,
): HealthCheck | undefined {
  if (image === undefined || given === undefined) return given ?? image;
  return {
    test: given.test.length > 0 ? given.test : image.test,
    intervalMs: given.intervalMs || image.intervalMs,
    timeoutMs: given.timeoutMs || image.timeoutMs,
    retries: given.retries || image.retries,
    startPeriodMs: given.startPeriodMs || image.startPeriodMs,
    startIntervalMs: given.startIntervalMs || image.startIntervalMs,
  };
}

/** `sinceStartMs`: from the container's start to the probe's. */
export function healthAfter(
  before: Health,
  result: HealthResult,
  check: HealthCheck,
  sinceStartMs: number,
): Health {
  const results = [...before.results, result].slice(-RESULTS_MAX);
  if (result.exitCode === 0) return { status: 'healthy', failingStreak: 0, results };
  const isExcused = before.status === 'starting' && sinceStartMs < check.startPeriodMs;
  const failingStreak = before.failingStreak + (isExcused ? 0 : 1);
  const status = failingStreak >= check.retries ? 'unhealthy' : before.status;
  return { status, failingStreak, results };
}

/** How long to wait for the next probe. */
export function pauseBefore(health: Health, check: HealthCheck, sinceStartMs: number): number {
  const isStarting = health.status === 'starting' && sinceStartMs < check.startPeriodMs;
  return isStarting ? check.startIntervalMs : check.intervalMs;
}

/** The program a check runs; `shell` is the image's, e.g. ['/bin/sh', '-c']. */
export function probeArgs(
  check: HealthCheck,
  shell: readonly string[] = ['/bin/sh', '-c'],
): readonly string[] {
  return check.test[0] === 'CMD-SHELL' ? [...shell, ...check.test.slice(1)] : check.test.slice(1);
}

const known = new WeakMap<Container, Health>();

/** What is known of a container whose checks run here; undefined when none do. */
export function healthOf(container: Container): Health | undefined {
  return known.get(container);
}

/** For those who show it; whoever runs the checks notes each result. */
export function noteHealth(container: Container, health: Health): void {
  known.set(container, health);
}

export interface HealthMonitorOptions {
  readonly clock: Clock;
  /** As `effectiveCheck` gives it. */
  readonly check: HealthCheck;
  /**
   * Runs the check once in the container, ends it when `signal` is aborted, and gives its exit code
   * and output. Rejecting counts as a failed probe.
   */
  readonly exec: (signal: AbortSignal) => Promise<{ exitCode: number; output: string }>;
  /** After every probe; `before` tells whether the status changed. Not called once stopped. */
  readonly onResult: (health: Health, before: Health) => void;
}

/** Probes from `start` to `stop`; neither may be called twice. */
export class HealthMonitor {
  readonly #options: HealthMonitorOptions;
  readonly #stopped = new AbortController();
  #health: Health = NO_HEALTH;
  #startedMs = 0;
  #timer: Timer | undefined;

  constructor(options: HealthMonitorOptions) {
    this.#options = options;
  }

  get health(): Health {
    return this.#health;
  }

  /** `known`: what an earlier daemon found out of a container that runs on. */
  start(known: Health = NO_HEALTH, sinceStartMs = 0): void {
    this.#health = known;
    this.#startedMs = this.#options.clock.nowMs() - sinceStartMs;
    this.#wait();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#stopped.abort();
  }

  get #sinceStartMs(): number {
    return this.#options.clock.nowMs() - this.#startedMs;
  }

  #wait(): void {
    const pauseMs = pauseBefore(this.#health, this.#options.check, this.#sinceStartMs);
    this.#timer = this.#options.clock.afterIdle(pauseMs, () => void this.#probe());
  }

  async #probe(): Promise<void> {
    const { clock, check, onResult } = this.#options;
    const sinceStartMs = this.#sinceStartMs;
    const startedAtMs = clock.wallMs();
    const ran = await this.#run();
    if (this.#stopped.signal.aborted) return;
    const result = { startedAtMs, finishedAtMs: clock.wallMs(), ...ran };
    const before = this.#health;
    this.#health = healthAfter(before, result, check, sinceStartMs);
    onResult(this.#health, before);
    if (!this.#stopped.signal.aborted) this.#wait();
  }

  async #run(): Promise<{ exitCode: number; output: string }> {
    const { clock, check, exec } = this.#options;
    const late = new AbortController();
    const timer = clock.afterIdle(check.timeoutMs, () => late.abort());
    const signal = AbortSignal.any([late.signal, this.#stopped.signal]);
    try {
      const ran = await Promise.race([exec(signal), aborted(signal)]);
      if (ran !== undefined) return { ...ran, output: cut(ran.output) };
      const text = `Health check exceeded timeout (${check.timeoutMs / SECOND_MS}s)`;
      return { exitCode: -1, output: text };
    } catch (error) {
      return { exitCode: -1, output: cut(messageOf(error)) };
    } finally {
      timer.cancel();
    }
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}

function cut(output: string): string {
  const bytes = Buffer.from(output);
  return bytes.length <= OUTPUT_MAX_BYTES
    ? output
    : bytes.subarray(0, OUTPUT_MAX_BYTES).toString('utf8');
}

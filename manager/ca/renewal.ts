/**
 * When a node's certificate is to be renewed, and the loop that does it: at half of its life,
 * jittered so that hosts which joined together do not come together, and again with growing pauses
 * while it fails. It keeps no certificate itself; whoever starts it stores and uses the new one.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { HOUR_MS, MINUTE_MS, SECOND_MS } from '../../base/duration.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { BACKDATE_MS, readCertificate } from './x509.ts';

const RETRY_FIRST_MS = 10 * SECOND_MS;
const RETRY_MOST_MS = 10 * MINUTE_MS;
/** Never sooner after one that succeeded, whatever the clocks here and at the manager say. */
const PAUSE_AFTER_MS = MINUTE_MS;
/** setTimeout counts to 2^31 ms; and a clock that steps is noticed within this. */
const LONGEST_WAIT_MS = HOUR_MS;
const JITTER = 0.1;

/**
 * Unix ms: the middle of the certificate's life since it was made (it is dated back), moved by up
 * to a tenth of that either way. `lifetimeMs`: how long certificates last that are issued now, when
 * that is less.
 */
export function renewAtMs(certificatePem: string, random: Random, lifetimeMs = Infinity): number {
  const { notBeforeMs, notAfterMs } = readCertificate(certificatePem);
  const madeAtMs = notBeforeMs + BACKDATE_MS;
  const lifeMs = Math.min(notAfterMs - madeAtMs, lifetimeMs);
  return Math.round(madeAtMs + lifeMs * (0.5 + JITTER * (random.float() * 2 - 1)));
}

export interface RenewalOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The certificate in use now (PEM). */
  readonly current: () => string;
  /** How long certificates last that are issued now; undefined while not known. */
  readonly lifetimeMs: () => number | undefined;
  /** Gets a new one and puts it to use; rejects when that failed. */
  readonly renew: () => Promise<void>;
}

export class Renewal {
  readonly #options: RenewalOptions;
  #timer: Timer | undefined;
  #retryMs = RETRY_FIRST_MS;
  #stopped = false;
  #dueAtMs = 0;
  #certificate = '';
  #lifetimeMs: number | undefined;
  #isRenewing = false;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#stopped = false;
    this.#check();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** The certificate or how long one lasts may have changed. */
  poke(): void {
    if (this.#isRenewing || this.#timer === undefined) return;
    this.#timer.cancel();
    this.#check();
  }

  #check(): void {
    if (this.#stopped) return;
    const { clock, random, current } = this.#options;
    const certificate = current();
    const lifetimeMs = this.#options.lifetimeMs();
    if (certificate !== this.#certificate || lifetimeMs !== this.#lifetimeMs) {
      this.#certificate = certificate;
      this.#lifetimeMs = lifetimeMs;
      this.#dueAtMs = renewAtMs(certificate, random, lifetimeMs);
    }
    const waitMs = this.#dueAtMs - clock.wallMs();
    if (waitMs > 0) {
      this.#timer = clock.afterIdle(Math.min(waitMs, LONGEST_WAIT_MS), () => this.#check());
      return;
    }
    void this.#renew();
  }

  async #renew(): Promise<void> {
    const { clock, log, renew } = this.#options;
    let pauseMs = PAUSE_AFTER_MS;
    this.#isRenewing = true;
    try {
      await renew();
      this.#retryMs = RETRY_FIRST_MS;
      log.info('certificate renewed');
    } catch (error) {
      pauseMs = this.#retryMs;
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MOST_MS);
      log.warn('certificate renewal failed', { error: messageOf(error), retryInMs: pauseMs });
    }
    this.#isRenewing = false;
    if (!this.#stopped) this.#timer = clock.afterIdle(pauseMs, () => this.#check());
  }
}

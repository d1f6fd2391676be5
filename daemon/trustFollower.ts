/**
 * Makes this node's credentials what the leader says they should be while the cluster's root
 * certificate is being changed: trusts what it is told to trust, and takes a new certificate when
 * another key should have signed its own. One step at a time; a failed one is tried again. How a
 * step is done is the caller's.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { isTrusted, tlsOf, trustDigest } from '../manager/ca/trust.ts';
import { sameValue } from '../model/equal.ts';
import type { NodeCredentials } from '../proto/credentials.ts';

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30_000;

/** What the leader told last. */
export interface WantedTrust {
  /** PEM; '' = not told. */
  readonly rootCaCertificate: string;
  /** '' = whoever did. */
  readonly wantedIssuer: string;
}

export interface TrustFollowerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly current: () => NodeCredentials;
  /** Trusts these roots from now on. */
  readonly adopt: (roots: string) => Promise<void>;
  readonly renew: () => Promise<void>;
}

export class TrustFollower {
  readonly #options: TrustFollowerOptions;
  #wanted: WantedTrust = { rootCaCertificate: '', wantedIssuer: '' };
  #isBusy = false;
  #isStopped = false;
  #timer: Timer | undefined;
  #retryMs = RETRY_FIRST_MS;

  constructor(options: TrustFollowerOptions) {
    this.#options = options;
  }

  follow(wanted: WantedTrust): void {
    this.#wanted = wanted;
    if (this.#isBusy) return;
    this.#timer?.cancel();
    void this.#run();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options;
    this.#isBusy = true;
    try {
      for (;;) {
        if (this.#isStopped) return;
        const step = this.#next();
        if (step === undefined) break;
        const before = tlsOf(this.#options.current());
        await step();
        if (sameValue(tlsOf(this.#options.current()), before)) {
          throw new SwarmError('unavailable', 'the managers have not changed over yet');
        }
        this.#retryMs = RETRY_FIRST_MS;
      }
    } catch (error) {
      log.warn('credentials are not what they should be yet', { error: messageOf(error) });
      this.#timer = clock.afterIdle(this.#retryMs, () => void this.#run());
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MOST_MS);
    } finally {
      this.#isBusy = false;
    }
  }

  #next(): (() => Promise<void>) | undefined {
    const { current, adopt, renew } = this.#options;
    const { rootCaCertificate: roots, wantedIssuer } = this.#wanted;
    if (roots === '') return undefined;
    const credentials = current();
    const { issuer, trust } = tlsOf(credentials);
    if (trustDigest(roots) !== trust) {
      // What it would no longer be trusted with is replaced before the roots are.
      return isTrusted(credentials.certificate, roots) ? () => adopt(roots) : renew;
    }
    return wantedIssuer === '' || wantedIssuer === issuer ? undefined : renew;
  }
}

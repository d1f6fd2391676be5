/**
 * Unused images of this host go by themselves, where its daemon was told a bound on their size or
 * on how long they may lie unused: looked at now and then, and the image store decides.
 */
import { parseBytes } from '../base/bytes.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { MINUTE_MS, parseDuration, SECOND_MS } from '../base/duration.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { REST_MS } from '../runtime/image/garbage.ts';
import type { GarbagePolicy, ImageStore } from '../runtime/image/types.ts';

const LOOK_MS = 10 * MINUTE_MS;
const LOOK_LEAST_MS = SECOND_MS;

export class ImageGarbage {
  readonly #images: Pick<ImageStore, 'collect'>;
  readonly #policy: GarbagePolicy;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #everyMs: number;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(images: Pick<ImageStore, 'collect'>, policy: GarbagePolicy, clock: Clock, log: Log) {
    const ageMs = policy.maxUnusedMs ?? Number.POSITIVE_INFINITY;
    this.#images = images;
    // Who wants them gone sooner than they would rest has said so.
    this.#policy = { restMs: Math.min(REST_MS, ageMs), ...policy };
    this.#clock = clock;
    this.#log = log;
    this.#everyMs = Math.max(LOOK_LEAST_MS, Math.min(LOOK_MS, ageMs / 2));
  }

  start(): void {
    const { maxBytes, maxUnusedMs } = this.#policy;
    if (maxBytes === undefined && maxUnusedMs === undefined) return;
    this.#timer = this.#clock.afterIdle(this.#everyMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    try {
      const { removed, reclaimedBytes } = await this.#images.collect(this.#policy);
      if (removed.length > 0) this.#log.info('unused images removed', { removed, reclaimedBytes });
    } catch (error) {
      // Nothing is lost by it: the next look tries again.
      this.#log.warn('unused images could not be removed', { error: messageOf(error) });
    }
    if (!this.#isClosed) this.start();
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }
}

/** SwarmError invalid. Texts are '' where nothing was said. */
export function garbagePolicy(size: string, age: string): GarbagePolicy {
  return {
    ...(size === '' ? {} : { maxBytes: parseBytes(size) }),
    ...(age === '' ? {} : { maxUnusedMs: parseDuration(age) }),
  };
}

/**
 * What happens to this host's own objects (containers, images, volumes, networks), as Docker's
 * events: told to whoever listens, and kept in a bounded ring for those who ask for the past. A
 * listener that falls behind the ring loses the oldest, as with Docker.
 */
import type { Clock } from '../../base/clock.ts';
import { Signal } from '../../base/queue.ts';

export type LocalEventType = 'container' | 'image' | 'volume' | 'network' | 'daemon';

export interface LocalEvent {
  readonly type: LocalEventType;
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Unix ms. */
  readonly atMs: number;
  /** Nanoseconds within it, so that times of events differ and keep their order. */
  readonly extraNs: number;
}

const RING_EVENTS = 1024;

export class LocalEvents {
  readonly #clock: Clock;
  readonly #ring: LocalEvent[] = [];
  readonly #signal = new Signal<LocalEvent>();
  #extraNs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  emit(
    type: LocalEventType,
    action: string,
    id: string,
    attributes: Readonly<Record<string, string>> = {},
  ): void {
    const atMs = this.#clock.wallMs();
    this.#extraNs = atMs === this.#ring.at(-1)?.atMs ? this.#extraNs + 1 : 0;
    const event = { type, action, id, attributes, atMs, extraNs: this.#extraNs };
    this.#ring.push(event);
    if (this.#ring.length > RING_EVENTS) this.#ring.shift();
    this.#signal.emit(event);
  }

  past(): readonly LocalEvent[] {
    return [...this.#ring];
  }

  listen(listener: (event: LocalEvent) => void): () => void {
    return this.#signal.listen(listener);
  }
}

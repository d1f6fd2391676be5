/**
 * Messages of a leader that only tell how far the log is committed. The next entries often follow
 * within a moment and tell it too, so such a message waits that long, unless its receiver is known
 * to wait for it: half of all messages, and their answers, are not sent at all. Holds at most one a
 * member; decides nothing else.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { Message } from './core/types.ts';

/** More than a client takes that writes one thing after another; nobody waits for it (tell). */
const HOLD_MS = 5;

export class CommitNews {
  readonly #clock: Pick<Clock, 'afterIdle'>;
  readonly #send: (message: Message) => void;
  /** By receiver. */
  readonly #held = new Map<number, Message>();
  #timer: Timer | undefined = undefined;

  constructor(clock: Pick<Clock, 'afterIdle'>, send: (message: Message) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** Whether `message` waits here now; otherwise it is to be sent. */
  takes(message: Message): boolean {
    if (message.type !== 'append') return false;
    const isNewsOnly = message.entries.length === 0;
    // A later append is of no lower term and commit index.
    if (isNewsOnly) this.#held.set(message.to, message);
    else this.#held.delete(message.to);
    if (isNewsOnly) this.#timer ??= this.#clock.afterIdle(HOLD_MS, () => this.tellAll());
    else if (this.#held.size === 0) this.stop();
    return isNewsOnly;
  }

  /** What is held for this member goes now. */
  tell(to: number): void {
    const message = this.#held.get(to);
    if (message === undefined) return;
    this.#held.delete(to);
    if (this.#held.size === 0) this.stop();
    this.#send(message);
  }

  /** Everything that is held goes now. */
  tellAll(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const all = [...this.#held.values()];
    this.#held.clear();
    for (const message of all) this.#send(message);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#held.clear();
  }
}

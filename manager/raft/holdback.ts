/**
 * Messages of a leader that may wait a moment, and then go together: those that only tell how far
 * the log is committed, as the next entries tell it too, and entries and questions for members
 * whose answer is not needed, as a majority without them is asked at once ("thrifty" in the Paxos
 * literature, Moraru et al. 2013). A member more costs every write a message, a sync and their
 * wake-ups, and while writes follow each other it now costs them once every few writes. Who is
 * asked at once stays the same until one of them is silent for that moment: then the others have
 * their turn. Order is kept for each member. Decides nothing else; knows no log and no quorum.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { entriesBytes, type Message } from './core/types.ts';
import { MAX_MESSAGE_BYTES } from './limits.ts';

/** More than a client takes that writes one thing after another, less than a slow disk's sync. */
const HOLD_MS = 5;

export interface HoldbackHost {
  readonly clock: Pick<Clock, 'afterIdle'>;
  send(message: Message): void;
  /** Members that can make up a majority with this one, and how many of them it takes. */
  quorum(): { readonly able: readonly number[]; readonly needed: number };
}

export class Holdback {
  readonly #host: HoldbackHost;
  /** By receiver, in order. */
  readonly #held = new Map<number, Message[]>();
  /** Whose answers came late, the latest last: they are asked after all others. */
  #late: number[] = [];
  /** Heard from since the timer was set. */
  readonly #heard = new Set<number>();
  #timer: Timer | undefined = undefined;

  constructor(host: HoldbackHost) {
    this.#host = host;
  }

  /** Whether `message` waits here now; otherwise it is to be sent. */
  takes(message: Message): boolean {
    const { type, to, entries, context } = message;
    if (type === 'heartbeat') {
      const waits = context.length > 0 && this.#isSpare(to);
      // Its answer answers all that was asked before; a heartbeat may pass entries.
      if (waits) this.#hold(message, (held) => held.type !== 'heartbeat');
      return waits;
    }
    if (type !== 'append') {
      this.tell(to);
      return false;
    }
    // A later append is of no lower term and commit index.
    const isNoNews = (held: Message): boolean => held.type !== 'append' || held.entries.length > 0;
    if (entries.length === 0 || this.#isSpare(to)) {
      this.#hold(message, isNoNews);
      return true;
    }
    const held = this.#held.get(to)?.filter(isNoNews) ?? [];
    this.#release(to);
    for (const earlier of held) this.#host.send(earlier);
    return false;
  }

  /** In place of those held for the same receiver that do not `stay`. */
  #hold(message: Message, stay: (held: Message) => boolean): void {
    const held = this.#held.get(message.to)?.filter(stay) ?? [];
    const last = held.at(-1);
    const joined = last === undefined ? undefined : join(last, message);
    if (joined === undefined) held.push(message);
    else held[held.length - 1] = joined;
    this.#held.set(message.to, held);
    if (this.#timer !== undefined) return;
    this.#heard.clear();
    this.#timer = this.#host.clock.afterIdle(HOLD_MS, () => this.#due());
  }

  #isSpare(id: number): boolean {
    const { able, needed } = this.#host.quorum();
    return this.#inTurn(able).indexOf(id) >= needed;
  }

  /** In the order in which they are asked. */
  #inTurn(able: readonly number[]): readonly number[] {
    const late = this.#late.filter((id) => able.includes(id));
    return [...able.filter((id) => !late.includes(id)), ...late];
  }

  /** A message of this member came. */
  heard(from: number): void {
    if (this.#timer !== undefined) this.#heard.add(from);
  }

  #due(): void {
    const isAwaited = [...this.#held.values()].flat().some(isQuestion);
    if (isAwaited) {
      const { able, needed } = this.#host.quorum();
      const asked = this.#inTurn(able).slice(0, needed);
      const silent = asked.filter((id) => !this.#heard.has(id));
      this.#late = [...this.#late.filter((id) => !silent.includes(id)), ...silent];
    }
    this.tellAll();
  }

  /** What is held for this member goes now. */
  tell(to: number): void {
    const held = this.#held.get(to);
    if (held === undefined) return;
    this.#release(to);
    for (const message of held) this.#host.send(message);
  }

  #release(to: number): void {
    this.#held.delete(to);
    if (this.#held.size === 0) this.stop();
  }

  /** Everything that is held goes now. */
  tellAll(): void {
    for (const to of [...this.#held.keys()]) this.tell(to);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#held.clear();
  }
}

/** Its answer may be what a majority waits for. */
function isQuestion(message: Message): boolean {
  return message.type === 'heartbeat' || message.entries.length > 0;
}

/** Two appends as one; undefined where the second does not follow on the first. */
function join(first: Message, second: Message): Message | undefined {
  if (first.type !== 'append' || second.type !== 'append' || first.term !== second.term) {
    return undefined;
  }
  if (second.index !== first.index + first.entries.length) return undefined;
  const bytes = entriesBytes(first.entries) + entriesBytes(second.entries);
  if (bytes > MAX_MESSAGE_BYTES) return undefined;
  return { ...first, entries: [...first.entries, ...second.entries], commit: second.commit };
}

/**
 * Whether a history of concurrent operations is linearizable: Wing and Gong's search in Lowe's form
 * (memory of what was seen, a list that operations are taken from and put back into), one object at
 * a time, since linearizability is local. An operation whose outcome is unknown may take effect at
 * any moment after its call, or never. Bounded in steps; pure: no clock and no input or output.
 */

/** Of an operation that nobody knows the end of. */
export const NEVER = Number.POSITIVE_INFINITY;

export interface Operation<In, Out> {
  /** The object it is about; objects are independent of each other. */
  readonly key: string;
  /** Moments in one total order: calls and returns have different ones. */
  readonly calledAt: number;
  /** NEVER while the outcome is unknown. */
  readonly returnedAt: number;
  readonly input: In;
  /** Undefined while the outcome is unknown. */
  readonly output: Out | undefined;
}

/** A sequential object. States are compared by ===: words or numbers. */
export interface Model<State extends string | number, In, Out> {
  readonly initial: State;
  /**
   * The state after an operation that answers `output`; undefined where it cannot answer so in
   * this state. Without `output`: the state once it has taken effect, undefined where it has none.
   */
  step(state: State, input: In, output: Out | undefined): State | undefined;
  /** Whether an operation with this answer leaves every state as it is. */
  isIdle(input: In, output: Out | undefined): boolean;
  /**
   * Whether an operation of unknown outcome can have no effect any more, as the state it needs has
   * been and never comes back. Without this the search tries the same again for each of them.
   */
  isOver?(state: State, input: In, hasBeen: (state: State) => boolean): boolean;
}

export type Verdict<In, Out> =
  | { readonly kind: 'linearizable' }
  | {
      readonly kind: 'violation';
      readonly key: string;
      /** The longest order found, and the operation that has no place after it. */
      readonly order: readonly Operation<In, Out>[];
      readonly stuck: Operation<In, Out>;
    }
  /** The search was given up after so many steps. */
  | { readonly kind: 'undecided'; readonly key: string };

/** Of one key; a history as clients make it takes a few steps an operation. */
const DEFAULT_MAX_STEPS = 20_000_000;

export function checkLinearizable<State extends string | number, In, Out>(
  model: Model<State, In, Out>,
  history: readonly Operation<In, Out>[],
  maxSteps = DEFAULT_MAX_STEPS,
): Verdict<In, Out> {
  for (const [key, operations] of byKey(history)) {
    const verdict = new Search(model, key, operations).run(maxSteps);
    if (verdict.kind !== 'linearizable') return verdict;
  }
  return { kind: 'linearizable' };
}

export function byKey<Each extends { readonly key: string }>(
  history: readonly Each[],
): Map<string, Each[]> {
  const found = new Map<string, Each[]>();
  for (const operation of history) {
    const same = found.get(operation.key);
    if (same === undefined) found.set(operation.key, [operation]);
    else same.push(operation);
  }
  return found;
}

/** A call or a return in the list, in the order of time. */
interface Entry<In, Out> {
  readonly operation: Operation<In, Out>;
  readonly at: number;
  /** Of a call, its return. Of a return, undefined. */
  readonly end: Entry<In, Out> | undefined;
  /** Place of the operation in the set of those that were given theirs. */
  readonly index: number;
  previous: Entry<In, Out> | undefined;
  next: Entry<In, Out> | undefined;
}

/** An operation that was given its place, and where the search goes on if that was wrong. */
interface Step<State, In, Out> {
  readonly operation: Operation<In, Out>;
  readonly before: State;
  readonly after: State;
  /** Its call; undefined of one whose outcome is unknown. */
  readonly entry: Entry<In, Out> | undefined;
  /** Place in the list of those whose outcome is unknown. */
  readonly maybe: number;
}

/**
 * Those that returned are tried first, then those whose outcome is unknown: what fails with some of
 * the latter placed fails all the more with others placed besides, so that need not be tried.
 */
class Search<State extends string | number, In, Out> {
  readonly #model: Model<State, In, Out>;
  readonly #key: string;
  readonly #head: Entry<In, Out>;
  readonly #seen = new Seen<State>();
  readonly #placed: PlacedSet;
  /** Whose outcome is unknown, by the time of the call; which of them were placed. */
  readonly #maybes: readonly Operation<In, Out>[];
  readonly #placedMaybes: PlacedSet;
  /** How often each state has been on the way to the present one. */
  readonly #been = new Map<State, number>();
  readonly #steps: Step<State, In, Out>[] = [];
  /** Returns that are still in the list. */
  #open = 0;

  constructor(
    model: Model<State, In, Out>,
    key: string,
    operations: readonly Operation<In, Out>[],
  ) {
    this.#model = model;
    this.#key = key;
    const known = operations.filter(({ returnedAt }) => returnedAt !== NEVER);
    const byCall = (left: Operation<In, Out>, right: Operation<In, Out>): number =>
      left.calledAt - right.calledAt;
    this.#maybes = operations.filter(({ returnedAt }) => returnedAt === NEVER).sort(byCall);
    this.#placed = new PlacedSet(known.length);
    this.#placedMaybes = new PlacedSet(this.#maybes.length);
    const links = { previous: undefined, next: undefined };
    const entries = known.flatMap((operation, index): Entry<In, Out>[] => {
      const { calledAt, returnedAt } = operation;
      const end = { ...links, operation, index, at: returnedAt, end: undefined };
      return [{ ...links, operation, index, at: calledAt, end }, end];
    });
    entries.sort((left, right) => left.at - right.at);
    this.#head = { ...links, operation: operations[0], at: -1, index: -1, end: undefined };
    let last = this.#head;
    for (const entry of entries) {
      entry.previous = last;
      last.next = entry;
      last = entry;
    }
    this.#open = known.length;
  }

  run(maxSteps: number): Verdict<In, Out> {
    let state = this.#model.initial;
    let entry = this.#head.next;
    let maybe = 0;
    let best: Operation<In, Out>[] = [];
    let stuck: Operation<In, Out> = this.#head.operation;
    for (let steps = 0; this.#open > 0; steps += 1) {
      if (steps >= maxSteps) return { kind: 'undecided', key: this.#key };
      if (entry === undefined) throw new Error('a return is in the list');
      if (entry.end !== undefined) {
        const after = this.#tried(this.#placed, entry.index, state, entry.operation);
        if (after === undefined) {
          entry = entry.next;
          continue;
        }
        this.#steps.push({ operation: entry.operation, before: state, after, entry, maybe: 0 });
        state = after;
        this.#take(entry, entry.end);
        entry = this.#head.next;
        maybe = 0;
        continue;
      }
      // It has returned: before anything else it must be placed, after one of the unknown or never.
      const operation = this.#maybes[maybe];
      if (operation !== undefined && operation.calledAt < entry.at) {
        const after = this.#tried(this.#placedMaybes, maybe, state, operation);
        if (after === undefined) {
          maybe += 1;
          continue;
        }
        this.#steps.push({ operation, before: state, after, entry: undefined, maybe });
        state = after;
        entry = this.#head.next;
        maybe = 0;
        continue;
      }
      if (this.#steps.length >= best.length) {
        best = this.#steps.map((step) => step.operation);
        stuck = entry.operation;
      }
      const last = this.#back();
      if (last === undefined) return { kind: 'violation', key: this.#key, order: best, stuck };
      state = last.before;
      entry = last.entry?.next ?? this.#firstReturn();
      maybe = last.entry === undefined ? last.maybe + 1 : 0;
    }
    return { kind: 'linearizable' };
  }

  /**
   * Takes back the last step that may have been wrong. One that never changes anything is not: in
   * any order that goes on from there, it can be moved to where it was.
   */
  #back(): Step<State, In, Out> | undefined {
    for (;;) {
      const last = this.#steps.pop();
      if (last === undefined) return undefined;
      this.#count(last.after, -1);
      if (last.entry === undefined) this.#placedMaybes.remove(last.maybe);
      else this.#putBack(last.entry);
      const { input, output } = last.operation;
      if (!this.#model.isIdle(input, output)) return last;
    }
  }

  /** The state after it; undefined where it cannot be next, or is known to lead nowhere. */
  #tried(
    set: PlacedSet,
    index: number,
    state: State,
    { input, output }: Operation<In, Out>,
  ): State | undefined {
    if (set.has(index)) return undefined;
    const after = this.#model.step(state, input, output);
    if (after === undefined) return undefined;
    set.add(index);
    this.#count(after, 1);
    if (this.#seen.add(this.#placed, this.#gone(after), after)) return after;
    this.#count(after, -1);
    set.remove(index);
    return undefined;
  }

  #count(state: State, change: number): void {
    this.#been.set(state, (this.#been.get(state) ?? 0) + change);
  }

  /** Of the unknown, those that were placed and those that cannot be any more: it is the same. */
  #gone(state: State): Uint32Array {
    const { isOver } = this.#model;
    const gone = this.#placedMaybes.words.slice();
    if (isOver === undefined) return gone;
    const hasBeen = (wanted: State): boolean => (this.#been.get(wanted) ?? 0) > 0;
    for (const [at, { input }] of this.#maybes.entries()) {
      if (isOver(state, input, hasBeen)) gone[at >>> 5] |= 1 << (at & 31);
    }
    return gone;
  }

  #firstReturn(): Entry<In, Out> | undefined {
    let entry = this.#head.next;
    while (entry?.end !== undefined) entry = entry.next;
    return entry;
  }

  #take(entry: Entry<In, Out>, end: Entry<In, Out>): void {
    unlink(entry);
    unlink(end);
    this.#open -= 1;
  }

  #putBack(entry: Entry<In, Out>): void {
    this.#placed.remove(entry.index);
    if (entry.end !== undefined) link(entry.end);
    link(entry);
    this.#open += 1;
  }
}

function unlink<In, Out>(entry: Entry<In, Out>): void {
  if (entry.previous !== undefined) entry.previous.next = entry.next;
  if (entry.next !== undefined) entry.next.previous = entry.previous;
}

/** Its neighbours are those it had: entries are put back in the reverse order of taking. */
function link<In, Out>(entry: Entry<In, Out>): void {
  if (entry.previous !== undefined) entry.previous.next = entry;
  if (entry.next !== undefined) entry.next.previous = entry;
}

const WORD_BITS = 32;

/** Operations that were given their places, as bits. */
class PlacedSet {
  readonly words: Uint32Array;
  /** Changes with each bit by a number of its own. */
  hash = 0;

  constructor(size: number) {
    this.words = new Uint32Array(Math.ceil(size / WORD_BITS));
  }

  has(index: number): boolean {
    return (this.words[index >>> 5] & (1 << (index & 31))) !== 0;
  }

  add(index: number): void {
    this.words[index >>> 5] |= 1 << (index & 31);
    this.hash ^= scattered(index);
  }

  remove(index: number): void {
    this.words[index >>> 5] &= ~(1 << (index & 31));
    this.hash ^= scattered(index);
  }
}

/** murmur3's finalizer. */
function scattered(index: number): number {
  let mixed = index + 1;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** What was ever reached: who was placed, who of the unknown, and the state. Exact. */
class Seen<State> {
  readonly #found = new Map<
    number,
    { readonly words: Uint32Array; readonly state: State; readonly gone: Uint32Array[] }[]
  >();

  /** False where it was there already, or with fewer of the unknown gone. */
  add(placed: PlacedSet, gone: Uint32Array, state: State): boolean {
    const alike = this.#found.get(placed.hash) ?? [];
    const same = alike.find((each) => each.state === state && equal(each.words, placed.words));
    if (same?.gone.some((fewer) => isWithin(fewer, gone))) return false;
    if (same !== undefined) {
      same.gone.push(gone);
      return true;
    }
    alike.push({ words: placed.words.slice(), state, gone: [gone] });
    this.#found.set(placed.hash, alike);
    return true;
  }
}

function equal(left: Uint32Array, right: Uint32Array): boolean {
  return left.every((word, at) => word === right[at]);
}

function isWithin(part: Uint32Array, whole: Uint32Array): boolean {
  return part.every((word, at) => (word & ~whole[at]) === 0);
}

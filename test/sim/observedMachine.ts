/**
 * A replica as Raft's state machine, watched: each entry applied must be the committed one, once
 * and in order; what comes of it must be what the oracle says; and at the same version every
 * member's store must have the same hash.
 */
import type { AppliedEntry, Member, StateMachine } from '../../manager/raft/types.ts';
import type { Replica } from '../../manager/replica.ts';
import type { StoreWatch } from '../../manager/store/types.ts';
import { outcomeOf, sameOutcome } from './oracle.ts';
import { check } from './violation.ts';
import type { World } from './world.ts';

/** Hashing reads everything, so only some versions are compared. */
const HASH_EVERY = 32;
const ALL = Number.MAX_SAFE_INTEGER;

export class ObservedMachine implements StateMachine {
  readonly #world: World;
  readonly #id: number;
  readonly #replica: Replica;
  readonly #beforeApply: () => void;
  #watch: StoreWatch;
  #applied = 0;
  members: readonly Member[] = [];

  constructor(world: World, id: number, replica: Replica, beforeApply: () => void) {
    this.#world = world;
    this.#id = id;
    this.#replica = replica;
    this.#beforeApply = beforeApply;
    this.#watch = replica.store.watch();
  }

  apply(entries: readonly AppliedEntry[]): void {
    const { ledger } = this.#world;
    this.#beforeApply();
    for (const entry of entries) {
      const { index, term, data } = entry;
      check(index > this.#applied, 'applied twice', () => `member ${this.#id}: ${index}`);
      this.#checkSkipped(index);
      const committed = ledger.committed[index];
      const same =
        committed !== undefined &&
        committed.term === term &&
        Buffer.compare(committed.data, data) === 0;
      check(same, 'state machine safety', () => `member ${this.#id} applies another ${index}`);
      this.#applied = index;
      this.#replica.apply([entry]);
      this.#checkEvents(index);
      if (index % HASH_EVERY === 0) this.checkHash();
    }
  }

  /** Only what carries nothing for the store may be left out. */
  #checkSkipped(index: number): void {
    for (let at = this.#applied + 1; at < index; at += 1) {
      const entry = this.#world.ledger.committed[at];
      const carries = entry === undefined || (entry.type === 'normal' && entry.data.length > 0);
      check(!carries, 'left out', () => `member ${this.#id}: entry ${at} was not applied`);
    }
  }

  #checkEvents(index: number): void {
    const expected = this.#world.oracle.eventsAt(index);
    const events = this.#watch.take(ALL).map(outcomeOf);
    const same =
      events.length === expected.length &&
      events.every((event, at) => sameOutcome(event, expected[at]));
    check(same, 'store', () =>
      [`member ${this.#id} at ${index}:`, JSON.stringify([events, expected])].join(' '),
    );
  }

  checkHash(): void {
    const { hashes } = this.#world;
    const { store } = this.#replica;
    const hash = store.hash();
    const known = hashes.get(store.version);
    if (known === undefined) hashes.set(store.version, hash);
    else check(known === hash, 'store hash', `member ${this.#id} at version ${store.version}`);
  }

  takeSnapshot(): ReturnType<StateMachine['takeSnapshot']> {
    return this.#replica.takeSnapshot();
  }

  async restore(index: number, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    await this.#replica.restore(index, chunks);
    this.#watch.close();
    this.#watch = this.#replica.store.watch();
    this.#applied = index;
    if (index % HASH_EVERY === 0) this.checkHash();
    this.#checkContents();
  }

  /** Every record is what the oracle has at this version. */
  #checkContents(): void {
    const { store } = this.#replica;
    for (const { id, version } of store.all('config')) {
      const expected = this.#world.oracle.at(id, store.version);
      check(expected?.version === version, 'restored', `member ${this.#id}: ${id} at ${version}`);
    }
  }

  membersChanged(members: readonly Member[]): void {
    this.members = members;
  }
}

/**
 * Who the members are, where they listen, and which ids were removed for good. Addresses travel in
 * the context of configuration changes and rest in snapshots. A table is changed only by applying
 * committed changes, so it is the same everywhere at the same index.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  type ConfChange,
  type ConfState,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  NONE,
} from './core/types.ts';
import type { Member, MemberAddress } from './types.ts';

/** Removed ids remembered; ids are random, so a forgotten one does not come back by chance. */
const MAX_REMOVED = 10_000;

/**
 * Ids are given out upwards. A group that goes on from one member, which may not know of all the
 * others, takes out the next multiple of this too, and goes on above it: whoever has an id below
 * and is no member belongs to the group as it was, also one that was never heard of.
 */
const GENERATION_IDS = 2 ** 20;

/** The id to take out, for a group that goes on from where these were given out. */
export function generationAbove(ids: Iterable<number>): number {
  const highest = Math.max(0, ...ids);
  return (Math.floor(highest / GENERATION_IDS) + 1) * GENERATION_IDS;
}

/**
 * What follows each change of members, and changes nothing: who proposes it has applied the change,
 * so whoever has it in its log knows for good that the change is committed (its commit index came
 * with it, in the same write). Once it is committed a quorum of the members as they are now knows,
 * and the change is settled: whichever minority is lost, and whatever the others forget, who holds
 * the most of them is one that knows.
 */
export const SETTLEMENT: ConfChange = {
  transition: 'auto',
  changes: [{ type: 'update', id: NONE }],
  context: EMPTY_BYTES,
};

export function isSettlement({ changes }: ConfChange): boolean {
  return changes.length === 1 && changes[0].type === 'update' && changes[0].id === NONE;
}

interface SavedTable {
  members: MemberAddress[];
  removed: number[];
  /** Those that the last change took out, if that is not settled. */
  unsettled?: number[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeAddresses(members: readonly MemberAddress[]): Uint8Array {
  if (members.length === 0) return EMPTY_BYTES;
  return encoder.encode(JSON.stringify(members.map(({ id, address }) => ({ id, address }))));
}

/** A whole table as snapshots carry it. */
export function encodeTable(
  members: readonly MemberAddress[],
  removed: readonly number[],
  unsettled?: readonly number[],
): Uint8Array {
  const saved: SavedTable = {
    members: members.map(({ id, address }) => ({ id, address })),
    removed: [...removed],
    ...(unsettled === undefined ? {} : { unsettled: [...unsettled] }),
  };
  return encoder.encode(JSON.stringify(saved));
}

function decodeAddresses(context: Uint8Array): MemberAddress[] {
  if (context.length === 0) return [];
  return JSON.parse(decoder.decode(context)) as MemberAddress[];
}

export class MemberTable {
  #addresses = new Map<number, string>();
  readonly #removed = new Set<number>();
  /** Of these: those whose removal the members could forget yet, and need them again. */
  readonly #unsettled = new Set<number>();
  #isSettled = true;
  /** The highest of the removed that began a generation; 0 = there was but one. */
  #generation = 0;
  #confState: ConfState = EMPTY_CONF_STATE;

  get confState(): ConfState {
    return this.#confState;
  }

  address(id: number): string | undefined {
    return this.#addresses.get(id);
  }

  wasRemoved(id: number): boolean {
    return this.#removed.has(id) || this.#isOfBefore(id);
  }

  #isOfBefore(id: number): boolean {
    return id < this.#generation && !idsOf(this.#confState).has(id);
  }

  /** False: the members could forget the last change yet, should their hosts crash. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Removed, and the members will not forget it: the removed one may be told, and leave. */
  isGone(id: number): boolean {
    if (this.#unsettled.has(id)) return false;
    if (this.#removed.has(id)) return true;
    return this.#isOfBefore(id) && !this.#unsettled.has(this.#generation);
  }

  removed(): readonly number[] {
    return [...this.#removed];
  }

  isVoter(id: number): boolean {
    return this.#confState.voters.includes(id) || this.#confState.votersOutgoing.includes(id);
  }

  /** Sorted by id. In a joint configuration: the members of either half. */
  members(): Member[] {
    const voters = new Set([...this.#confState.voters, ...this.#confState.votersOutgoing]);
    const ids = new Set([...voters, ...this.#confState.learners]);
    return [...ids]
      .sort((left, right) => left - right)
      .map((id) => ({ id, address: this.#addresses.get(id) ?? '', learner: !voters.has(id) }));
  }

  /** The change with additions of removed ids struck out, as they are on every member. */
  admissible(change: ConfChange): ConfChange {
    const changes = change.changes.map((step) =>
      step.type !== 'remove' && this.#removed.has(step.id) ? { ...step, id: 0 } : step,
    );
    return { ...change, changes };
  }

  /**
   * Notes an applied change and the configuration that came of it. In a joint configuration who is
   * to leave still counts. A change is proposed by one who has applied those before it: they are
   * settled by it as by a settlement.
   */
  applied(change: ConfChange, confState: ConfState): void {
    for (const { id, address } of decodeAddresses(change.context)) {
      if (!this.#removed.has(id)) this.#addresses.set(id, address);
    }
    this.#isSettled = isSettlement(change);
    this.#unsettled.clear();
    const now = idsOf(confState);
    const gone = [...idsOf(this.#confState)].filter((id) => !now.has(id));
    for (const id of gone) {
      this.#remove(id);
      this.#unsettled.add(id);
    }
    for (const id of this.#removed) {
      if (this.#removed.size <= MAX_REMOVED) break;
      this.#removed.delete(id);
    }
    this.#setConfState(confState);
  }

  #remove(id: number): void {
    this.#removed.add(id);
    if (id % GENERATION_IDS === 0) this.#generation = Math.max(this.#generation, id);
  }

  #setConfState(confState: ConfState): void {
    this.#confState = confState;
    const ids = idsOf(confState);
    for (const id of this.#addresses.keys()) if (!ids.has(id)) this.#addresses.delete(id);
  }

  /** For a snapshot's metadata. */
  encode(): Uint8Array {
    const members = [...this.#addresses].map(([id, address]) => ({ id, address }));
    const unsettled = this.#isSettled ? undefined : [...this.#unsettled];
    return encodeTable(members, [...this.#removed], unsettled);
  }

  /** Takes the place of the table; SwarmError corrupt when the bytes are none. */
  restore(data: Uint8Array, confState: ConfState): void {
    let saved: SavedTable;
    try {
      saved = JSON.parse(decoder.decode(data)) as SavedTable;
      this.#addresses = new Map(saved.members.map(({ id, address }) => [id, address]));
      this.#removed.clear();
      this.#generation = 0;
      for (const id of saved.removed) this.#remove(id);
      this.#unsettled.clear();
      for (const id of saved.unsettled ?? []) this.#unsettled.add(id);
      this.#isSettled = saved.unsettled === undefined;
    } catch (cause) {
      throw new SwarmError('corrupt', 'the snapshot holds no list of members', { cause });
    }
    this.#setConfState(confState);
  }
}

function idsOf({ voters, votersOutgoing, learners, learnersNext }: ConfState): Set<number> {
  return new Set([...voters, ...votersOutgoing, ...learners, ...learnersNext]);
}

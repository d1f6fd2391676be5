/**
 * What the committed entries make of the store, worked out a second time in the plainest way for
 * the one kind of record that the simulation's clients write: which changes are refused, which
 * events watchers must see, and what a read of a key must show at a version. Every write carries a
 * serial that no other has, so a write that is lost, doubled or made up shows.
 */
import type { Entry } from '../../manager/raft/core/types.ts';
import type { StoreEvent } from '../../manager/store/types.ts';
import type { Config } from '../../model/types.ts';
import { decodeLogEntry } from '../../proto/convert.ts';
import { check } from './violation.ts';

/** The label that carries the serial of the write. */
export const SERIAL = 'serial';

export interface Outcome {
  readonly version: number;
  readonly kind: StoreEvent['kind'];
  readonly id: string;
  readonly serial: string;
}

interface Held {
  readonly name: string;
  readonly version: number;
  readonly serial: string;
}

type LogChange = ReturnType<typeof decodeLogEntry>['changes'][number];

export class Oracle {
  /** What watchers must see, in order. */
  readonly events: Outcome[] = [];
  /** By index: how many events there were once it was applied. */
  readonly #eventsUntil = new Map<number, number>();
  readonly #rejected = new Map<number, readonly number[]>();
  #held = new Map<string, Held>();
  #names = new Map<string, string>();
  readonly #history = new Map<string, Outcome[]>();
  readonly #indexOf = new Map<string, number>();
  readonly #proposed = new Set<string>();
  /** Writes of which somebody was told for certain that they are not made. */
  readonly #refused = new Set<string>();
  #version = 0;

  get writes(): number {
    return this.#indexOf.size;
  }

  /** Version of the newest entry that carries changes. */
  get version(): number {
    return this.#version;
  }

  propose(serial: string): void {
    this.#proposed.add(serial);
  }

  refuse(serial: string): void {
    this.#refused.add(serial);
    check(!this.#indexOf.has(serial), 'refused write', `${serial} was refused, and is made`);
  }

  indexOf(serial: string): number | undefined {
    return this.#indexOf.get(serial);
  }

  rejected(index: number): readonly number[] {
    return this.#rejected.get(index) ?? [];
  }

  /** How many events watchers have seen by `version`. */
  eventsUntil(version: number): number {
    let low = 0;
    let high = this.events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].version <= version) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  eventsAt(index: number): readonly Outcome[] {
    const until = this.#eventsUntil.get(index) ?? 0;
    let from = until;
    while (from > 0 && this.events[from - 1].version === index) from -= 1;
    return this.events.slice(from, until);
  }

  /** The last change of `id` at or before `version`. */
  at(id: string, version: number): Outcome | undefined {
    const history = this.#history.get(id) ?? [];
    let found: Outcome | undefined;
    for (let at = history.length - 1; at >= 0 && found === undefined; at -= 1) {
      if (history[at].version <= version) found = history[at];
    }
    return found?.kind === 'remove' ? undefined : found;
  }

  /** An entry of before, which is to be committed: nobody here proposes it. */
  adopt(entry: Entry): void {
    if (entry.type !== 'normal' || entry.data.length === 0) return;
    this.#proposed.add(serialOf(decodeLogEntry(entry.data).changes));
  }

  committed(entry: Entry): void {
    if (entry.type !== 'normal' || entry.data.length === 0) return;
    const { index } = entry;
    const { atomic, changes } = decodeLogEntry(entry.data);
    this.#noteSerial(serialOf(changes), index);
    this.#version = index;
    const held = new Map(this.#held);
    const names = new Map(this.#names);
    const events: Outcome[] = [];
    const rejected: number[] = [];
    for (const [at, change] of changes.entries()) {
      const event = this.#apply(change, index);
      if (event === undefined) rejected.push(at);
      else events.push(event);
      if (event === undefined && atomic) break;
    }
    if (atomic && rejected.length > 0) {
      this.#held = held;
      this.#names = names;
      events.length = 0;
    }
    for (const event of events) {
      const history = this.#history.get(event.id) ?? [];
      history.push(event);
      this.#history.set(event.id, history);
    }
    this.events.push(...events);
    this.#eventsUntil.set(index, this.events.length);
    if (rejected.length > 0) this.#rejected.set(index, rejected);
  }

  #noteSerial(serial: string, index: number): void {
    check(this.#proposed.has(serial), 'phantom write', `${serial} at ${index}`);
    check(!this.#refused.has(serial), 'refused write', `${serial} was refused, made at ${index}`);
    const other = this.#indexOf.get(serial);
    check(other === undefined, 'doubled write', `${serial} at ${other} and ${index}`);
    this.#indexOf.set(serial, index);
  }

  #apply(change: LogChange, version: number): Outcome | undefined {
    const { kind } = change;
    if (kind === 'remove') return this.#remove(change.id, change.version, version);
    const { id, spec, version: from } = change.object as Config;
    const before = this.#held.get(id);
    const owner = this.#names.get(spec.name);
    if (owner !== undefined && owner !== id) return undefined;
    if (kind === 'create' ? before !== undefined : before?.version !== from) return undefined;
    const serial = spec.labels[SERIAL];
    this.#held.set(id, { name: spec.name, version, serial });
    this.#names.set(spec.name, id);
    return { version, kind, id, serial };
  }

  #remove(id: string, from: number | undefined, version: number): Outcome | undefined {
    const before = this.#held.get(id);
    if (before === undefined || (from !== undefined && from !== before.version)) return undefined;
    this.#held.delete(id);
    this.#names.delete(before.name);
    return { version, kind: 'remove', id, serial: '' };
  }
}

function serialOf(changes: readonly LogChange[]): string {
  for (const change of changes) {
    if (change.kind !== 'remove') return (change.object as Config).spec.labels[SERIAL];
  }
  return '';
}

export function outcomeOf({ version, kind, id, after }: StoreEvent): Outcome {
  const serial = after === undefined ? '' : (after as Config).spec.labels[SERIAL];
  return { version, kind, id, serial };
}

export function sameOutcome(left: Outcome | undefined, right: Outcome | undefined): boolean {
  return (
    left !== undefined &&
    right !== undefined &&
    left.version === right.version &&
    left.kind === right.kind &&
    left.id === right.id &&
    left.serial === right.serial
  );
}

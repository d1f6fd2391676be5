/**
 * A proposer without Raft for tests: a transaction is applied to a Store at once, under the clock
 * given. A test may change the store just before a transaction is, to play a race.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../../base/clock.ts';
import { Store } from '../../manager/store/store.ts';
import type { ApplyResult, Change, Proposer, Transaction } from '../../manager/store/types.ts';
import type { TableName, Tables } from '../../model/types.ts';

export class DirectStore implements Proposer {
  readonly store = new Store();
  readonly proposed: Transaction[] = [];
  isLeader = true;
  beforeApply: (() => void) | undefined;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async propose(transaction: Transaction): Promise<ApplyResult> {
    this.beforeApply?.();
    this.proposed.push(transaction);
    return this.#apply(transaction);
  }

  async barrier(): Promise<void> {}

  create<T extends TableName>(table: T, object: Tables[T]): void {
    this.change({ kind: 'create', table, object } as unknown as Change);
  }

  update<T extends TableName>(table: T, object: Tables[T]): void {
    this.change({ kind: 'update', table, object } as unknown as Change);
  }

  remove(table: TableName, id: string): void {
    this.change({ kind: 'remove', table, id } as Change);
  }

  change(change: Change): void {
    assert.deepEqual(this.#apply({ atomic: true, changes: [change] }).rejected, []);
  }

  #apply(transaction: Transaction): ApplyResult {
    return this.store.apply(this.store.version + 1, this.#clock.wallMs(), transaction);
  }
}

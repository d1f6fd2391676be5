/**
 * Where members are reached. The configuration says so, but a member whose host was given another
 * address says it itself, by opening its streams from there; until the leader has written that down
 * it is answered where it is. A copy of its state on another host would say the same: whoever
 * speaks from elsewhere is not heard while the member still speaks from where it is known to be.
 */
import type { Log } from '../../base/log.ts';
import { ELECTION_MS } from './limits.ts';
import type { MemberTable } from './memberTable.ts';
import type { MemberAddress } from './types.ts';

interface Heard {
  readonly address: string;
  readonly atMs: number;
}

export class Whereabouts {
  readonly #table: MemberTable;
  readonly #activeMs: () => number;
  readonly #log: Log;
  /** Also of those who speak to us before we know the members (joining). */
  readonly #heard = new Map<number, Heard>();
  /** Addresses that were not listened to, said once each. */
  readonly #refused = new Map<number, string>();

  /** `self`: where this member listens, which the configuration may not say yet. */
  constructor(table: MemberTable, self: Partial<MemberAddress>, log: Log, activeMs: () => number) {
    this.#table = table;
    this.#log = log;
    this.#activeMs = activeMs;
    const { id, address } = self;
    if (id !== undefined && address !== undefined) this.heard({ id, address });
  }

  /**
   * False: not to be listened to, as it was taken out, or the member itself was heard from another
   * address lately.
   */
  heard({ id, address }: MemberAddress): boolean {
    if (this.#table.wasRemoved(id)) return false;
    const atMs = this.#activeMs();
    const before = this.#heard.get(id);
    const isElsewhere = before !== undefined && before.address !== address;
    const isKnown = address === this.#table.address(id);
    if (isElsewhere && !isKnown && atMs - before.atMs <= ELECTION_MS) {
      this.#refuse(id, address, before.address);
      return false;
    }
    this.#heard.set(id, { address, atMs });
    return true;
  }

  #refuse(id: number, address: string, lately: string): void {
    if (this.#refused.get(id) === address) return;
    this.#refused.set(id, address);
    this.#log.warn('raft: not heard: this member speaks from elsewhere', { id, address, lately });
  }

  address(id: number): string | undefined {
    return this.#heard.get(id)?.address ?? this.#table.address(id);
  }

  /** Where the member is, unless that is where the configuration has it. */
  movedTo(id: number): string | undefined {
    const address = this.#heard.get(id)?.address;
    return address === this.#table.address(id) ? undefined : address;
  }

  /** Members that were taken out are forgotten; not those that are not known here yet. */
  forgetRemoved(): void {
    for (const id of this.#heard.keys()) if (this.#table.wasRemoved(id)) this.#heard.delete(id);
  }
}

/**
 * Which members were heard from lately, and the words for it: the reason given when managers cannot
 * agree. Counts in the ticker's active time, so an own pause silences nobody.
 */
import { SwarmError } from '../../base/errors.ts';
import { REACHABLE_MS } from './limits.ts';
import type { MemberTable } from './memberTable.ts';

export class Presence {
  readonly #self: number;
  readonly #table: MemberTable;
  readonly #activeMs: () => number;
  readonly #heardAtMs = new Map<number, number>();

  constructor(self: number, table: MemberTable, activeMs: () => number) {
    this.#self = self;
    this.#table = table;
    this.#activeMs = activeMs;
  }

  heard(id: number): void {
    this.#heardAtMs.set(id, this.#activeMs());
  }

  keepOnly(ids: ReadonlySet<number>): void {
    for (const id of this.#heardAtMs.keys()) if (!ids.has(id)) this.#heardAtMs.delete(id);
  }

  lately(id: number): boolean {
    return (this.ageMs(id) ?? Number.POSITIVE_INFINITY) <= REACHABLE_MS;
  }

  /** Since it was heard from; undefined if never. */
  ageMs(id: number): number | undefined {
    if (id === this.#self) return 0;
    const heardMs = this.#heardAtMs.get(id);
    return heardMs === undefined ? undefined : this.#activeMs() - heardMs;
  }

  /** What the managers did or have not, and who is missing. */
  noQuorum(what: string): SwarmError {
    return new SwarmError('no_quorum', `the managers ${what}: ${this.describe()}`);
  }

  /** '1 of 3 managers answer, 2 are needed; not answering: 10.0.0.2:2377, 10.0.0.3:2377'. */
  describe(): string {
    const voters = this.#table.members().filter((member) => !member.learner);
    const silent = voters.filter((voter) => !this.lately(voter.id));
    const needed = Math.floor(voters.length / 2) + 1;
    const answering = voters.length - silent.length;
    const names = silent.map((voter) => voter.address).join(', ');
    const list = silent.length === 0 ? '' : `; not answering: ${names}`;
    return `${answering} of ${voters.length} managers answer, ${needed} are needed${list}`;
  }
}

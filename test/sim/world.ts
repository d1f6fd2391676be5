/**
 * One history of the group: what was promised in it, and what comes of that. A group that goes on
 * from one survivor begins another history with all that the survivor holds; those of the history
 * before keep theirs, and neither may ever show in the other.
 */
import type { Entry } from '../../manager/raft/core/types.ts';
import type { Recovered } from '../../manager/raft/disk/disk.ts';
import { Ledger } from './ledger.ts';
import { Oracle } from './oracle.ts';

export class World {
  readonly ledger: Ledger;
  readonly oracle = new Oracle();
  /** Of stores, by version. */
  readonly hashes = new Map<number, string>();
  /** The newest version that was acknowledged or shown to anybody. */
  floor = 0;

  constructor() {
    this.ledger = new Ledger((entry) => this.oracle.committed(entry));
  }

  /** As member `id` goes on alone, with all that its log holds. */
  forkAt(id: number, { base, entries }: Recovered): World {
    const next = new World();
    const covered = this.ledger.committed.slice(1, base.index + 1) as Entry[];
    for (const entry of [...covered, ...entries]) {
      next.oracle.adopt(entry);
      next.ledger.adopt(entry);
    }
    next.ledger.takeOver(this.ledger, id);
    next.floor = Math.min(this.floor, next.oracle.version);
    return next;
  }
}

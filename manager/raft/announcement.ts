/**
 * Who may not stand for election is silent unless spoken to: a learner whose host was given another
 * address would never be found again, and a member that was taken out would never hear that it may
 * go, as nobody speaks to it. So when no leader has spoken for an election's time, it calls on the
 * members it knows and says where it is. Voters do so by standing for election.
 */
import type { Raft } from './core/raft.ts';
import { ELECTION_TICKS } from './limits.ts';
import type { MemberTable } from './memberTable.ts';
import type { RaftTransport } from './types.ts';
import type { Whereabouts } from './whereabouts.ts';

/** After each tick. */
export function announce(
  raft: Raft,
  transport: Pick<RaftTransport, 'announce'>,
  table: MemberTable,
  whereabouts: Whereabouts,
): void {
  const { electionElapsed } = raft;
  const isSilence = electionElapsed > 0 && electionElapsed % ELECTION_TICKS === 0;
  if (!isSilence || raft.role === 'leader' || raft.promotable()) return;
  for (const { id, address } of table.members()) {
    if (id !== raft.id) transport.announce(id, whereabouts.address(id) ?? address);
  }
}

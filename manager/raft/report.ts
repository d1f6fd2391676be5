/**
 * A member's state as it tells others: where it stands, and what it knows of each member. Reads
 * only.
 */
import type { MemoryLog } from './core/memoryLog.ts';
import type { Raft } from './core/raft.ts';
import { NONE } from './core/types.ts';
import type { RaftDisk } from './disk/disk.ts';
import type { MemberTable } from './memberTable.ts';
import type { Presence } from './presence.ts';
import type { MemberStatus, RaftStatus } from './types.ts';
import type { Whereabouts } from './whereabouts.ts';

export function statusOf(
  id: number,
  raft: Raft,
  { memory, disk }: { readonly memory: MemoryLog; readonly disk: RaftDisk },
): RaftStatus {
  return {
    id,
    term: raft.term,
    leaderId: raft.leader === NONE ? undefined : raft.leader,
    role: raft.role,
    commit: raft.log.committed,
    applied: raft.log.applied,
    lastIndex: raft.log.lastIndex(),
    snapshotIndex: memory.snapshot()?.index ?? 0,
    diskFull: disk.full,
  };
}

export function membersOf(
  id: number,
  raft: Raft,
  table: MemberTable,
  presence: Presence,
  whereabouts: Whereabouts,
): MemberStatus[] {
  const leads = raft.role === 'leader';
  const last = raft.log.lastIndex();
  return table.members().map((member) => {
    const match = leads ? raft.tracker.progress.get(member.id)?.match : undefined;
    // Followers hear from the leader only.
    const knows = leads || member.id === id || member.id === raft.leader;
    return {
      ...member,
      movedTo: whereabouts.movedTo(member.id),
      isLeader: member.id === raft.leader,
      reachable: knows ? presence.lately(member.id) : undefined,
      heardAgeMs: presence.ageMs(member.id),
      matchIndex: match,
      lag: match === undefined ? undefined : last - match,
    };
  });
}

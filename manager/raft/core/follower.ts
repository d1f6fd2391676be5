/**
 * What followers and candidates do with a message: appends, heartbeats and snapshots from a leader,
 * votes that come in. Semantics: etcd-io/raft raft.go, stepFollower and stepCandidate. Mutates the
 * Raft it is given and nothing else.
 */
import type { Raft } from './raft.ts';
import { hup } from './step.ts';
import { type Message, makeMessage, NONE, type SnapshotMeta, type StepError } from './types.ts';

export function stepFollower(raft: Raft, message: Message): StepError | undefined {
  switch (message.type) {
    case 'propose':
      if (raft.leader === NONE || raft.config.disableProposalForwarding === true) {
        return 'proposal_dropped';
      }
      raft.send({ ...message, to: raft.leader });
      return undefined;
    case 'append':
    case 'heartbeat':
    case 'snapshot':
      raft.electionElapsed = 0;
      raft.leader = message.from;
      hearLeader(raft, message);
      return undefined;
    case 'transferLeader':
    case 'readIndex':
      if (raft.leader !== NONE) raft.send({ ...message, term: 0, to: raft.leader });
      return undefined;
    case 'forgetLeader':
      if (raft.config.readOnly !== 'lease') raft.leader = NONE;
      return undefined;
    case 'timeoutNow':
      // A transfer: the leader asked for it, so neither pre-vote nor lease stand in the way.
      hup(raft, 'transfer');
      return undefined;
    case 'readIndexResp':
      if (message.entries.length === 1) {
        raft.readStates.push({ index: message.index, context: message.entries[0].data });
      }
      return undefined;
    default:
      return undefined;
  }
}

export function stepCandidate(raft: Raft, message: Message): StepError | undefined {
  switch (message.type) {
    case 'propose':
      return 'proposal_dropped';
    case 'append':
    case 'heartbeat':
    case 'snapshot':
      // Of our own term (higher ones were met before): the election is decided.
      raft.becomeFollower(message.term, message.from);
      hearLeader(raft, message);
      return undefined;
    case 'preVoteResp':
      if (raft.role === 'preCandidate') countVote(raft, message);
      return undefined;
    case 'voteResp':
      if (raft.role === 'candidate') countVote(raft, message);
      return undefined;
    default:
      return undefined;
  }
}

function countVote(raft: Raft, message: Message): void {
  // Told by who was taken out; see answerVote.
  if (message.reject) raft.log.maybeCommit({ index: message.commit, term: message.logTerm });
  raft.tracker.recordVote(message.from, !message.reject);
  const result = raft.tracker.tallyVotes();
  if (result === 'lost') {
    // Of a pre-vote the term is still ours: a later election asks again.
    raft.becomeFollower(raft.term, NONE);
  } else if (result === 'won') {
    if (raft.role === 'preCandidate') {
      raft.campaign('election');
    } else {
      raft.becomeLeader();
      raft.broadcastAppend();
    }
  }
}

function hearLeader(raft: Raft, message: Message): void {
  if (message.type === 'append') handleAppend(raft, message);
  else if (message.type === 'heartbeat') handleHeartbeat(raft, message);
  else handleSnapshot(raft, message);
}

function handleAppend(raft: Raft, message: Message): void {
  const { log } = raft;
  const { from, index } = message;
  if (index < log.committed) {
    raft.send(makeMessage('appendResp', from, { index: log.committed }));
    return;
  }
  const prev = { term: message.logTerm, index };
  const last = log.maybeAppend(prev, message.entries, message.commit);
  if (last !== undefined) {
    raft.send(makeMessage('appendResp', from, { index: last }));
    return;
  }
  const hint = log.findConflictByTerm(Math.min(index, log.lastIndex()), message.logTerm);
  raft.send(
    makeMessage('appendResp', from, {
      index,
      reject: true,
      rejectHint: hint.index,
      logTerm: hint.term,
    }),
  );
}

function handleHeartbeat(raft: Raft, message: Message): void {
  raft.log.commitTo(message.commit);
  raft.send(makeMessage('heartbeatResp', message.from, { context: message.context }));
}

function handleSnapshot(raft: Raft, message: Message): void {
  const restored = message.snapshot !== undefined && restore(raft, message.snapshot);
  const index = restored ? raft.log.lastIndex() : raft.log.committed;
  raft.send(makeMessage('appendResp', message.from, { index }));
}

/** Takes the snapshot's place in the log; false when it is not needed or not for this node. */
function restore(raft: Raft, snapshot: SnapshotMeta): boolean {
  if (snapshot.index <= raft.log.committed) return false;
  const { voters, learners, votersOutgoing } = snapshot.confState;
  const mine = [voters, learners, votersOutgoing].some((ids) => ids.includes(raft.id));
  if (!mine) return false;
  if (raft.log.matchTerm(snapshot)) {
    // We hold the entries already: the snapshot only says that they are committed.
    raft.log.commitTo(snapshot.index);
    return false;
  }
  raft.log.restore(snapshot);
  raft.restoreSnapshotConfig(snapshot.confState);
  return true;
}

/**
 * The front door of messages: terms first (who is behind, who is ahead, the vote lease), then what
 * every role treats alike (elections to start, votes to give, news from the disk), then the role.
 * Semantics: etcd-io/raft raft.go, Step. Mutates the Raft it is given and nothing else.
 */
import { assert } from '../../../base/assert.ts';
import { stepCandidate, stepFollower } from './follower.ts';
import { stepLeader } from './leader.ts';
import { type CampaignKind, isTransferContext, type Raft } from './raft.ts';
import { entriesBytes, type Message, makeMessage, NONE, type StepError } from './types.ts';

export function step(raft: Raft, message: Message): StepError | undefined {
  if (message.term > raft.term) {
    if (inLease(raft, message)) return undefined;
    meetHigherTerm(raft, message);
  } else if (message.term !== 0 && message.term < raft.term) {
    answerLowerTerm(raft, message);
    return undefined;
  }
  switch (message.type) {
    case 'hup':
      hup(raft, raft.config.preVote ? 'preElection' : 'election');
      return undefined;
    case 'storageAppendResp':
      if (message.index !== 0) {
        raft.log.unstable.stableTo({ term: message.logTerm, index: message.index });
      }
      if (message.snapshot !== undefined) raft.appliedSnapshot(message.snapshot);
      return undefined;
    case 'storageApplyResp':
      if (message.entries.length > 0) {
        const last = message.entries[message.entries.length - 1];
        raft.appliedTo(last.index, entriesBytes(message.entries));
        raft.reduceUncommitted(message.entries);
      }
      return undefined;
    case 'vote':
    case 'preVote':
      answerVote(raft, message);
      return undefined;
    default:
      if (raft.role === 'leader') return stepLeader(raft, message);
      if (raft.role === 'follower') return stepFollower(raft, message);
      return stepCandidate(raft, message);
  }
}

/** A node that has heard from its leader of late does not help to depose it (thesis 4.2.3). */
function inLease(raft: Raft, message: Message): boolean {
  if (message.type !== 'vote' && message.type !== 'preVote') return false;
  if (isTransferContext(message.context)) return false;
  return (
    raft.config.checkQuorum &&
    raft.leader !== NONE &&
    raft.electionElapsed < raft.config.electionTicks
  );
}

function meetHigherTerm(raft: Raft, message: Message): void {
  // A request for a pre-vote names a term that may never come; a granted one carries our own.
  if (message.type === 'preVote') return;
  if (message.type === 'preVoteResp' && !message.reject) return;
  const fromLeader =
    message.type === 'append' || message.type === 'heartbeat' || message.type === 'snapshot';
  raft.becomeFollower(message.term, fromLeader ? message.from : NONE);
}

function answerLowerTerm(raft: Raft, message: Message): void {
  const { type } = message;
  if ((raft.config.checkQuorum || raft.config.preVote) && isLeaderWord(type)) {
    // A deposed leader, or one whose member came back with a higher term: tell it our term, or it
    // would never step down and the member could never return.
    raft.send(makeMessage('appendResp', message.from, {}));
  } else if (type === 'preVote') {
    raft.send(makeMessage('preVoteResp', message.from, { term: raft.term, reject: true }));
  } else if (type === 'storageAppendResp' && message.snapshot !== undefined) {
    // Entries of an older term may have been replaced since; a snapshot is applied for good.
    raft.appliedSnapshot(message.snapshot);
  }
}

function isLeaderWord(type: Message['type']): boolean {
  return type === 'heartbeat' || type === 'append';
}

function answerVote(raft: Raft, message: Message): void {
  const canVote =
    raft.vote === message.from ||
    (raft.vote === NONE && raft.leader === NONE) ||
    (message.type === 'preVote' && message.term > raft.term);
  const theirs = { term: message.logTerm, index: message.index };
  const response = message.type === 'vote' ? 'voteResp' : 'preVoteResp';
  if (canVote && raft.log.isUpToDate(theirs)) {
    // The term of the request, not ours: a pre-candidate's own term is lower than what it asks for.
    raft.send(makeMessage(response, message.from, { term: message.term }));
    if (message.type === 'vote') {
      raft.electionElapsed = 0;
      raft.vote = message.from;
    }
  } else {
    const refusal = { term: raft.term, reject: true, ...committedBy(raft) };
    raft.send(makeMessage(response, message.from, refusal));
  }
}

/**
 * What who is no voter any more tells with a refusal: up to where the log is committed. It may hold
 * entries beyond its removal that nobody else has, so that it refuses for good, while the others
 * have lost with their power that its removal was committed, and ask for its vote for good.
 * raft-rs tells it with every refusal (maybe_commit_by_vote).
 */
function committedBy(raft: Raft): Partial<Message> {
  if (raft.promotable()) return {};
  const term = raft.log.term(raft.log.committed);
  return typeof term === 'number' ? { commit: raft.log.committed, logTerm: term } : {};
}

export function hup(raft: Raft, kind: CampaignKind): void {
  if (raft.role === 'leader' || !raft.promotable()) return;
  // A committed change that is not applied here may have removed us, or changed the quorum.
  if (hasUnappliedConfChange(raft)) return;
  raft.campaign(kind);
}

function hasUnappliedConfChange(raft: Raft): boolean {
  const { log } = raft;
  const until = log.committed + 1;
  let from = log.applied + 1;
  while (from < until) {
    const entries = log.slice(from, until, raft.config.maxSizePerMessageBytes);
    // While a snapshot is being installed there is nothing to look at; promotable() said no.
    assert(typeof entries !== 'string' && entries.length > 0, 'raft: unapplied entries', { from });
    if (entries.some((entry) => entry.type === 'confChange')) return true;
    from += entries.length;
  }
  return false;
}

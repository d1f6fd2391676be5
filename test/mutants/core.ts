/**
 * Planted bugs in the pure core: elections, log, commits, reads and configurations. Each is a
 * mistake that somebody could make, and most have been made by somebody.
 */
import { type Mutant, mutant } from './mutant.ts';

const RAFT = 'manager/raft/core/raft.ts';
const STEP = 'manager/raft/core/step.ts';
const LEADER = 'manager/raft/core/leader.ts';
const FOLLOWER = 'manager/raft/core/follower.ts';
const LOG = 'manager/raft/core/log.ts';
const UNSTABLE = 'manager/raft/core/unstable.ts';
const MEMORY = 'manager/raft/core/memoryLog.ts';
const QUORUM = 'manager/raft/core/quorum.ts';
const RAWNODE = 'manager/raft/core/rawnode.ts';
const READONLY = 'manager/raft/core/readonly.ts';
const LIMITS = 'manager/raft/limits.ts';
const TRACKER = 'manager/raft/core/tracker.ts';

const AFTER_APPEND =
  "if (type === 'appendResp' || type === 'voteResp' || type === 'preVoteResp') {";
const TO_MYSELF = 'message.to === this.id';

/**
 * With an entry or two in a message: what goes wrong between two messages hardly shows in short
 * runs where one carries all that is lacking.
 */
function inSmallMessages(...args: Parameters<typeof mutant>): Mutant {
  const found = mutant(...args);
  const from = 'export const MAX_MESSAGE_BYTES = 512 * KIB;';
  const smaller = { file: LIMITS, from, to: 'export const MAX_MESSAGE_BYTES = KIB / 4;' };
  return { ...found, edits: [...found.edits, smaller] };
}

/**
 * With hints that name the last committed entry, as Raft allows. Ours name the last entry that can
 * agree, never an earlier one: the first entry that a leader then sends replaces what disagrees, so
 * a message never ends before something that does, and some bugs have no consequence.
 */
function backingOffPlainly(found: Mutant): Mutant {
  const from = 'log.findConflictByTerm(Math.min(index, log.lastIndex()), message.logTerm);';
  const plain = { file: FOLLOWER, from, to: '{ index: log.committed, term: 0 };' };
  return { ...found, edits: [...found.edits, plain], unreplayed: true };
}

export const ELECTION_MUTANTS: readonly Mutant[] = [
  mutant(
    'vote-before-durable',
    'a vote leaves before it is on the disk',
    RAFT,
    AFTER_APPEND,
    `if (${TO_MYSELF} || type === 'appendResp' || type === 'preVoteResp') {`,
  ),
  mutant(
    'two-votes',
    'a second vote in a term, for another candidate',
    STEP,
    '(raft.vote === NONE && raft.leader === NONE) ||',
    'raft.leader === NONE ||',
  ),
  mutant(
    'vote-forgotten',
    'after a restart the vote given in this term is forgotten',
    RAFT,
    'this.vote = hardState.vote;',
    'this.vote = NONE;',
  ),
  mutant(
    'vote-unsynced',
    'a vote alone is written without a sync',
    RAWNODE,
    'hard.vote !== this.#previousHard.vote ||\n        ',
    '',
  ),
  mutant(
    'vote-for-shorter-log',
    'votes for candidates whose logs lack committed entries',
    STEP,
    'if (canVote && raft.log.isUpToDate(theirs)) {',
    'if (canVote && theirs.index >= 0) {',
  ),
  mutant(
    'newer-log-by-length',
    'the longer log wins, whatever its last term',
    LOG,
    'return theirs.term > ours.term || (theirs.term === ours.term && theirs.index >= ours.index);',
    'return theirs.index >= ours.index;',
  ),
  {
    ...mutant(
      'no-vote-lease',
      'a member that hears its leader helps to depose it',
      STEP,
      'raft.electionElapsed < raft.config.electionTicks\n',
      'raft.electionElapsed < 0\n',
    ),
    harmless: true,
  },
  mutant(
    'no-check-quorum',
    'a leader that nobody answers leads on, and the vote lease stays',
    LEADER,
    'if (!raft.tracker.quorumActive()) raft.becomeFollower(raft.term, NONE);',
    'if (raft.tracker.progress.size === 0) raft.becomeFollower(raft.term, NONE);',
  ),
  mutant(
    'elections-in-step',
    'election timeouts have no random part',
    RAFT,
    'this.randomizedElectionTicks = ticks + this.config.random.below(ticks);',
    'this.randomizedElectionTicks = ticks;',
  ),
  mutant(
    'transfer-too-early',
    'a member is told to lead before it has caught up',
    LEADER,
    "if (progress.match === raft.log.lastIndex()) raft.send(makeMessage('timeoutNow', to, {}));\n  else",
    "raft.send(makeMessage('timeoutNow', to, {}));\n  if (progress.match < raft.log.lastIndex())",
  ),
];

export const LOG_MUTANTS: readonly Mutant[] = [
  inSmallMessages(
    'older-term-by-count',
    'an entry of an older term is committed by counting who has it',
    LOG,
    'if (id.term === 0 || id.index <= this.committed || !this.matchTerm(id)) return false;',
    'if (id.term === 0 || id.index <= this.committed) return false;',
  ),
  mutant(
    'answer-before-write',
    'a follower acknowledges entries before they are written',
    RAFT,
    AFTER_APPEND,
    `if (${TO_MYSELF} || type === 'voteResp' || type === 'preVoteResp') {`,
  ),
  mutant(
    'previous-not-matched',
    'entries are taken whatever term the one before them has',
    LOG,
    'if (!this.matchTerm(prev)) return undefined;',
    'if (prev.index > this.lastIndex()) return undefined;',
  ),
  mutant(
    'conflict-kept',
    'an entry that conflicts with the leader stays',
    LOG,
    'for (const entry of entries) if (!this.matchTerm(entry)) return entry.index;',
    'for (const entry of entries) if (entry.index > this.lastIndex()) return entry.index;',
  ),
  mutant(
    'unstable-tail-kept',
    'what followed a replaced entry, and is not durable yet, stays behind it',
    UNSTABLE,
    'this.entries = [...this.slice(this.offset, from), ...entries];',
    'const tail = this.entries.slice(from - this.offset + entries.length);\n' +
      '      this.entries = [...this.slice(this.offset, from), ...entries, ...tail];',
  ),
  mutant(
    'stable-tail-kept',
    'what followed a replaced entry, and is durable, stays behind it',
    MEMORY,
    'this.#entries.length = keep;\n    for (const entry of fresh) {\n      this.#entries.push(entry);',
    'for (const [at, entry] of fresh.entries()) {\n      this.#entries[keep + at] = entry;',
  ),
  backingOffPlainly(
    inSmallMessages(
      'commit-past-match',
      'a follower commits entries that its leader has not seen in its log',
      LOG,
      'this.commitTo(Math.min(committed, lastNew));',
      'this.commitTo(Math.min(committed, this.lastIndex()));',
    ),
  ),
  mutant(
    'heartbeat-past-match',
    'a heartbeat carries a commit index beyond what the follower is known to hold',
    RAFT,
    'const commit = Math.min(progress.match, this.log.committed);',
    'const commit = this.log.committed;',
  ),
  mutant(
    'durable-by-index',
    'the disk speaks of an entry that was replaced meanwhile',
    RAWNODE,
    'term: raft.term,\n      index: last.index,',
    'term: 0,\n      index: last.index,',
  ),
  mutant(
    'window-never-opens',
    'what a follower acknowledged still counts as under way',
    LEADER,
    'progress.inflights.freeTo(index);',
    'progress.inflights.freeTo(0);',
  ),
];

export const READ_MUTANTS: readonly Mutant[] = [
  mutant(
    'read-without-quorum',
    'a leader answers reads without asking whether it still leads',
    LEADER,
    "if (raft.config.readOnly === 'lease' || raft.tracker.isSingleton()) {",
    "if (raft.config.readOnly !== 'safe' || raft.tracker.isSingleton()) {",
  ),
  mutant(
    'read-before-own-term',
    'a new leader answers reads before it has committed in its term',
    LEADER,
    'if (!raft.committedInOwnTerm()) {\n    // Until',
    'if (raft.log.committed === 0) {\n    // Until',
  ),
  mutant(
    'read-by-old-answer',
    'the answer to an earlier heartbeat confirms a later read',
    READONLY,
    'this.#acks.set(from, Math.max(this.#acks.get(from) ?? 0, position));',
    'this.#acks.set(from, Math.max(position, this.#confirmed + this.#unconfirmed.length));',
  ),
];

export const CONFIGURATION_MUTANTS: readonly Mutant[] = [
  mutant(
    'removed-refuses-mutely',
    'who was taken out and refuses its vote does not tell what is committed',
    STEP,
    'if (raft.promotable()) return {};',
    'if (raft.promotable() || raft.log.committed > 0) return {};',
  ),
  mutant(
    'deaf-candidate',
    'a candidate does not hear from a refusal what is committed',
    FOLLOWER,
    'if (message.reject) raft.log.maybeCommit({ index: message.commit, term: message.logTerm });',
    'if (message.reject) raft.log.maybeCommit({ index: 0, term: message.logTerm });',
  ),
  mutant(
    'learner-counts',
    'what learners hold counts for commits',
    TRACKER,
    'return jointCommitted(this.config.voters, (id)',
    'const { voters, learners } = this.config;\n' +
      '    return jointCommitted([new Set([...voters[0], ...learners]), voters[1]], (id)',
  ),
  mutant(
    'commit-by-one-half',
    'commits need the new half of a joint configuration only',
    QUORUM,
    'return Math.min(majorityCommitted(voters[0], acked), majorityCommitted(voters[1], acked));',
    'return majorityCommitted(voters[0], acked);',
  ),
  mutant(
    'elected-by-one-half',
    'elections need the new half of a joint configuration only',
    QUORUM,
    'if (incoming === outgoing) return incoming;',
    "if (incoming === outgoing || outgoing === 'pending') return incoming;",
  ),
  mutant(
    'snapshot-without-members',
    'a snapshot is taken over without its configuration',
    FOLLOWER,
    'raft.restoreSnapshotConfig(snapshot.confState);\n',
    '',
  ),
  mutant(
    'removed-leader-leads',
    'a leader that is taken out leads on',
    RAFT,
    'if (this.config.stepDownOnRemoval === true) this.becomeFollower(this.term, NONE);',
    'if (this.config.stepDownOnRemoval === undefined) this.becomeFollower(this.term, NONE);',
  ),
];

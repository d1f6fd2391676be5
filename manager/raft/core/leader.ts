/**
 * What a leader does with a message: proposals, acknowledgements, reads, transfers. Semantics:
 * etcd-io/raft raft.go, stepLeader. Mutates the Raft it is given and nothing else.
 */
import { assert } from '../../../base/assert.ts';
import { decodeConfChange } from './confCodec.ts';
import type { Progress } from './progress.ts';
import type { Raft } from './raft.ts';
import {
  EMPTY_BYTES,
  type Entry,
  type Message,
  makeMessage,
  NONE,
  type StepError,
} from './types.ts';

export function stepLeader(raft: Raft, message: Message): StepError | undefined {
  switch (message.type) {
    case 'beat':
      raft.broadcastHeartbeat();
      return undefined;
    case 'checkQuorum':
      checkQuorum(raft);
      return undefined;
    case 'propose':
      return propose(raft, message);
    case 'readIndex':
      readIndex(raft, message);
      return undefined;
    default:
      break;
  }
  const progress = raft.tracker.progress.get(message.from);
  if (progress === undefined) return undefined;
  switch (message.type) {
    case 'appendResp':
      progress.recentActive = true;
      if (message.reject) appendRejected(raft, message, progress);
      else appendAccepted(raft, message, progress);
      break;
    case 'heartbeatResp':
      heartbeatAnswered(raft, message, progress);
      break;
    case 'snapshotStatus':
      snapshotStatus(message, progress);
      break;
    case 'unreachable':
      // What was sent ahead is likely lost: find out where the follower is.
      if (progress.state === 'replicate') progress.becomeProbe();
      break;
    case 'transferLeader':
      transferLeader(raft, message.from, progress);
      break;
    default:
      break;
  }
  return undefined;
}

function checkQuorum(raft: Raft): void {
  if (!raft.tracker.quorumActive()) raft.becomeFollower(raft.term, NONE);
  for (const [id, progress] of raft.tracker.progress) {
    if (id !== raft.id) progress.recentActive = false;
  }
}

function propose(raft: Raft, message: Message): StepError | undefined {
  assert(message.entries.length > 0, 'raft: empty proposal');
  // Removed while leading: nothing new under this leader.
  if (!raft.tracker.progress.has(raft.id)) return 'proposal_dropped';
  if (raft.transferee !== NONE) return 'proposal_dropped';
  const entries: Entry[] = [];
  const pendingBefore = raft.pendingConfIndex;
  for (const entry of message.entries) {
    if (entry.type === 'confChange' && !mayChangeConf(raft, entry)) {
      entries.push({ ...entry, type: 'normal', data: EMPTY_BYTES });
      continue;
    }
    if (entry.type === 'confChange') {
      raft.pendingConfIndex = raft.log.lastIndex() + entries.length + 1;
    }
    entries.push(entry);
  }
  if (!raft.appendEntries(entries)) {
    raft.pendingConfIndex = pendingBefore;
    return 'proposal_dropped';
  }
  raft.broadcastAppend();
  return undefined;
}

/** One change at a time, and a joint configuration is left before the next one. */
function mayChangeConf(raft: Raft, entry: Entry): boolean {
  if (raft.config.disableConfChangeValidation === true) return true;
  const wantsLeave = decodeConfChange(entry.data).changes.length === 0;
  const joint = raft.tracker.config.voters[1].size > 0;
  return raft.pendingConfIndex <= raft.log.applied && joint === wantsLeave;
}

function readIndex(raft: Raft, message: Message): void {
  if (!raft.committedInOwnTerm()) {
    // Until then this leader may not know what its predecessors committed (section 8). Nor does a
    // sole member, whose stored commit index may lag: here etcd answers at once, from the latter.
    raft.pendingReads.push(message);
  } else {
    startRead(raft, message);
  }
}

function startRead(raft: Raft, message: Message): void {
  if (raft.config.readOnly === 'lease' || raft.tracker.isSingleton()) {
    answerRead(raft, message, raft.log.committed);
    return;
  }
  raft.readOnly.add(raft.log.committed, message);
  raft.readOnly.acknowledge(raft.id, raft.readOnly.heartbeatContext());
  raft.broadcastHeartbeat();
}

export function releasePendingReads(raft: Raft): void {
  if (raft.pendingReads.length === 0 || !raft.committedInOwnTerm()) return;
  const reads = raft.pendingReads;
  raft.pendingReads = [];
  for (const read of reads) startRead(raft, read);
}

function answerRead(raft: Raft, request: Message, index: number): void {
  if (request.from === NONE || request.from === raft.id) {
    raft.readStates.push({ index, context: request.entries[0].data });
  } else {
    const { from, entries } = request;
    raft.send(makeMessage('readIndexResp', from, { index, entries }));
  }
}

/**
 * The follower lacks the entry the append follows on. It hints at the last place where the logs
 * can agree, judged by its terms; we look from there by ours, so one round trip skips a whole term.
 */
function appendRejected(raft: Raft, message: Message, progress: Progress): void {
  const hint =
    message.logTerm > 0
      ? raft.log.findConflictByTerm(message.rejectHint, message.logTerm).index
      : message.rejectHint;
  if (!progress.maybeDecreaseTo(message.index, hint)) return;
  if (progress.state === 'replicate') progress.becomeProbe();
  raft.sendAppend(message.from);
}

function appendAccepted(raft: Raft, message: Message, progress: Progress): void {
  const { from, index } = message;
  const news =
    progress.maybeUpdate(index) || (progress.match === index && progress.state === 'probe');
  if (!news) return;
  if (progress.state === 'probe') {
    progress.becomeReplicate();
  } else if (progress.state === 'snapshot') {
    // Whatever it got, it can follow the log we still have.
    if (progress.match + 1 >= raft.log.firstIndex()) {
      progress.becomeProbe();
      progress.becomeReplicate();
    }
  } else {
    progress.inflights.freeTo(index);
  }
  if (raft.maybeCommit()) {
    releasePendingReads(raft);
    raft.broadcastAppend();
  } else if (raft.id !== from && progress.canBumpCommit(raft.log.committed)) {
    raft.sendAppend(from);
  }
  if (raft.id !== from) {
    // The window opened: send until it is full again or nothing is left. Bounded by both.
    while (raft.maybeSendAppend(from, false));
  }
  if (from === raft.transferee && progress.match === raft.log.lastIndex()) {
    raft.send(makeMessage('timeoutNow', from, {}));
  }
}

function heartbeatAnswered(raft: Raft, message: Message, progress: Progress): void {
  progress.recentActive = true;
  progress.flowPaused = false;
  if (progress.match < raft.log.lastIndex() || progress.state === 'probe') {
    raft.sendAppend(message.from);
  }
  if (raft.config.readOnly === 'lease' || message.context.length === 0) return;
  raft.readOnly.acknowledge(message.from, message.context);
  for (const read of raft.readOnly.advance(raft.tracker.config.voters)) {
    answerRead(raft, read.request, read.index);
  }
}

function snapshotStatus(message: Message, progress: Progress): void {
  if (progress.state !== 'snapshot') return;
  if (message.reject) progress.pendingSnapshot = 0;
  progress.becomeProbe();
  // Sent: wait for its acknowledgement. Failed: wait a heartbeat before the next try.
  progress.flowPaused = true;
}

function transferLeader(raft: Raft, to: number, progress: Progress): void {
  if (progress.isLearner || raft.transferee === to) return;
  raft.transferee = NONE;
  if (to === raft.id) return;
  raft.electionElapsed = 0;
  raft.transferee = to;
  if (progress.match === raft.log.lastIndex()) raft.send(makeMessage('timeoutNow', to, {}));
  else raft.sendAppend(to);
}

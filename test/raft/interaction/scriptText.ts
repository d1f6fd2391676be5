/** The core's states and messages in the words of etcd-io/raft's recorded conversations. */
import { decodeConfChange } from '../../../manager/raft/core/confCodec.ts';
import type { MemoryLog } from '../../../manager/raft/core/memoryLog.ts';
import type { Raft } from '../../../manager/raft/core/raft.ts';
import type { Ready } from '../../../manager/raft/core/rawnode.ts';
import type { Tracker } from '../../../manager/raft/core/tracker.ts';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  type ConfState,
  type Entry,
  type Message,
  type MessageType,
  NO_LIMIT,
  type Role,
  type SnapshotMeta,
} from '../../../manager/raft/core/types.ts';

const TYPES: Partial<Record<MessageType, string>> = {
  propose: 'MsgProp',
  append: 'MsgApp',
  appendResp: 'MsgAppResp',
  snapshot: 'MsgSnap',
  snapshotStatus: 'MsgSnapStatus',
};

const ROLES: Readonly<Record<Role, string>> = {
  follower: 'StateFollower',
  preCandidate: 'StatePreCandidate',
  candidate: 'StateCandidate',
  leader: 'StateLeader',
};

const STEPS = { addVoter: 'v', addLearner: 'l', remove: 'r', update: 'u' } as const;

export function typeName(type: MessageType): string {
  return TYPES[type] ?? `Msg${type[0].toUpperCase()}${type.slice(1)}`;
}

function target(id: number): string {
  if (id === APPEND_THREAD) return 'AppendThread';
  if (id === APPLY_THREAD) return 'ApplyThread';
  return id === 0 ? 'None' : id.toString(16);
}

export function entry(one: Entry): string {
  const at = `${one.term}/${one.index}`;
  if (one.type === 'normal') {
    return `${at} EntryNormal ${JSON.stringify(new TextDecoder().decode(one.data))}`;
  }
  const steps = decodeConfChange(one.data).changes.map(({ type, id }) => `${STEPS[type]}${id}`);
  return `${at} EntryConfChange${steps.length === 0 ? '' : ` ${steps.join(' ')}`}`;
}

function conf(state: ConfState): string {
  const list = (ids: readonly number[]): string => `[${ids.join(' ')}]`;
  return (
    `Voters:${list(state.voters)} VotersOutgoing:${list(state.votersOutgoing)} ` +
    `Learners:${list(state.learners)} LearnersNext:${list(state.learnersNext)} ` +
    `AutoLeave:${state.autoLeave}`
  );
}

function snapshot(meta: SnapshotMeta): string {
  return `Index:${meta.index} Term:${meta.term} ConfState:${conf(meta.confState)}`;
}

export function message(one: Message): string[] {
  let head =
    `${target(one.from)}->${target(one.to)} ${typeName(one.type)} ` +
    `Term:${one.term} Log:${one.logTerm}/${one.index}`;
  if (one.reject) head += ` Rejected (Hint: ${one.rejectHint})`;
  if (one.commit !== 0) head += ` Commit:${one.commit}`;
  if (one.vote !== 0) head += ` Vote:${one.vote}`;
  const lines = [head];
  const onto = (text: string): void => {
    lines[lines.length - 1] += text;
  };
  if (one.entries.length === 1) {
    onto(` Entries:[${entry(one.entries[0])}]`);
  } else if (one.entries.length > 1) {
    onto(' Entries:[');
    lines.push(...one.entries.map((each) => `  ${entry(each)}`), ']');
  }
  if (one.snapshot !== undefined) lines.push(`  Snapshot: ${snapshot(one.snapshot)}`);
  if (one.responses.length > 0) {
    onto(' Responses:[');
    for (const response of one.responses) {
      lines.push(...message(response).map((line) => `  ${line}`));
    }
    lines.push(']');
  }
  return lines;
}

export function ready(one: Ready): string[] {
  const lines: string[] = [];
  if (one.softState !== undefined) {
    lines.push(`Lead:${one.softState.leader} State:${ROLES[one.softState.role]}`);
  }
  if (one.hardState !== undefined) {
    const { term, vote, commit } = one.hardState;
    lines.push(`HardState Term:${term}${vote === 0 ? '' : ` Vote:${vote}`} Commit:${commit}`);
  }
  if (one.entries.length > 0) lines.push('Entries:', ...one.entries.map(entry));
  if (one.snapshot !== undefined) lines.push(`Snapshot ${snapshot(one.snapshot)}`);
  if (one.committedEntries.length > 0) {
    lines.push('CommittedEntries:', ...one.committedEntries.map(entry));
  }
  if (one.messages.length > 0) lines.push('Messages:', ...one.messages.flatMap(message));
  if (lines.length === 0) return ['<empty Ready>'];
  return [`Ready MustSync=${one.mustSync}:`, ...lines];
}

export function log(memory: MemoryLog): string[] {
  const first = memory.firstIndex();
  const last = memory.lastIndex();
  if (last < first) return [`log is empty: first index=${first}, last index=${last}`];
  const entries = memory.entries(first, last + 1, NO_LIMIT);
  return typeof entries === 'string' ? [entries] : entries.map(entry);
}

export function progress(raft: Raft): string[] {
  return progressLines(raft.tracker);
}

export function progressLines(tracker: Tracker): string[] {
  const lines: string[] = [];
  tracker.visit((id, one) => {
    const state = `State${one.state[0].toUpperCase()}${one.state.slice(1)}`;
    let line = `${id}: ${state} match=${one.match} next=${one.next}`;
    if (one.isLearner) line += ' learner';
    if (one.isPaused()) line += ' paused';
    if (one.pendingSnapshot > 0) line += ` pendingSnap=${one.pendingSnapshot}`;
    if (!one.recentActive) line += ' inactive';
    if (one.inflights.count > 0) line += ` inflight=${one.inflights.count}`;
    if (one.inflights.count > 0 && one.inflights.full()) line += '[full]';
    lines.push(line);
  });
  return lines;
}

export function state(raft: Raft): string {
  const { voters } = raft.tracker.config;
  const votes = voters[0].has(raft.id) || voters[1].has(raft.id);
  const kind = votes ? '(Voter)' : '(Non-Voter)';
  return `${raft.id}: ${ROLES[raft.role]} ${kind} Term:${raft.term} Lead:${raft.leader}`;
}

/**
 * The words of the Raft core: entries, messages, durable state, configuration. Shapes and their
 * meaning follow etcd-io/raft (raftpb, Config), so that its recorded conversations can be replayed.
 * Pure data: nothing here does anything. Terms, indexes and ids are safe whole numbers; 0 = none.
 */
import type { Random } from '../../../base/random.ts';

export const NONE = 0;
/** Addressees of storage messages; never ids of members. */
export const APPEND_THREAD = Number.MAX_SAFE_INTEGER;
export const APPLY_THREAD = Number.MAX_SAFE_INTEGER - 1;
export const NO_LIMIT = Number.POSITIVE_INFINITY;
export const EMPTY_BYTES: Uint8Array = new Uint8Array(0);

export type EntryType = 'normal' | 'confChange';

export interface Entry {
  readonly term: number;
  readonly index: number;
  readonly type: EntryType;
  readonly data: Uint8Array;
}

export interface EntryId {
  readonly term: number;
  readonly index: number;
}

/** What must be on disk before a vote or an acknowledgement leaves; `commit` alone may lag. */
export interface HardState {
  readonly term: number;
  readonly vote: number;
  readonly commit: number;
}

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

export interface SoftState {
  readonly leader: number;
  readonly role: Role;
}

/** A configuration as it is stored: sorted ids. Joint while `votersOutgoing` is not empty. */
export interface ConfState {
  readonly voters: readonly number[];
  readonly votersOutgoing: readonly number[];
  readonly learners: readonly number[];
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  readonly learnersNext: readonly number[];
  readonly autoLeave: boolean;
}

export const EMPTY_CONF_STATE: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

/** What the core knows of a snapshot; its content travels and rests outside of the core. */
export interface SnapshotMeta {
  readonly index: number;
  readonly term: number;
  readonly confState: ConfState;
  /** Opaque to the core (the driver keeps member addresses here). */
  readonly data: Uint8Array;
}

export type ConfChangeType = 'addVoter' | 'addLearner' | 'remove' | 'update';
/** auto: one change is made in a single step, more through a joint configuration left at once. */
export type ConfTransition = 'auto' | 'jointImplicit' | 'jointExplicit';

export interface ConfChangeStep {
  readonly type: ConfChangeType;
  readonly id: number;
}

/** No changes with transition auto = leave the joint configuration. */
export interface ConfChange {
  readonly transition: ConfTransition;
  readonly changes: readonly ConfChangeStep[];
  readonly context: Uint8Array;
}

/** In the order of their numbers on the wire (codec.ts): append only. */
export const MESSAGE_TYPES = [
  'hup',
  'beat',
  'propose',
  'append',
  'appendResp',
  'vote',
  'voteResp',
  'snapshot',
  'heartbeat',
  'heartbeatResp',
  'unreachable',
  'snapshotStatus',
  'checkQuorum',
  'transferLeader',
  'timeoutNow',
  'readIndex',
  'readIndexResp',
  'preVote',
  'preVoteResp',
  'storageAppend',
  'storageAppendResp',
  'storageApply',
  'storageApplyResp',
  'forgetLeader',
] as const;
export type MessageType = (typeof MESSAGE_TYPES)[number];

export interface Message {
  readonly type: MessageType;
  readonly to: number;
  readonly from: number;
  /** 0 = local, or not bound to a term. */
  readonly term: number;
  readonly logTerm: number;
  readonly index: number;
  readonly commit: number;
  readonly vote: number;
  readonly reject: boolean;
  readonly rejectHint: number;
  readonly entries: readonly Entry[];
  readonly context: Uint8Array;
  readonly snapshot: SnapshotMeta | undefined;
  /** Storage messages only: what to deliver once the write is durable, or applied. */
  readonly responses: readonly Message[];
}

const NO_ENTRIES: readonly Entry[] = [];
const NO_MESSAGES: readonly Message[] = [];

export function makeMessage(
  type: MessageType,
  to: number,
  fields: Partial<Omit<Message, 'type' | 'to'>>,
): Message {
  return {
    type,
    to,
    from: fields.from ?? NONE,
    term: fields.term ?? 0,
    logTerm: fields.logTerm ?? 0,
    index: fields.index ?? 0,
    commit: fields.commit ?? 0,
    vote: fields.vote ?? 0,
    reject: fields.reject ?? false,
    rejectHint: fields.rejectHint ?? 0,
    entries: fields.entries ?? NO_ENTRIES,
    context: fields.context ?? EMPTY_BYTES,
    snapshot: fields.snapshot,
    responses: fields.responses ?? NO_MESSAGES,
  };
}

export interface ReadState {
  readonly index: number;
  readonly context: Uint8Array;
}

export type LogReadError = 'compacted' | 'unavailable';

/** The stable part of the log, read synchronously. Never fails otherwise: I/O is the driver's. */
export interface LogStorage {
  initialState(): { hardState: HardState; confState: ConfState };
  /** Entries [from, until), as many as fit `maxBytes`, at least one. */
  entries(from: number, until: number, maxBytes: number): readonly Entry[] | LogReadError;
  /** Known for [firstIndex - 1, lastIndex]. */
  term(index: number): number | LogReadError;
  firstIndex(): number;
  lastIndex(): number;
  /** The newest snapshot a follower can be given; undefined = not available just now. */
  snapshot(): SnapshotMeta | undefined;
}

/** Why `step` refused a message. */
export type StepError = 'proposal_dropped' | 'local_message' | 'unknown_peer';

export type TraceEvent =
  | { readonly kind: 'role'; readonly role: Role; readonly term: number; readonly leader: number }
  | { readonly kind: 'config'; readonly confState: ConfState };

export interface RaftConfig {
  readonly id: number;
  /**
   * Ticks without a leader's word before an election; each node adds a random part in [0, this).
   * Also the length of the vote lease and of CheckQuorum's window. 10x heartbeatTicks is usual.
   */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly storage: LogStorage;
  /** Index the state machine has applied already (its snapshot's index); 0 = none. */
  readonly applied: number;
  readonly random: Random;
  /** Storage messages instead of advance(): the leader sends before its own disk is done. */
  readonly asyncStorageWrites: boolean;
  /** Bound of one append message's entries in bytes (at least one entry goes). */
  readonly maxSizePerMessageBytes: number;
  /** Bound of committed entries handed out and not yet reported applied. Default: the above. */
  readonly maxApplyingBytes?: number;
  /** Past this many uncommitted bytes proposals are dropped: back-pressure. Default: none. */
  readonly maxUncommittedBytes?: number;
  /** Append messages under way to one follower. */
  readonly maxInflightMessages: number;
  readonly maxInflightBytes?: number;
  readonly checkQuorum: boolean;
  readonly preVote: boolean;
  /** 'lease' answers reads from the clock's promise; unsafe under pauses, not used here. */
  readonly readOnly?: 'safe' | 'lease';
  readonly disableProposalForwarding?: boolean;
  readonly disableConfChangeValidation?: boolean;
  /** A leader that is removed or demoted steps down when it applies that change. */
  readonly stepDownOnRemoval?: boolean;
  readonly trace?: (event: TraceEvent) => void;
}

/** Bytes of an entry on etcd's wire: limits count as they do there. */
export function entryBytes(entry: Entry): number {
  const data = entry.data.length;
  return (
    4 +
    varintBytes(entry.term) +
    varintBytes(entry.index) +
    (data === 0 ? 0 : 1 + varintBytes(data) + data)
  );
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest /= 128) bytes += 1;
  return bytes;
}

export function entriesBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entryBytes(entry);
  return bytes;
}

export function payloadBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += entry.data.length;
  return bytes;
}

/** The longest prefix within `maxBytes`, but at least one entry. */
export function limitEntries(entries: readonly Entry[], maxBytes: number): readonly Entry[] {
  if (entries.length === 0) return entries;
  let bytes = entryBytes(entries[0]);
  for (let at = 1; at < entries.length; at += 1) {
    bytes += entryBytes(entries[at]);
    if (bytes > maxBytes) return entries.slice(0, at);
  }
  return entries;
}

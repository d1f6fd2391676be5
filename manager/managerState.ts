/**
 * What one manager tells of itself to the others: where its Raft member and its store stand. Made
 * here and read here, so that both ends agree; it asks nobody.
 */
import { VERSION } from '../base/version.ts';
import { fromU64, toU64, word } from '../proto/convert.ts';
import type { ManagerStateResponse } from '../proto/services.ts';
import type { RaftNode } from './raft/node.ts';
import { hashFormat } from './replica.ts';
import type { StoreState } from './store/types.ts';

const ROLES = ['leader', 'follower', 'learner', 'candidate'] as const;
export type ManagerRole = (typeof ROLES)[number];

/** Another member as one manager knows it. */
export interface KnownMember {
  readonly raftId: number;
  readonly heardAgeMs: number | undefined;
  /** Told by the leader only. */
  readonly lag: number | undefined;
}

export interface ManagerState {
  readonly raftId: number;
  readonly role: ManagerRole;
  readonly term: number;
  readonly leaderRaftId: number | undefined;
  readonly commit: number;
  readonly applied: number;
  readonly lastIndex: number;
  readonly snapshotIndex: number;
  readonly storeVersion: number;
  readonly storeHash: string;
  readonly hashFormat: string;
  /** As of the version that was asked about; '' where it is not known. */
  readonly hashAt: string;
  readonly diskFull: boolean;
  readonly release: string;
  /** 0 = its store was not found to differ from the leader's. */
  readonly differsAt: number;
  readonly members: readonly KnownMember[];
}

export type RaftView = Pick<RaftNode, 'id' | 'status' | 'members'>;

/** `atVersion` 0: no older hash is asked for. */
export function ownState(
  raft: RaftView,
  store: StoreState,
  differsAt: number,
  atVersion: number,
): ManagerState {
  const { role, leaderId, ...status } = raft.status();
  const members = raft.members();
  const isLearner = members.some((member) => member.id === raft.id && member.learner);
  return {
    ...status,
    raftId: raft.id,
    role: isLearner ? 'learner' : role === 'preCandidate' ? 'candidate' : role,
    leaderRaftId: leaderId,
    storeVersion: store.version,
    storeHash: store.hash(),
    hashFormat: hashFormat(),
    hashAt: atVersion > status.applied ? '' : (store.hashAt(atVersion) ?? ''),
    release: VERSION,
    differsAt,
    members: members.map(({ id, heardAgeMs, lag }) => ({ raftId: id, heardAgeMs, lag })),
  };
}

export function stateToWire(state: ManagerState) {
  return {
    raftId: toU64(state.raftId, 'raftId'),
    role: state.role,
    term: toU64(state.term, 'term'),
    leaderRaftId: toU64(state.leaderRaftId ?? 0, 'leaderRaftId'),
    commit: toU64(state.commit, 'commit'),
    applied: toU64(state.applied, 'applied'),
    lastIndex: toU64(state.lastIndex, 'lastIndex'),
    snapshotIndex: toU64(state.snapshotIndex, 'snapshotIndex'),
    storeVersion: toU64(state.storeVersion, 'storeVersion'),
    storeHash: state.storeHash,
    hashFormat: state.hashFormat,
    hashAt: state.hashAt,
    diskFull: state.diskFull,
    release: state.release,
    differsAt: toU64(state.differsAt, 'differsAt'),
    members: state.members.map(({ raftId, heardAgeMs, lag }) => ({
      raftId: toU64(raftId, 'raftId'),
      ...(heardAgeMs === undefined ? {} : { heardAgeMs: toU64(Math.floor(heardAgeMs), 'age') }),
      ...(lag === undefined ? {} : { lag: toU64(lag, 'lag') }),
    })),
  };
}

/** SwarmError invalid where it is none. */
export function stateFromWire(wire: ManagerStateResponse): ManagerState {
  const leaderRaftId = fromU64(wire.leaderRaftId, 'leaderRaftId');
  return {
    raftId: fromU64(wire.raftId, 'raftId'),
    role: word(wire.role, ROLES, 'role'),
    term: fromU64(wire.term, 'term'),
    leaderRaftId: leaderRaftId === 0 ? undefined : leaderRaftId,
    commit: fromU64(wire.commit, 'commit'),
    applied: fromU64(wire.applied, 'applied'),
    lastIndex: fromU64(wire.lastIndex, 'lastIndex'),
    snapshotIndex: fromU64(wire.snapshotIndex, 'snapshotIndex'),
    storeVersion: fromU64(wire.storeVersion, 'storeVersion'),
    storeHash: wire.storeHash,
    hashFormat: wire.hashFormat,
    hashAt: wire.hashAt,
    diskFull: wire.diskFull,
    release: wire.release,
    differsAt: fromU64(wire.differsAt, 'differsAt'),
    members: wire.members.map((member) => ({
      raftId: fromU64(member.raftId, 'raftId'),
      heardAgeMs: member.heardAgeMs === undefined ? undefined : fromU64(member.heardAgeMs, 'age'),
      lag: member.lag === undefined ? undefined : fromU64(member.lag, 'lag'),
    })),
  };
}

/**
 * Whether two stores are the same where they can be compared: undefined when they cannot, as one is
 * ahead by too much or is of another release. `theirs` was asked about `own.storeVersion`.
 */
export function sameStore(
  own: Pick<ManagerState, 'storeHash' | 'hashFormat'>,
  hashAt: (version: number) => string | undefined,
  theirs: ManagerState,
): boolean | undefined {
  if (own.hashFormat !== theirs.hashFormat) return undefined;
  if (theirs.hashAt !== '') return theirs.hashAt === own.storeHash;
  const here = hashAt(theirs.storeVersion);
  return here === undefined ? undefined : here === theirs.storeHash;
}

/** What a person does about a manager whose store is not the leader's. */
export function differenceText(host: string, version: number): string {
  return (
    `the store of manager ${host} differs from the leader's (found at version ${version}): do ` +
    `not rely on what it answers. On another manager run "tsswarm node demote ${host}", then ` +
    `"tsswarm node promote ${host}": its store is made anew from the leader's. If several ` +
    "managers are named, the leader's may be the wrong one: demote that one first"
  );
}

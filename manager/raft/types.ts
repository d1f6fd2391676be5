/**
 * What the Raft driver needs of others (state machine, transport) and what it tells them. These are
 * the room's public words; the core's own are in core/types.ts. Declares only.
 */
import type { Clock } from '../../base/clock.ts';
import type { SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Meter } from '../../base/meter.ts';
import type { Random } from '../../base/random.ts';
import type { RaftDisk } from './disk/disk.ts';

export interface AppliedEntry {
  readonly index: number;
  readonly term: number;
  readonly data: Uint8Array;
}

export interface MemberAddress {
  /** Raft id: a positive safe integer, never used again once removed. */
  readonly id: number;
  /** host:port of the member's gRPC listener. */
  readonly address: string;
}

export interface Member extends MemberAddress {
  readonly learner: boolean;
}

export interface MemberStatus extends Member {
  /** It speaks from this address instead: its host was given another one. */
  readonly movedTo: string | undefined;
  readonly isLeader: boolean;
  /** Heard from within the last election timeout; undefined where this member cannot know. */
  readonly reachable: boolean | undefined;
  /** Known at the leader only: the last entry it is known to hold, and how many it lacks. */
  readonly matchIndex: number | undefined;
  readonly lag: number | undefined;
  /** Since it was heard from, own pauses left out; undefined if never, as followers of others. */
  readonly heardAgeMs: number | undefined;
}

export interface StateMachine {
  /** Committed entries in order. Synchronous and deterministic; must not throw. */
  apply(entries: readonly AppliedEntry[]): void;
  /**
   * Pins the state of this moment, then streams it in chunks of up to 4 MiB; `index` is that of the
   * last entry applied. The stream is read to its end or returned (iterator.return) to release it.
   */
  takeSnapshot(): { readonly index: number; readonly chunks: AsyncIterable<Uint8Array> };
  /** Replaces the state by that of a snapshot. Nothing is applied meanwhile. */
  restore(index: number, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** After each applied change of members, and after a restore. */
  membersChanged(members: readonly Member[]): void;
}

export interface Leadership {
  /** This member leads and has applied an entry of its own term: it may act. */
  readonly isLeader: boolean;
  readonly leaderId: number | undefined;
  readonly term: number;
}

export interface RaftStatus {
  readonly id: number;
  readonly term: number;
  readonly leaderId: number | undefined;
  readonly role: 'follower' | 'preCandidate' | 'candidate' | 'leader';
  readonly commit: number;
  readonly applied: number;
  readonly lastIndex: number;
  /** Of the newest snapshot that is durable here; 0 = none yet. */
  readonly snapshotIndex: number;
  /** Writes are refused until there is room for the log again. */
  readonly diskFull: boolean;
}

export interface TransportHandler {
  /** Bytes of one message; `from` is who the other end of the stream says, and proves, it is. */
  onMessage(from: MemberAddress, message: Uint8Array): void;
  /** A whole snapshot arrives; resolves when it is stored, rejects to have it sent again. */
  onSnapshot(
    from: MemberAddress,
    message: Uint8Array,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  /** Who says so listens there. */
  onHello(from: MemberAddress): void;
  /** Messages to `id` were lost, or the connection to it broke. */
  onUnreachable(id: number): void;
  /** Whether that member leads: it is looked for when it hangs up. */
  follows(id: number): boolean;
  /** It hung up, and nobody listens there any more. */
  onGone(id: number): void;
  /** Whether that member was taken out of the group for good; it is then told so. */
  wasRemoved(id: number): boolean;
  /** Another member says, in these words, that this one was taken out, or its whole node. */
  onRemoved(why: SwarmError): void;
}

/** A snapshot's bytes from an offset on; may be asked for again, with another offset. */
export type SnapshotChunks = (fromByte: number) => AsyncIterable<Uint8Array>;

/** Carries messages to other members. May lose, delay and reorder them; never alters them. */
export interface RaftTransport {
  /** Called once, before anything else. */
  start(handler: TransportHandler): void;
  /** Never blocks; drops when the peer's queue is full. */
  send(to: number, address: string, message: Uint8Array): void;
  /** What was given to send() goes out now; otherwise it does at the end of the turn. */
  flush(): void;
  /** Says to `to` who this member is and where it listens; it may say then that this one is out. */
  announce(to: number, address: string): void;
  /** Resolves when the receiver has stored it. A cut is gone on with where it was. */
  sendSnapshot(
    to: number,
    address: string,
    message: Uint8Array,
    chunks: SnapshotChunks,
  ): Promise<void>;
  /** These are the members; connections to others end, and who was removed for good is told so. */
  setPeers(peers: readonly MemberAddress[]): void;
  stop(): Promise<void>;
}

export interface RaftNodeOptions {
  /** A positive safe integer, new for every member that ever joins. */
  readonly id: number;
  /** Where this member listens now, which others may not know yet. */
  readonly address?: string;
  /** The member's state: `<dir>/wal` and `<dir>/snap`. */
  readonly dir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly transport: RaftTransport;
  readonly stateMachine: StateMachine;
  /** First start of a new group: the same voters, in the same order, on each of them. */
  readonly bootstrap?: { readonly voters: readonly MemberAddress[] };
  /** First start of a member that a leader adds to its group. */
  readonly join?: boolean;
  /** The others have taken this member out; they hear it no more. May be called again. */
  readonly onRemoved?: (why: SwarmError) => void;
  /** The log may not have been written: the process has to end. */
  readonly onFatal: (error: Error) => void;
  /** What is counted is counted there. */
  readonly meter?: Meter;
  /** Tests and the simulator bring their own; default: a DiskStore on `dir`. */
  readonly disk?: RaftDisk;
  /** The member's files are sealed with it; in the clear without. */
  readonly sealKey?: Uint8Array;
  /** What they sealed is read, and replaced as soon as can be. */
  readonly olderSealKeys?: readonly Uint8Array[];
  /** Nothing in the member's files needs an older key any more: they may be forgotten. */
  readonly onSealSettled?: () => void;
  /** Entries between snapshots; default 10,000. */
  readonly snapshotEntries?: number;
}

/**
 * The bounds and rhythms of a manager's Raft member, each with its unit and reason. Constants only.
 */
import { KIB, MIB } from '../../base/bytes.ts';

/** The leader's heartbeat; one tick of the core. */
export const TICK_MS = 100;
export const HEARTBEAT_TICKS = 1;
/** Elections start 10-19 ticks (1-2 s) after the leader's last word: quick, yet no short pause. */
export const ELECTION_TICKS = 10;
export const ELECTION_MS = TICK_MS * ELECTION_TICKS;
/** A wake-up this late is this process's own pause: it says nothing about the others. */
export const PAUSE_MS = 250;
/** One proposal; a transaction is at most 1.5 MiB. */
export const MAX_PROPOSAL_BYTES = 2 * MIB;
/** Entries in one append message: short enough not to delay a heartbeat behind it for long. */
export const MAX_MESSAGE_BYTES = 512 * KIB;
/**
 * Appends under way to one member: what is proposed meanwhile goes together in the next, as a
 * message costs far more than an entry. Two, so that one travels while the other is written.
 */
export const MAX_INFLIGHT_MESSAGES = 2;
export const MAX_INFLIGHT_BYTES = 8 * MIB;
/** Proposed and not committed; beyond it proposals are refused: back-pressure. */
export const MAX_UNCOMMITTED_BYTES = 32 * MIB;
/** Committed entries handed to the state machine at once. */
export const MAX_APPLYING_BYTES = 1 * MIB;
/** A snapshot is taken after this many entries (Docker Swarm's number), or this many bytes. */
export const SNAPSHOT_ENTRIES = 10_000;
export const SNAPSHOT_LOG_BYTES = 64 * MIB;
/** Entries kept behind a snapshot, so that a member a little behind needs no snapshot. */
export const TRAILING_ENTRIES = 500;
/** A write that is not committed by then fails with no_quorum. */
export const PROPOSAL_TIMEOUT_MS = 10_000;
export const READ_TIMEOUT_MS = 5_000;
/** A member is called reachable when heard from within this time: just less than CheckQuorum's. */
export const REACHABLE_MS = ELECTION_MS - TICK_MS;
/** A failed snapshot is tried again after this. */
export const SNAPSHOT_RETRY_MS = 1_000;
/** Of all snapshots that one member sends: 1 GB in 16 s leaves disk and network for the rest. */
export const SNAPSHOT_BYTES_PER_S = 64 * MIB;
/** A snapshot's stream without progress for this long is cut... */
export const SNAPSHOT_STALL_MS = 10_000;
/** ...and a new one tried after this; so often without a byte gained, then the transfer failed. */
export const SNAPSHOT_REDIAL_MS = 500;
export const SNAPSHOT_REDIALS = 5;
/** Its receiver waits this long for the next stream: the sender may notice only after a stall. */
export const SNAPSHOT_RESUME_MS = 2 * SNAPSHOT_STALL_MS;
/**
 * While a snapshot is sent, the log after it stays for the receiver as long as it is no larger, or
 * it would need the next snapshot as soon as it has this one.
 */
export const SENDING_LOG_BYTES = 4 * SNAPSHOT_LOG_BYTES;
export const TRANSFER_TIMEOUT_MS = 3_000;
/** A learner may be promoted once it lacks no more entries than this... */
export const PROMOTE_LAG_ENTRIES = 64;
/** ...which is waited for this long. */
export const CATCH_UP_TIMEOUT_MS = 30_000;
/** Membership operations waiting at one leader. */
export const MAX_MEMBERSHIP_QUEUE = 16;
/** A leader whose disk is full hands over at most this often; twice as rarely each round... */
export const HAND_OVER_EVERY_MS = 10_000;
/** ...down to this: an election takes of the room that is left, too. */
export const HAND_OVER_MOST_MS = 600_000;
/** A clean stop waits this long for snapshots under way. */
export const STOP_TIMEOUT_MS = 5_000;

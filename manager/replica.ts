/**
 * Joins Raft and store: model <-> log bytes. As Raft's state machine it applies committed entries
 * to the store and streams snapshots of it; as the store's proposer it turns a transaction into one
 * entry and hands back what apply said of it. It decides nothing and keeps no state of its own but
 * the answers that proposals under way still wait for.
 */
import { assert } from '../base/assert.ts';
import { KIB, MIB } from '../base/bytes.ts';
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import {
  decodeLogEntry,
  decodeRecord,
  decodeSnapshotHead,
  encodeLogEntry,
  encodeSnapshotHead,
  type LogEntry,
  RecordEncoder,
  recordSchemaDigest,
  type SnapshotHead,
} from '../proto/convert.ts';
import { ClusterClock } from './clusterClock.ts';
import type { AppliedEntry, Member, StateMachine } from './raft/types.ts';
import { RecordReader, RecordWriter } from './snapshotRecords.ts';
import { HASH_SCHEME } from './store/hash.ts';
import { RestoredContents, Store, type StoredRecord } from './store/store.ts';
import type { ApplyResult, Proposer, Transaction } from './store/types.ts';

/** Docker Swarm's bounds of one transaction; beyond them a caller splits. */
export const TRANSACTION_CHANGES = 200;
export const TRANSACTION_BYTES = 1.5 * MIB;
/** Small enough that encoding one chunk does not hold up the event loop for more than ~2 ms. */
const SNAPSHOT_CHUNK_BYTES = 64 * KIB;
/** Records of other tables than tasks, each of which takes as long as a hundred of those. */
const SNAPSHOT_CHUNK_OTHERS = 8;
/** Room for the record that makes a chunk full, mostly. */
const SNAPSHOT_ROOM_BYTES = SNAPSHOT_CHUNK_BYTES + 4 * KIB;

/** Above what Raft lets be under way; a proposal's answer is fetched as soon as it is applied. */
const ANSWERS_MAX = 100_000;

/**
 * What does not come back from its bytes as it went in: half a character becomes U+FFFD, and a key
 * of this name is none of a plain object's. Such an entry is read back here as others read it.
 */
const UNEVEN = [Buffer.from('\ufffd'), Buffer.from('__proto__')];

/** What the replica needs of Raft; RaftNode has it. */
export interface RaftPort {
  /** Resolves once the entry is committed and applied here. */
  propose(data: Uint8Array): Promise<{ readonly index: number; readonly term: number }>;
  /** Resolves once everything committed before the call has been applied here. */
  readIndex(): Promise<unknown>;
  /** Leads, and has applied an entry of its own term. */
  readonly isLeader: boolean;
}

interface Answer {
  readonly term: number;
  readonly result: ApplyResult;
}

export class Replica implements StateMachine, Proposer {
  readonly store: Store;
  /** What entries are stamped with; the leader's loops must count time by the same. */
  readonly clock: Clock;
  readonly #onMembers: (members: readonly Member[]) => void;
  /** What apply said, by index, while any proposal is under way. */
  readonly #answers = new Map<number, Answer>();
  /** What this manager proposed, by its bytes: it need not read them back to apply it. */
  readonly #own = new Map<Uint8Array, LogEntry>();
  #underWay = 0;
  #raft: RaftPort | undefined;

  constructor(options: {
    readonly clock: Clock;
    readonly store?: Store;
    readonly onMembers?: (members: readonly Member[]) => void;
  }) {
    this.store = options.store ?? new Store();
    this.clock = new ClusterClock(options.clock, () => this.store.atMs);
    this.#onMembers = options.onMembers ?? (() => {});
    // Worked out for good: not in the middle of something else.
    hashFormat();
  }

  /** Raft is opened with this as its state machine, then attached so that proposals can go out. */
  attach(raft: RaftPort): void {
    this.#raft = raft;
  }

  // ---- Proposer --------------------------------------------------------------------------------

  get isLeader(): boolean {
    return this.#raft?.isLeader ?? false;
  }

  async propose(transaction: Transaction): Promise<ApplyResult> {
    const { changes } = transaction;
    if (changes.length > TRANSACTION_CHANGES) {
      throw new SwarmError(
        'exhausted',
        `${changes.length} changes in one transaction: at most ${TRANSACTION_CHANGES}; split it`,
      );
    }
    const raft = this.#port();
    const entry = { ...transaction, atMs: this.clock.wallMs() };
    const data = encodeLogEntry(entry);
    if (data.length > TRANSACTION_BYTES) {
      throw new SwarmError(
        'exhausted',
        `a transaction of ${data.length} bytes: at most ${TRANSACTION_BYTES}; split it`,
      );
    }
    this.#underWay += 1;
    if (comesBack(data)) this.#own.set(data, entry);
    try {
      const { index, term } = await raft.propose(data);
      const answer = this.#answers.get(index);
      this.#answers.delete(index);
      assert(answer?.term === term, 'a proposal was applied without an answer', { index, term });
      return answer.result;
    } finally {
      this.#own.delete(data);
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#answers.clear();
    }
  }

  async barrier(): Promise<void> {
    await this.#port().readIndex();
  }

  #port(): RaftPort {
    if (this.#raft !== undefined) return this.#raft;
    throw new SwarmError('unavailable', 'the manager is starting; try again in a moment');
  }

  // ---- StateMachine ----------------------------------------------------------------------------

  apply(entries: readonly AppliedEntry[]): void {
    this.store.together(() => this.#applyAll(entries));
  }

  #applyAll(entries: readonly AppliedEntry[]): void {
    for (const { index, term, data } of entries) {
      if (data.length === 0) {
        this.store.advance(index);
        continue;
      }
      const { atMs, atomic, changes } = this.#own.get(data) ?? decodeLogEntry(data);
      const result = this.store.apply(index, atMs, { atomic, changes });
      if (this.#underWay > 0) this.#remember(index, { term, result });
    }
  }

  /** Answers that nobody fetches (of proposals given up) make room for newer ones. */
  #remember(index: number, answer: Answer): void {
    this.#answers.set(index, answer);
    if (this.#answers.size <= ANSWERS_MAX) return;
    for (const oldest of this.#answers.keys()) {
      this.#answers.delete(oldest);
      return;
    }
  }

  takeSnapshot(): { readonly index: number; readonly chunks: AsyncIterable<Uint8Array> } {
    const snapshot = this.store.snapshot();
    const { atMs, hash } = snapshot;
    const generator = encodeSnapshot({ atMs, hash, hashFormat: hashFormat() }, snapshot.records);
    const chunks: AsyncIterableIterator<Uint8Array> = {
      [Symbol.asyncIterator]: () => chunks,
      next: () => generator.next(),
      return: async () => {
        // A generator that was never begun does not run its finally: release the pin by hand.
        snapshot.release();
        await generator.return(undefined);
        return { done: true, value: undefined };
      },
    };
    return { index: snapshot.version, chunks };
  }

  async restore(index: number, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const records = new RecordReader(chunks);
    const first = await records.next();
    if (first === undefined) throw new SwarmError('corrupt', 'an empty snapshot');
    const head = decodeSnapshotHead(first[0]);
    const expected = head.hashFormat === hashFormat() ? head.hash : '';
    const contents = new RestoredContents();
    for (const bytes of first.slice(1)) contents.add(decodeRecord(bytes));
    for (let some = await records.next(); some !== undefined; some = await records.next()) {
      for (const bytes of some) contents.add(decodeRecord(bytes));
    }
    this.store.replace(index, head.atMs, contents, expected);
  }

  membersChanged(members: readonly Member[]): void {
    this.#onMembers(members);
  }
}

function comesBack({ buffer, byteOffset, length }: Uint8Array): boolean {
  const bytes = Buffer.from(buffer, byteOffset, length);
  return !UNEVEN.some((part) => bytes.includes(part));
}

/** What was hashed and how: hashes of a release with other fields say nothing here. */
export function hashFormat(): string {
  return `${HASH_SCHEME}-${recordSchemaDigest()}`;
}

/** The head, then the objects. */
async function* encodeSnapshot(
  head: SnapshotHead,
  records: Iterable<StoredRecord>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const encoder = new RecordEncoder();
  const writer = new RecordWriter(SNAPSHOT_ROOM_BYTES);
  const take = (bytes: Buffer, start: number): void => writer.addFrom(bytes, start);
  let others = 0;
  writer.add(encodeSnapshotHead(head));
  for (const { table, object } of records) {
    encoder.encode(table, object, take);
    if (table !== 'task') others += 1;
    if (writer.bytes < SNAPSHOT_CHUNK_BYTES && others < SNAPSHOT_CHUNK_OTHERS) continue;
    yield writer.take();
    others = 0;
  }
  if (writer.bytes > 0) yield writer.take();
}

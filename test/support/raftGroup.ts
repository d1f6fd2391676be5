/**
 * A few Raft cores with their messages in hand, for tests of single behaviours: everything is
 * durable at once, messages are delivered when asked, and may be dropped by a filter. No time, no
 * randomness but what the test sets.
 */
import { SeededRandom } from '../../base/random.ts';
import { decodeConfChange } from '../../manager/raft/core/confCodec.ts';
import { MemoryLog } from '../../manager/raft/core/memoryLog.ts';
import { RawNode } from '../../manager/raft/core/rawnode.ts';
import {
  type ConfState,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type Message,
  type RaftConfig,
  type ReadState,
} from '../../manager/raft/core/types.ts';

export interface GroupMember {
  readonly id: number;
  readonly memory: MemoryLog;
  readonly raw: RawNode;
  readonly applied: Entry[];
  readonly reads: ReadState[];
  confState: ConfState;
}

export class RaftGroup {
  readonly members = new Map<number, GroupMember>();
  messages: Message[] = [];
  /** Messages for which it is false are lost. */
  passes: (message: Message) => boolean = () => true;

  add(id: number, conf: Partial<ConfState>, config: Partial<RaftConfig> = {}): GroupMember {
    const memory = new MemoryLog();
    const confState = { ...EMPTY_CONF_STATE, ...conf };
    if (confState.voters.length > 0) {
      memory.installSnapshot({ index: 1, term: 1, confState, data: EMPTY_BYTES });
      memory.setHardState({ term: 1, vote: 0, commit: 1 });
    }
    const raw = new RawNode({
      id,
      electionTicks: 10,
      heartbeatTicks: 1,
      storage: memory,
      applied: memory.lastIndex(),
      random: new SeededRandom(id),
      asyncStorageWrites: false,
      maxSizePerMessageBytes: 1_000_000,
      maxInflightMessages: 256,
      checkQuorum: true,
      preVote: true,
      stepDownOnRemoval: true,
      ...config,
    });
    const member = { id, memory, raw, applied: [], reads: [], confState };
    this.members.set(id, member);
    return member;
  }

  get(id: number): GroupMember {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`no member ${id}`);
    return member;
  }

  /** Takes everything `id` has to say; its messages wait for deliver(). */
  collect(id: number): void {
    const member = this.get(id);
    while (member.raw.hasReady()) {
      const ready = member.raw.ready();
      if (ready.hardState !== undefined) member.memory.setHardState(ready.hardState);
      if (ready.snapshot !== undefined) {
        member.memory.installSnapshot(ready.snapshot);
        member.confState = ready.snapshot.confState;
      }
      member.memory.append(ready.entries);
      this.messages.push(...ready.messages);
      member.reads.push(...ready.readStates);
      for (const entry of ready.committedEntries) {
        member.applied.push(entry);
        if (entry.type === 'confChange') {
          member.confState = member.raw.applyConfChange(decodeConfChange(entry.data));
        }
      }
      member.raw.advance();
    }
  }

  /** Delivers what waits, once; returns it. */
  deliver(): Message[] {
    for (const id of this.members.keys()) this.collect(id);
    const batch = this.messages;
    this.messages = [];
    for (const message of batch) {
      // As the driver does: a snapshot that does not know the member is replaced, not sent.
      const known = message.snapshot?.confState;
      const stranger =
        known !== undefined && ![...known.voters, ...known.learners].includes(message.to);
      if (stranger) this.snapshot(message.from);
      const passes = !stranger && this.passes(message);
      if (passes) this.members.get(message.to)?.raw.step(message);
      if (message.type === 'snapshot')
        this.get(message.from).raw.reportSnapshot(message.to, passes);
    }
    return batch;
  }

  /** Until nothing is left to deliver. */
  settle(): void {
    for (let round = 0; round < 1000; round += 1) if (this.deliver().length === 0) return;
    throw new Error('the group does not come to rest');
  }

  /** Makes `id` campaign and lead; whatever lease the others hold has run out. */
  elect(id: number): void {
    for (const { raw } of this.members.values()) {
      raw.raft.electionElapsed = raw.raft.config.electionTicks;
    }
    this.get(id).raw.campaign();
    this.settle();
    const { role } = this.get(id).raw.raft;
    if (role !== 'leader') throw new Error(`${id} did not win: ${role}`);
  }

  /** `id` takes a snapshot of what it has applied, and forgets the log up to there. */
  snapshot(id: number): void {
    const { raw, memory, confState } = this.get(id);
    const { applied: index } = raw.raft.log;
    const term = raw.raft.log.termOrZero(index);
    memory.noteSnapshot({ index, term, confState, data: EMPTY_BYTES });
    memory.compact(index);
  }

  tick(id: number, count = 1): void {
    for (let at = 0; at < count; at += 1) this.get(id).raw.tick();
  }

  propose(id: number, text: string): void {
    const error = this.get(id).raw.propose(new TextEncoder().encode(text));
    if (error !== undefined) throw new Error(error);
  }

  texts(id: number): string[] {
    return this.get(id)
      .applied.filter((entry) => entry.type === 'normal' && entry.data.length > 0)
      .map((entry) => new TextDecoder().decode(entry.data));
  }
}

export function groupOf(count: number, config: Partial<RaftConfig> = {}): RaftGroup {
  const group = new RaftGroup();
  const voters = Array.from({ length: count }, (_, at) => at + 1);
  for (const id of voters) group.add(id, { voters }, config);
  return group;
}

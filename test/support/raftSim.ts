/**
 * A seeded simulation of a group of Raft cores: one list of random events (ticks, deliveries,
 * losses, duplicates, disk completions, crashes, partitions, proposals, reads, member changes,
 * snapshots), then calm. Safety is checked after every event, liveness at the end. No time, no
 * threads, no I/O.
 */
import assert from 'node:assert/strict';
import { SeededRandom } from '../../base/random.ts';
import { decodeConfChange } from '../../manager/raft/core/confCodec.ts';
import { ConfChangeError } from '../../manager/raft/core/confchange.ts';
import { MemoryLog } from '../../manager/raft/core/memoryLog.ts';
import { RawNode } from '../../manager/raft/core/rawnode.ts';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  type ConfChange,
  type ConfChangeStep,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type Message,
  type SnapshotMeta,
} from '../../manager/raft/core/types.ts';
import type { Applied, SimNode, SimOptions, Write } from './raftSimTypes.ts';

const MAX_NODES = 7;

export class RaftSim {
  readonly #random: SeededRandom;
  readonly #options: SimOptions;
  readonly #nodes = new Map<number, SimNode>();
  #network: Message[] = [];
  #blocked = new Set<string>();
  #lossRate = 0;
  readonly #leaders = new Map<number, number>();
  readonly #committed = new Map<number, Applied>();
  readonly #acked = new Map<string, number>();
  readonly #pending = new Map<string, { index: number; term: number; node: number }>();
  readonly #reads = new Map<string, { atLeast: number; node: number }>();
  readonly #snapshotStates = new Map<string, Map<number, Applied>>();
  readonly #snapshots = new Map<string, SnapshotMeta>();
  #serial = 0;
  #maxAcked = 0;
  #nextId = 1;
  /** What happened, as numbers: equal for equal seeds. */
  readonly trace: number[] = [];

  constructor(options: SimOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    const count = 1 + this.#random.below(5);
    const voters = Array.from({ length: count }, (_, at) => at + 1);
    this.#nextId = count + 1;
    const base: SnapshotMeta = {
      index: 1,
      term: 1,
      confState: { ...EMPTY_CONF_STATE, voters },
      data: EMPTY_BYTES,
    };
    this.#keepSnapshot(base, new Map());
    for (const id of voters) this.#addNode(id, base);
  }

  get acked(): number {
    return this.#acked.size;
  }

  #chance(rate: number): boolean {
    return this.#random.float() < rate;
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.#random.below(items.length)];
  }

  #addNode(id: number, base: SnapshotMeta | undefined): void {
    const memory = new MemoryLog();
    if (base !== undefined) {
      memory.installSnapshot(base);
      memory.setHardState({ term: base.term, vote: 0, commit: base.index });
    }
    const node = { id, memory, up: false, writes: [], applied: new Map() };
    const rest = { appliedIndex: 0, appliedTerm: 0, confState: EMPTY_CONF_STATE };
    const created = { ...node, ...rest } as unknown as SimNode;
    this.#nodes.set(id, created);
    this.#boot(created);
  }

  #boot(node: SimNode): void {
    const snapshot = node.memory.snapshot();
    const state = snapshot === undefined ? undefined : this.#stateOf(snapshot);
    node.applied = new Map(state ?? []);
    node.appliedIndex = snapshot?.index ?? 0;
    node.appliedTerm = snapshot?.term ?? 0;
    node.confState = snapshot?.confState ?? EMPTY_CONF_STATE;
    node.writes = [];
    const hard = node.memory.hardState;
    const commit = Math.max(hard.commit, node.appliedIndex);
    node.memory.setHardState({ ...hard, commit });
    node.raw = new RawNode({
      id: node.id,
      electionTicks: 10,
      heartbeatTicks: 1,
      storage: node.memory,
      applied: node.appliedIndex,
      random: this.#random,
      asyncStorageWrites: true,
      maxSizePerMessageBytes: this.#random.below(2) === 0 ? 60 : 4096,
      maxApplyingBytes: 200,
      maxUncommittedBytes: 2000,
      maxInflightMessages: 1 + this.#random.below(8),
      maxInflightBytes: 8192,
      checkQuorum: true,
      preVote: true,
      disableProposalForwarding: true,
      stepDownOnRemoval: true,
    });
    node.up = true;
  }

  #keepSnapshot(meta: SnapshotMeta, state: Map<number, Applied>): void {
    this.#snapshots.set(`${meta.index}/${meta.term}`, meta);
    this.#snapshotStates.set(`${meta.index}/${meta.term}`, state);
  }

  #stateOf(meta: SnapshotMeta): Map<number, Applied> {
    const state = this.#snapshotStates.get(`${meta.index}/${meta.term}`);
    assert.ok(state !== undefined, 'a snapshot nobody took');
    return state;
  }

  // ---- events ----

  run(): void {
    for (let event = 0; event < this.#options.events; event += 1) {
      this.#event();
      if (event % 16 === 0) this.#note();
    }
    this.#calm();
  }

  #note(): void {
    for (const { raw, id } of this.#nodes.values()) {
      const { raft } = raw;
      this.trace.push(id, raft.term, raft.log.committed, raft.log.lastIndex(), raft.leader);
    }
  }

  #event(): void {
    const roll = this.#random.float();
    const up = [...this.#nodes.values()].filter((node) => node.up);
    const node = this.#pick(up);
    if (roll < 0.2) {
      if (node !== undefined) this.#step(node, () => node.raw.tick());
    } else if (roll < 0.62) {
      for (let count = 1 + this.#random.below(4); count > 0; count -= 1) this.#deliver();
    } else if (roll < 0.82) {
      if (node !== undefined) this.#completeWrite(node);
    } else if (roll < 0.9) {
      if (node !== undefined) this.#propose(node);
    } else if (roll < 0.94) {
      if (node !== undefined) this.#read(node);
    } else if (roll < 0.955) {
      if (node !== undefined) this.#snapshot(node);
    } else if (roll < 0.97) {
      if (node !== undefined) this.#changeMembers(node);
    } else if (roll < 0.97 + (this.#options.crashRate ?? 0.004)) {
      if (node !== undefined) this.#crash(node);
    } else if (roll < 0.99) {
      const down = this.#pick([...this.#nodes.values()].filter((other) => !other.up));
      if (down !== undefined) this.#boot(down);
    } else if (roll < 0.992) {
      this.#partition();
    } else if (roll < 0.998) {
      this.#blocked = new Set();
      this.#lossRate = this.#random.float() * 0.3;
    } else if (node !== undefined) {
      const to = this.#pick([...this.#nodes.keys()]);
      if (to !== undefined) this.#step(node, () => node.raw.transferLeadership(to));
    }
  }

  #step(node: SimNode, input: () => void): void {
    input();
    this.#pump(node);
  }

  #pump(node: SimNode): void {
    while (node.up && node.raw.hasReady()) {
      const ready = node.raw.ready();
      if (ready.softState?.role === 'leader') this.#newLeader(node);
      for (const message of ready.messages) {
        if (message.to === APPEND_THREAD) {
          const { responses } = message;
          if (this.#options.mutant === 'ackBeforeSync') {
            this.#respond(
              node,
              responses.filter((response) => response.to !== node.id),
            );
            const own = responses.filter((response) => response.to === node.id);
            node.writes.push({ ready, responses: own });
          } else {
            node.writes.push({ ready, responses });
          }
        } else if (message.to === APPLY_THREAD) {
          this.#apply(node, message);
        } else {
          this.#network.push(message);
        }
      }
      for (const { context, index } of ready.readStates) this.#readDone(node, context, index);
    }
  }

  #respond(node: SimNode, responses: readonly Message[]): void {
    for (const response of responses) {
      if (response.to === node.id) node.raw.step(response);
      else this.#network.push(response);
    }
  }

  #persist(node: SimNode, { ready }: Write): void {
    const { memory } = node;
    if (ready.hardState !== undefined) {
      const vote = this.#options.mutant === 'forgetVote' ? 0 : ready.hardState.vote;
      memory.setHardState({ ...ready.hardState, vote });
    }
    if (ready.snapshot !== undefined) memory.installSnapshot(ready.snapshot);
    memory.append(ready.entries);
  }

  #completeWrite(node: SimNode): void {
    const write = node.writes.shift();
    if (write === undefined) return;
    this.#persist(node, write);
    const { snapshot } = write.ready;
    if (snapshot !== undefined) {
      node.applied = new Map(this.#stateOf(snapshot));
      node.appliedIndex = snapshot.index;
      node.appliedTerm = snapshot.term;
      node.confState = snapshot.confState;
    }
    this.#respond(node, write.responses);
    this.#pump(node);
  }

  /** Everything not durable is lost; some of what was under way may be durable all the same. */
  #crash(node: SimNode): void {
    const kept = this.#random.below(node.writes.length + 1);
    for (const write of node.writes.slice(0, kept)) this.#persist(node, write);
    node.writes = [];
    node.up = false;
    for (const [data, pending] of this.#pending) {
      if (pending.node === node.id) this.#pending.delete(data);
    }
    for (const [key, read] of this.#reads) if (read.node === node.id) this.#reads.delete(key);
  }

  #deliver(): void {
    if (this.#network.length === 0) return;
    // Mostly in order, sometimes not.
    const at = this.#chance(0.8) ? 0 : this.#random.below(Math.min(16, this.#network.length));
    const [message] = this.#network.splice(at, 1);
    if (this.#chance(0.02)) this.#network.push(message);
    const node = this.#nodes.get(message.to);
    const cut = this.#blocked.has(`${message.from}>${message.to}`);
    const lost = cut || node === undefined || !node.up || this.#chance(this.#lossRate);
    const sender = this.#nodes.get(message.from);
    if (message.type === 'snapshot' && sender?.up === true) {
      this.#step(sender, () => sender.raw.reportSnapshot(message.to, !lost));
    }
    if (lost) {
      if (sender?.up === true && this.#chance(0.3)) {
        this.#step(sender, () => sender.raw.reportUnreachable(message.to));
      }
      return;
    }
    this.#step(node, () => node.raw.step(message));
  }

  #partition(): void {
    this.#blocked = new Set();
    const ids = [...this.#nodes.keys()];
    const side = new Set(ids.filter(() => this.#chance(0.5)));
    const oneWay = this.#chance(0.3);
    for (const from of ids) {
      for (const to of ids) {
        if (side.has(from) === side.has(to)) continue;
        if (oneWay && side.has(to)) continue;
        this.#blocked.add(`${from}>${to}`);
      }
    }
  }

  #propose(node: SimNode): void {
    if (node.raw.raft.role !== 'leader') return;
    this.#serial += 1;
    const data = `w${this.#serial}`;
    this.#step(node, () => {
      const { raft } = node.raw;
      if (node.raw.propose(new TextEncoder().encode(data)) !== undefined) return;
      this.#pending.set(data, { index: raft.log.lastIndex(), term: raft.term, node: node.id });
    });
  }

  #read(node: SimNode): void {
    this.#serial += 1;
    const key = `r${this.#serial}`;
    this.#reads.set(key, { atLeast: this.#maxAcked, node: node.id });
    if (this.#options.mutant === 'staleRead' && node.raw.raft.role === 'leader') {
      this.#readDone(node, new TextEncoder().encode(key), node.raw.raft.log.committed);
      return;
    }
    this.#step(node, () => node.raw.readIndex(new TextEncoder().encode(key)));
  }

  #readDone(node: SimNode, context: Uint8Array, index: number): void {
    const key = new TextDecoder().decode(context);
    const read = this.#reads.get(key);
    if (read === undefined || read.node !== node.id) return;
    this.#reads.delete(key);
    assert.ok(index >= read.atLeast, `stale read: ${index} < ${read.atLeast}`);
  }

  #snapshot(node: SimNode): void {
    const { memory, appliedIndex } = node;
    if (appliedIndex <= (memory.snapshot()?.index ?? 0)) return;
    // Only what is durable here can be the base of a snapshot.
    if (memory.lastIndex() < appliedIndex) return;
    const meta: SnapshotMeta = {
      index: appliedIndex,
      term: node.appliedTerm,
      confState: node.confState,
      data: EMPTY_BYTES,
    };
    this.#keepSnapshot(meta, new Map(node.applied));
    memory.noteSnapshot(meta);
    memory.compact(Math.max(0, appliedIndex - this.#random.below(6)));
  }

  #changeMembers(node: SimNode): void {
    const { raft } = node.raw;
    if (raft.role !== 'leader') return;
    if (raft.tracker.config.voters[1].size > 0 && this.#chance(0.5)) {
      this.#proposeChange(node, []);
      return;
    }
    const steps: ConfChangeStep[] = [];
    const count = this.#chance(0.5) ? 1 : 2;
    let taken = false;
    for (let at = 0; at < count; at += 1) {
      const members = [...raft.tracker.progress.keys()];
      const kind = this.#random.below(4);
      const member = this.#pick(members);
      if (kind === 0 && this.#nextId <= MAX_NODES) {
        const id = this.#nextId;
        this.#nextId += 1;
        this.#addNode(id, undefined);
        steps.push({ type: this.#chance(0.5) ? 'addVoter' : 'addLearner', id });
      } else if (member !== undefined && kind === 2) {
        steps.push({ type: 'addVoter', id: member });
      } else if (member !== undefined && raft.tracker.config.voters[0].size > 2 && !taken) {
        // One voter less at a time, and never down to one: a leader that applies its own removal
        // with more entries behind it can leave a pair that cannot elect (as in etcd; the driver
        // hands over before it removes the leader).
        taken = true;
        steps.push({ type: kind === 1 ? 'remove' : 'addLearner', id: member });
      }
    }
    if (steps.length > 0) this.#proposeChange(node, steps);
  }

  #proposeChange(node: SimNode, changes: readonly ConfChangeStep[]): void {
    const transitions = ['auto', 'jointImplicit', 'jointExplicit'] as const;
    const transition = changes.length === 0 ? 'auto' : transitions[this.#random.below(3)];
    const change: ConfChange = { transition, changes, context: EMPTY_BYTES };
    this.#step(node, () => node.raw.proposeConfChange(change));
  }

  // ---- applying and checking ----

  #apply(node: SimNode, message: Message): void {
    for (const entry of message.entries) {
      assert.equal(entry.index, node.appliedIndex + 1, 'applied out of order');
      const data = entry.type === 'normal' ? new TextDecoder().decode(entry.data) : 'conf';
      const applied: Applied = { term: entry.term, data };
      const known = this.#committed.get(entry.index);
      if (known === undefined) this.#committed.set(entry.index, applied);
      else assert.deepEqual(applied, known, `state machine safety at ${entry.index}`);
      node.applied.set(entry.index, applied);
      node.appliedIndex = entry.index;
      node.appliedTerm = entry.term;
      if (entry.type === 'confChange') this.#applyConf(node, entry);
      const pending = this.#pending.get(data);
      if (pending === undefined || pending.node !== node.id) continue;
      if (pending.index !== entry.index) continue;
      assert.equal(pending.term, entry.term);
      this.#pending.delete(data);
      this.#acked.set(data, entry.index);
      this.#maxAcked = Math.max(this.#maxAcked, entry.index);
    }
    this.#respond(node, message.responses);
  }

  #applyConf(node: SimNode, entry: Entry): void {
    try {
      node.confState = node.raw.applyConfChange(decodeConfChange(entry.data));
    } catch (error) {
      if (!(error instanceof ConfChangeError)) throw error;
    }
  }

  #newLeader(node: SimNode): void {
    const { raft } = node.raw;
    const other = this.#leaders.get(raft.term);
    assert.ok(other === undefined || other === node.id, `two leaders of term ${raft.term}`);
    this.#leaders.set(raft.term, node.id);
    for (const [index, { term }] of this.#committed) {
      if (index < raft.log.firstIndex()) continue;
      assert.equal(raft.log.term(index), term, `leader ${node.id} lacks committed ${index}`);
    }
  }

  // ---- calm: everything works again ----

  #calm(): void {
    this.#blocked = new Set();
    this.#lossRate = 0;
    for (const node of this.#nodes.values()) if (!node.up) this.#boot(node);
    const probe = `last${this.#options.seed}`;
    let proposed = false;
    for (let round = 0; round < 400; round += 1) {
      for (const node of this.#nodes.values()) this.#step(node, () => node.raw.tick());
      this.#settle();
      const leader = [...this.#nodes.values()].find(({ raw }) => raw.raft.role === 'leader');
      if (leader === undefined) continue;
      if (!proposed || leader.raw.raft.tracker.config.voters[1].size > 0) {
        const joint = leader.raw.raft.tracker.config.voters[1].size > 0;
        if (joint) this.#proposeChange(leader, []);
        else if (this.#proposeProbe(leader, probe)) proposed = true;
        this.#settle();
      }
      this.#snapshotForStrangers(leader);
      if (proposed && this.#converged(leader, probe)) return;
    }
    const states = [...this.#nodes.values()].map(({ id, raw, appliedIndex, confState }) => {
      const { role, term, leader, log } = raw.raft;
      const conf = JSON.stringify(confState);
      return `${id}:${role} t${term} l${leader} c${log.committed} a${appliedIndex} ${conf}`;
    });
    assert.fail(`no progress after the faults ended: ${states.join(', ')}`);
  }

  #proposeProbe(leader: SimNode, probe: string): boolean {
    let accepted = false;
    this.#step(leader, () => {
      accepted = leader.raw.propose(new TextEncoder().encode(probe)) === undefined;
    });
    return accepted;
  }

  /** What the driver does for a member that the newest snapshot does not know. */
  #snapshotForStrangers(leader: SimNode): void {
    const known = leader.memory.snapshot()?.confState;
    for (const id of leader.raw.raft.tracker.progress.keys()) {
      const { voters = [], learners = [] } = known ?? {};
      if (!voters.includes(id) && !learners.includes(id)) this.#snapshot(leader);
    }
  }

  #settle(): void {
    for (let bound = 0; bound < 10_000; bound += 1) {
      const writer = [...this.#nodes.values()].find((node) => node.writes.length > 0);
      if (writer !== undefined) this.#completeWrite(writer);
      else if (this.#network.length > 0) this.#deliver();
      else return;
    }
  }

  #converged(leader: SimNode, probe: string): boolean {
    const { progress } = leader.raw.raft.tracker;
    for (const id of progress.keys()) {
      const node = this.#nodes.get(id);
      assert.ok(node !== undefined);
      if (![...node.applied.values()].some(({ data }) => data === probe)) return false;
      for (const [data, index] of this.#acked) {
        assert.equal(node.applied.get(index)?.data, data, `acknowledged ${data} lost at ${id}`);
      }
    }
    return true;
  }
}

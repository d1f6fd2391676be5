/**
 * A cluster of real RaftNodes for tests: real disks in a temporary directory, the in-process
 * network, a faster clock. Each node's state machine is the list of commands it applied.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { type Clock, SystemClock, type Timer } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { type Log, silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import type { AppliedEntry, Member, StateMachine } from '../../manager/raft/types.ts';
import { RaftNetwork } from './raftNetwork.ts';
import { until } from './until.ts';

/** Of real time: far more than anything takes on a machine with much else to do. */
const WAIT_MS = 60_000;
const LOOK_EVERY_MS = 5;

export class ListMachine implements StateMachine {
  commands: string[] = [];
  members: readonly Member[] = [];
  index = 0;
  restores = 0;

  apply(entries: readonly AppliedEntry[]): void {
    for (const entry of entries) {
      this.commands.push(Buffer.from(entry.data).toString());
      this.index = entry.index;
    }
  }

  takeSnapshot(): { index: number; chunks: AsyncIterable<Uint8Array> } {
    const copy = this.commands.slice();
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < copy.length; at += 100) {
        yield Buffer.from(`${JSON.stringify(copy.slice(at, at + 100))}\n`);
      }
    }
    return { index: this.index, chunks: chunks() };
  }

  async restore(index: number, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    let text = '';
    for await (const chunk of chunks) text += Buffer.from(chunk).toString();
    const lines = text.split('\n').filter((line) => line !== '');
    this.commands = lines.flatMap((line) => JSON.parse(line) as string[]);
    this.index = index;
    this.restores += 1;
  }

  membersChanged(members: readonly Member[]): void {
    this.members = members;
  }
}

/** The system's time, so many times faster: an election takes a third of a second. */
const SPEED = 4;

export class FastClock extends SystemClock {
  override nowMs(): number {
    return super.nowMs() * SPEED;
  }

  override after(delayMs: number, callback: () => void): Timer {
    return super.after(delayMs / SPEED, callback);
  }

  override afterIdle(delayMs: number, callback: () => void): Timer {
    return super.afterIdle(delayMs / SPEED, callback);
  }
}

export interface Running {
  readonly id: number;
  readonly address: string;
  readonly node: RaftNode;
  readonly machine: ListMachine;
}

export class RaftCluster {
  readonly network = new RaftNetwork();
  readonly root = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-cluster-'));
  readonly nodes = new Map<number, Running>();
  /** Members that were told that the others have taken them out. */
  readonly toldRemoved = new Set<number>();
  readonly #meters = new Map<number, Meter>();
  readonly clock: Clock;
  readonly #snapshotEntries: number | undefined;
  readonly #segmentBytes: number | undefined;
  readonly #log: Log;
  readonly #onFatal: (error: Error) => void;

  constructor(
    options: {
      snapshotEntries?: number;
      log?: Log;
      clock?: Clock;
      onFatal?: (error: Error) => void;
      /** Small ones fill a small disk. */
      segmentBytes?: number;
    } = {},
  ) {
    this.#onFatal =
      options.onFatal ??
      ((error) => {
        throw error;
      });
    this.#log = options.log ?? silentLog;
    this.clock = options.clock ?? new FastClock();
    this.#snapshotEntries = options.snapshotEntries;
    this.#segmentBytes = options.segmentBytes;
  }

  /** A member's directory; what is mounted there before its start is its disk. */
  directoryOf(id: number): string {
    return path.join(this.root, String(id));
  }

  async #diskOf(id: number): Promise<DiskStore | undefined> {
    const segmentBytes = this.#segmentBytes;
    if (segmentBytes === undefined) return undefined;
    const common = { clock: this.clock, log: this.#log, onFatal: this.#onFatal };
    return DiskStore.open({ ...common, directory: this.directoryOf(id), nodeId: id, segmentBytes });
  }

  /** What a member counts, over its restarts. */
  meter(id: number): Meter {
    const meter = this.#meters.get(id) ?? new Meter();
    this.#meters.set(id, meter);
    return meter;
  }

  addressOf(id: number): string {
    return `10.0.0.${id}:2377`;
  }

  async start(
    id: number,
    how: { voters?: readonly number[]; join?: boolean; address?: string } = {},
  ): Promise<Running> {
    const address = how.address ?? this.addressOf(id);
    const random = new SystemRandom();
    const { clock } = this;
    const transport = new StreamTransport({
      self: { id, address },
      dialer: this.network.dialerOf(address),
      clock,
      random,
      log: this.#log,
    });
    this.network.listen(address, (stream, kind) => transport.acceptStream(stream, kind));
    const machine = new ListMachine();
    const voters = how.voters?.map((voter) => ({ id: voter, address: this.addressOf(voter) }));
    const disk = await this.#diskOf(id);
    const node = await RaftNode.open({
      id,
      address,
      dir: this.directoryOf(id),
      ...(disk === undefined ? {} : { disk }),
      clock,
      random,
      log: this.#log,
      transport,
      stateMachine: machine,
      meter: this.meter(id),
      ...(voters === undefined ? {} : { bootstrap: { voters } }),
      ...(how.join === undefined ? {} : { join: how.join }),
      ...(this.#snapshotEntries === undefined ? {} : { snapshotEntries: this.#snapshotEntries }),
      onRemoved: () => this.toldRemoved.add(id),
      onFatal: this.#onFatal,
    });
    const running = { id, address, node, machine };
    this.nodes.set(id, running);
    return running;
  }

  async stop(id: number, transfer = false): Promise<void> {
    const running = this.get(id);
    this.network.close(running.address);
    await running.node.stop({ transfer });
    this.nodes.delete(id);
  }

  get(id: number): Running {
    const running = this.nodes.get(id);
    if (running === undefined) throw new Error(`node ${id} does not run`);
    return running;
  }

  /** A read through `id`, once there is a leader to ask: on a busy machine that takes its time. */
  async read(id: number): Promise<number> {
    const ask = async (): Promise<{ index: number } | undefined> => {
      try {
        return { index: await this.get(id).node.readIndex() };
      } catch (error) {
        if (hasCode(error, 'no_quorum')) return undefined;
        throw error;
      }
    };
    return (await until(`a read through ${id}`, WAIT_MS, ask, LOOK_EVERY_MS)).index;
  }

  /** Waits until `condition` holds. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const states = (): string =>
      [...this.nodes.values()].map(({ node }) => JSON.stringify(node.status())).join(' ');
    await until(() => `${what}; ${states()}`, WAIT_MS, condition, LOOK_EVERY_MS);
  }

  #leader(not?: number): Running | undefined {
    return [...this.nodes.values()].find(
      ({ id, node }) => id !== not && node.leadership.isLeader && node.status().role === 'leader',
    );
  }

  /** The member that leads and may act, other than `not`. */
  async leader(not?: number): Promise<Running> {
    await this.until('a leader', () => this.#leader(not) !== undefined);
    const leader = this.#leader(not);
    if (leader === undefined) throw new Error('the leader went away');
    return leader;
  }

  /**
   * Runs `action` at the member that leads now; where that one says that it does not lead, and so
   * did nothing, at its successor. An action of several steps has to bear being begun again.
   */
  async atLeader<T>(action: (leader: Running) => Promise<T>): Promise<T> {
    const { done } = await until(
      'the action at whoever leads',
      WAIT_MS,
      async () => {
        try {
          return { done: await action(await this.leader()) };
        } catch (error) {
          if (hasCode(error, 'not_leader')) return undefined;
          throw error;
        }
      },
      LOOK_EVERY_MS,
    );
    return done;
  }

  /** Members 1 and 2 vote, 3 has been added as a learner; for a new cluster. */
  async startWithLearner(): Promise<void> {
    await Promise.all([1, 2].map((id) => this.start(id, { voters: [1, 2] })));
    await this.start(3, { join: true });
    const learner = { id: 3, address: this.addressOf(3), learner: true };
    await this.insist(({ node }) => node.addMember(learner));
  }

  /**
   * As atLeader, for what may be done twice: on a busy machine a leader may lose the lead over it.
   */
  async insist<T>(action: (leader: Running) => Promise<T>): Promise<T> {
    const { done } = await until(
      'the action, in the end',
      WAIT_MS,
      async () => {
        try {
          return { done: await this.atLeader(action) };
        } catch (error) {
          const { code } = error as { code?: string };
          if (code !== 'unavailable' && code !== 'no_quorum' && code !== 'timeout') throw error;
          return undefined;
        }
      },
      LOOK_EVERY_MS,
    );
    return done;
  }

  async dispose(): Promise<void> {
    this.network.heal();
    await Promise.all([...this.nodes.keys()].map((id) => this.stop(id)));
    fs.rmSync(this.root, { recursive: true, force: true });
  }
}

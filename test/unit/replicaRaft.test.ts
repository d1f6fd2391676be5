/**
 * Replicas and loops over real Raft members (real disks in a temporary directory, an in-process
 * network, the system clock): a service is placed by the leader, a new leader goes on with it, and
 * every replica ends with the same store, after a restart and from a snapshot as well.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { LoopDriver } from '../../manager/loop.ts';
import { managerLoops } from '../../manager/loops.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import { Replica } from '../../manager/replica.ts';
import type { Change } from '../../manager/store/types.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import { cluster, network, node, service } from '../support/objects.ts';
import { RaftNetwork } from '../support/raftNetwork.ts';
import { until } from '../support/until.ts';

const BOUND_MS = 20_000;
const IDS = [1, 2, 3] as const;

interface Member {
  readonly replica: Replica;
  readonly raft: RaftNode;
  readonly loops: LoopDriver;
}

class Managers {
  readonly clock = new SystemClock();
  readonly network = new RaftNetwork();
  readonly root = fs.mkdtempSync(path.join(os.tmpdir(), 'replica-raft-'));
  readonly members = new Map<number, Member>();

  async start(id: number, isNew: boolean): Promise<Member> {
    const { clock } = this;
    const random = new SystemRandom();
    const address = addressOf(id);
    const transport = new StreamTransport({
      self: { id, address },
      dialer: this.network.dialerOf(address),
      clock,
      random,
      log: silentLog,
    });
    this.network.listen(address, (stream, kind) => transport.acceptStream(stream, kind));
    const replica = new Replica({ clock });
    const onFatal = (error: unknown): void => {
      throw error;
    };
    const voters = IDS.map((voter) => ({ id: voter, address: addressOf(voter) }));
    const raft = await RaftNode.open({
      id,
      dir: path.join(this.root, String(id)),
      clock,
      random,
      log: silentLog,
      transport,
      stateMachine: replica,
      ...(isNew ? { bootstrap: { voters } } : {}),
      snapshotEntries: 30,
      onFatal,
    });
    replica.attach(raft);
    const loops = new LoopDriver({
      store: replica.store,
      proposer: replica,
      clock: replica.clock,
      log: silentLog,
      loops: managerLoops(new Ids(random)),
      onFatal,
    });
    raft.onLeadership(({ isLeader }) => (isLeader ? loops.start() : loops.stop()));
    if (raft.isLeader) loops.start();
    const member = { replica, raft, loops };
    this.members.set(id, member);
    return member;
  }

  async stop(id: number): Promise<void> {
    const member = this.members.get(id);
    this.members.delete(id);
    this.network.close(addressOf(id));
    member?.loops.stop();
    await member?.raft.stop({ transfer: false });
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    await until(what, BOUND_MS, holds);
  }

  /** Id of the member that leads and may act, other than `not`. */
  async leader(not = 0): Promise<number> {
    const find = (): number | undefined =>
      [...this.members].find(([id, { raft }]) => id !== not && raft.isLeader)?.[0];
    await this.until('a leader', () => find() !== undefined);
    return find() ?? 0;
  }

  get(id: number): Member {
    const member = this.members.get(id);
    assert.ok(member);
    return member;
  }

  async change(id: number, ...changes: Change[]): Promise<void> {
    const result = await this.get(id).replica.propose({ atomic: true, changes });
    assert.deepEqual(result.rejected, []);
  }

  /** Every agent at once: moves each task where it is to be; returns how many run. */
  async agents(id: number): Promise<number> {
    const { replica } = this.get(id);
    const changes: Change[] = [];
    for (const task of replica.store.all('task')) {
      const host = replica.store.get('node', task.nodeId);
      if (task.status.state < TaskState.ASSIGNED || isTerminal(task.status.state)) continue;
      if (host === undefined || host.state === 'down') continue;
      const { desiredState } = task;
      const state = desiredState > TaskState.RUNNING ? TaskState.SHUTDOWN : desiredState;
      if (state === task.status.state) continue;
      changes.push({
        kind: 'update',
        table: 'task',
        object: { ...task, status: { ...task.status, state } },
      });
    }
    if (changes.length > 0) await replica.propose({ atomic: false, changes });
    return this.running(id);
  }

  running(id: number): number {
    const { store } = this.get(id).replica;
    return [...store.all('task')].filter(
      (task) =>
        task.status.state === TaskState.RUNNING &&
        task.desiredState === TaskState.RUNNING &&
        store.get('node', task.nodeId)?.state === 'ready',
    ).length;
  }

  async untilRunning(id: number, count: number): Promise<void> {
    const told = (): string => `${this.running(id)} of ${count} run`;
    await until(told, BOUND_MS, async () => (await this.agents(id)) === count);
  }

  async untilEqual(): Promise<void> {
    const hashes = (): Set<string> =>
      new Set([...this.members.values()].map(({ replica }) => replica.store.hash()));
    await this.until('equal stores', () => hashes().size === 1);
  }

  async dispose(): Promise<void> {
    await Promise.all([...this.members.keys()].map((id) => this.stop(id)));
    fs.rmSync(this.root, { recursive: true, force: true });
  }
}

function addressOf(id: number): string {
  return `10.0.0.${id}:2377`;
}

test('a service outlives its leader, a host and a restart, and all replicas agree', async () => {
  const managers = new Managers();
  try {
    await Promise.all(IDS.map((id) => managers.start(id, true)));
    const first = await managers.leader();
    await managers.change(
      first,
      { kind: 'create', table: 'cluster', object: cluster() },
      ...IDS.map((id): Change => ({ kind: 'create', table: 'node', object: node(`h${id}`, id) })),
      { kind: 'create', table: 'network', object: network('back') },
    );
    const networks = [{ target: 'back-id', aliases: ['api'], addresses: [] }];
    const web = service('web', { replicas: 60, task: { networks } });
    await managers.change(first, { kind: 'create', table: 'service', object: web });
    await managers.untilRunning(first, 60);

    await managers.stop(first);
    const second = await managers.leader(first);
    const { store } = managers.get(second).replica;
    const lost = store.get('node', `h${first}`);
    assert.ok(lost);
    await managers.change(second, {
      kind: 'update',
      table: 'node',
      object: { ...lost, state: 'down' },
    });
    await managers.untilRunning(second, 60);
    const used = [...store.all('task')].filter(({ status }) => !isTerminal(status.state));
    const addresses = used.map(({ networks: [attachment] }) => attachment.address);
    assert.equal(new Set(addresses).size, addresses.length);

    await managers.start(first, false);
    const leader = await managers.leader();
    const back = managers.get(leader).replica.store.get('node', `h${first}`);
    assert.ok(back);
    await managers.change(leader, {
      kind: 'update',
      table: 'node',
      object: { ...back, state: 'ready' },
    });
    await managers.untilRunning(leader, 60);
    await managers.untilEqual();
  } finally {
    await managers.dispose();
  }
});

/**
 * Role changes at the leader, over a bare store and a Raft group that is a list: one node's trouble
 * holds up no other's, and coming to lead again starts nothing twice.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { type RaftMembers, Roles } from '../../manager/roles.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { cluster, node } from '../support/objects.ts';

interface Member {
  readonly id: number;
  readonly address: string;
  readonly learner: boolean;
  readonly movedTo: string | undefined;
  readonly reachable: boolean;
  readonly lag: number;
}

/** The members, and a hand on how long or badly their removal goes. */
class Group implements RaftMembers {
  readonly id = 1;
  readonly isLeader = true;
  readonly list = new Map<number, Member>();
  looks = 0;
  readonly replaced: [number, number][] = [];
  remove: (id: number) => Promise<void> = async (id) => {
    this.list.delete(id);
  };

  add(id: number, learner: boolean): void {
    this.list.set(id, {
      id,
      address: `m${id}`,
      learner,
      movedTo: undefined,
      reachable: true,
      lag: 0,
    });
  }

  members(): readonly Member[] {
    this.looks += 1;
    return [...this.list.values()];
  }

  async addMember(): Promise<void> {}

  async promoteMember(id: number): Promise<void> {
    this.add(id, false);
  }

  async replaceMember(id: number, leaving: number): Promise<void> {
    this.list.delete(leaving);
    this.add(id, false);
    this.replaced.push([id, leaving]);
  }

  async updateAddress(id: number, address: string): Promise<void> {
    const member = this.list.get(id);
    assert(member !== undefined);
    this.list.set(id, { ...member, address, movedTo: undefined });
  }

  removeMember(id: number): Promise<void> {
    return this.remove(id);
  }

  async transferLeadership(): Promise<void> {}
}

function scene() {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  const group = new Group();
  const roles = new Roles({
    clock,
    log: silentLog,
    store: direct.store,
    proposer: direct,
    raft: group,
    notLeader: () => new SwarmError('not_leader', 'another leads'),
  });
  for (const [at, id] of ['m1', 'm2', 'm3'].entries()) {
    const manager = { raftId: at + 1, address: id };
    direct.create(
      'node',
      node(id, at + 1, { role: 'manager', spec: { role: 'manager' }, manager }),
    );
    group.add(at + 1, false);
  }
  return { clock, direct, group, roles };
}

function demote(direct: DirectStore, id: string): void {
  const before = direct.store.get('node', id);
  assert(before !== undefined);
  direct.update('node', { ...before, spec: { ...before.spec, role: 'worker' } });
}

test('a manager that cannot be taken out now holds up no other role change', async () => {
  const { clock, direct, group, roles } = scene();
  demote(direct, 'm2');
  group.remove = async () => {
    throw new SwarmError('conflict', 'the managers left would have no quorum');
  };
  group.add(4, true);
  const manager = { raftId: 4, address: 'm4' };
  direct.create('node', node('m4', 4, { spec: { role: 'manager' }, manager }));
  roles.start();
  await clock.advance(10);
  assert.equal(direct.store.get('node', 'm4')?.role, 'manager');
  assert.equal(group.list.get(4)?.learner, false);
  roles.stop();
  assert.equal(clock.waiting, 0);
});

test('leading, not leading and leading again within one step leaves one pass a second', async () => {
  const { clock, direct, group, roles } = scene();
  demote(direct, 'm2');
  let release = (): void => {};
  group.remove = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  roles.start();
  await clock.advance(10);
  roles.stop();
  roles.start();
  await clock.advance(10);
  group.remove = async (id) => {
    group.list.delete(id);
  };
  release();
  await clock.advance(1_500);
  assert.equal(clock.waiting, 1);
  const before = group.looks;
  await clock.advance(1_000);
  const once = group.looks - before;
  await clock.advance(5_000);
  assert.equal(group.looks - before, 6 * once);
  roles.stop();
});

test('a change asked for during a pass is looked at right after it', async () => {
  const { clock, direct, group, roles } = scene();
  demote(direct, 'm2');
  let release = (): void => {};
  group.remove = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  roles.start();
  await clock.advance(10);
  await settle();
  demote(direct, 'm3');
  const taken: number[] = [];
  group.remove = async (id) => {
    taken.push(id);
    group.list.delete(id);
  };
  roles.poke();
  release();
  await clock.advance(50);
  assert.ok(taken.includes(3), `taken out: ${taken}`);
  roles.stop();
});

test('a manager that moved is told to all at its new address', async () => {
  const { clock, direct, group, roles } = scene();
  group.list.set(2, { ...group.members()[1], movedTo: 'elsewhere:2377' });
  roles.start();
  await clock.advance(10);
  assert.equal(group.list.get(2)?.address, 'elsewhere:2377');
  assert.equal(direct.store.get('node', 'm2')?.manager?.address, 'elsewhere:2377');
  roles.stop();
});

test('a manager that is to go leaves in the step that makes another a voter', async () => {
  const { clock, direct, group, roles } = scene();
  direct.create('node', node('m4', 4, { state: 'ready', spec: { role: 'manager' } }));
  demote(direct, 'm2');
  roles.start();
  await clock.advance(2_000);
  assert.ok(group.list.has(2), 'it waits for the one that is coming');
  group.add(4, true);
  const coming = direct.store.get('node', 'm4');
  assert(coming !== undefined);
  direct.update('node', { ...coming, manager: { raftId: 4, address: 'm4' } });
  await clock.advance(2_000);
  assert.deepEqual(group.replaced, [[4, 2]]);
  assert.equal(direct.store.get('node', 'm4')?.role, 'manager');
  assert.equal(direct.store.get('node', 'm2')?.role, 'worker');
  assert.deepEqual(direct.store.cluster()?.removedRaftIds, [2]);
  roles.stop();
});

test('a promotion that comes to no end holds a demotion up for a bounded time', async () => {
  const { clock, direct, group, roles } = scene();
  direct.create('node', node('m4', 4, { state: 'ready', spec: { role: 'manager' } }));
  demote(direct, 'm2');
  roles.start();
  await clock.advance(60_000);
  assert.ok(!group.list.has(2));
  assert.equal(direct.store.get('node', 'm2')?.role, 'worker');
  roles.stop();
});

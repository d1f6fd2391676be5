/**
 * Members whose address changed, copies of a member, and a member replaced in one step: the driver
 * with real disks and the in-process network.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../../base/log.ts';
import { MemberTable } from '../../../manager/raft/memberTable.ts';
import { Whereabouts } from '../../../manager/raft/whereabouts.ts';
import { RaftCluster, type Running } from '../../support/raftCluster.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const HOME = '10.0.0.2:2377';
const AWAY = '10.0.9.2:2377';

function scene(self = {}) {
  const table = new MemberTable();
  const step = { type: 'addVoter', id: 2 } as const;
  const context = Buffer.from(JSON.stringify([{ id: 2, address: HOME }]));
  const confState = {
    voters: [2],
    votersOutgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };
  table.applied({ transition: 'auto', changes: [step], context }, confState);
  let nowMs = 0;
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { pass, table, whereabouts: new Whereabouts(table, self, silentLog, () => nowMs) };
}

test('a member that speaks from elsewhere is found there', () => {
  const { whereabouts } = scene();
  assert.equal(whereabouts.address(2), HOME);
  assert.equal(whereabouts.heard({ id: 2, address: AWAY }), true);
  assert.equal(whereabouts.address(2), AWAY);
  assert.equal(whereabouts.movedTo(2), AWAY);
  assert.equal(whereabouts.heard({ id: 2, address: HOME }), true);
  assert.equal(whereabouts.movedTo(2), undefined);
});

test('a copy is not heard while the member speaks from where it is known to be', () => {
  const { pass, whereabouts } = scene();
  assert.equal(whereabouts.heard({ id: 2, address: HOME }), true);
  pass(900);
  assert.equal(whereabouts.heard({ id: 2, address: AWAY }), false);
  assert.equal(whereabouts.address(2), HOME);
  pass(1100);
  assert.equal(whereabouts.heard({ id: 2, address: AWAY }), true, 'it fell silent: it has moved');
});

test('who was taken out is not heard, wherever it speaks from', () => {
  const { table, whereabouts } = scene();
  const remove = { type: 'remove', id: 2 } as const;
  const change = { transition: 'auto', changes: [remove], context: Buffer.alloc(0) } as const;
  table.applied(change, { ...table.confState, voters: [1] });
  assert.equal(whereabouts.heard({ id: 2, address: AWAY }), false);
  assert.equal(whereabouts.address(2), undefined);
});

test('a member knows that it has moved itself', () => {
  const { whereabouts } = scene({ id: 2, address: AWAY });
  assert.equal(whereabouts.movedTo(2), AWAY);
});

test('a member that comes back at another address takes part, before anybody was told', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2].map((id) => cluster.start(id, { voters: [1, 2] })));
    const leader = await cluster.leader();
    await leader.node.propose(bytes('before'));
    const moved = leader.id === 1 ? 2 : 1;
    await cluster.stop(moved);
    const address = `10.0.9.${moved}:2377`;
    await cluster.start(moved, { address });
    // Of two both are needed.
    const agreed = (): Running | undefined =>
      [...cluster.nodes.values()].find(
        ({ node }) =>
          node.isLeader &&
          node.members().some(({ movedTo }) => movedTo === address) &&
          node.members().every(({ reachable, lag }) => reachable && lag === 0),
      );
    await cluster.until('both take part', () => agreed() !== undefined);
    const now = agreed();
    assert.ok(now !== undefined);
    const seen = now.node.members().find(({ id }) => id === moved);
    assert.equal(seen?.movedTo, address);
    await cluster.insist(({ node }) => node.propose(bytes('after')));
    const told = await cluster.insist(async ({ node }) => {
      await node.updateAddress(moved, address);
      return node.members().find(({ id }) => id === moved);
    });
    assert.deepEqual([told?.address, told?.movedTo], [address, undefined]);
  } finally {
    await cluster.dispose();
  }
});

test('a learner that comes back at another address says so, and is found', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.startWithLearner();
    const thirds = () => [1, 2].map((id) => cluster.get(id).node.members().at(2));
    await cluster.until('it has all', () => thirds().some((third) => third?.lag === 0));
    await cluster.stop(3);
    await cluster.insist(({ node }) => node.propose(bytes('meanwhile')));
    const address = '10.0.9.3:2377';
    const { machine } = await cluster.start(3, { address });
    await cluster.until('it has what it missed', () => machine.commands.includes('meanwhile'));
    assert.ok(thirds().some((third) => third?.movedTo === address));
  } finally {
    await cluster.dispose();
  }
});

test('a learner takes a voter’s place in one step, and the voter never comes back', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    await leader.node.propose(bytes('one'));
    const gone = leader.id === 3 ? 2 : 3;
    await cluster.start(4, { join: true });
    await leader.node.addMember({ id: 4, address: cluster.addressOf(4), learner: true });
    const counts = new Set<number>();
    const machine = leader.machine;
    const noted = machine.membersChanged.bind(machine);
    machine.membersChanged = (members) => {
      noted(members);
      counts.add(leader.node.members().filter(({ learner }) => !learner).length);
    };
    await leader.node.replaceMember(4, gone);
    await cluster.until('the joint configuration is left', () => {
      const ids = leader.node.members().map(({ id }) => id);
      return ids.includes(4) && !ids.includes(gone);
    });
    // In between both halves have to agree; never is there one voter less.
    assert.ok(
      [...counts].every((count) => count >= 3),
      [...counts].join(),
    );
    await leader.node.propose(bytes('two'));
    await assert.rejects(
      leader.node.addMember({ id: gone, address: cluster.addressOf(gone), learner: true }),
      /was removed and cannot return/,
    );
  } finally {
    await cluster.dispose();
  }
});

/**
 * Changes of members that were called made: no crash makes the members forget them, whichever
 * minority is lost, and nobody is told to go before that.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import type { ConfState } from '../../../manager/raft/core/types.ts';
import { isSettlement, MemberTable, SETTLEMENT } from '../../../manager/raft/memberTable.ts';
import { RaftCluster } from '../../support/raftCluster.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const voting = (...voters: number[]): ConfState => ({
  voters,
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});

test('of two managers and a third just made one, any two go on after all lost power', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.startWithLearner();
    const leader = await cluster.insist(async (asked) => {
      await asked.node.promoteMember(3);
      return asked;
    });
    // The disks as they are when the promotion is called made: what a crash leaves.
    const crashed = path.join(cluster.root, 'crashed');
    for (const id of [1, 2, 3]) {
      fs.cpSync(cluster.directoryOf(id), path.join(crashed, String(id)), { recursive: true });
    }
    await Promise.all([1, 2, 3].map((id) => cluster.stop(id)));
    const left = [1, 2, 3].filter((id) => id !== leader.id);
    for (const id of left) {
      fs.rmSync(cluster.directoryOf(id), { recursive: true });
      fs.renameSync(path.join(crashed, String(id)), cluster.directoryOf(id));
    }
    await Promise.all(left.map((id) => cluster.start(id)));
    await cluster.insist(({ node }) => node.propose(bytes('on')));
  } finally {
    await cluster.dispose();
  }
});

test('what a leader could not settle is settled by who leads next', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const old = await cluster.leader();
    const gone = old.id === 1 ? 2 : 1;
    let isCut = false;
    const { machine } = old;
    const noted = machine.membersChanged.bind(machine);
    // That the removal is committed is heard by nobody.
    machine.membersChanged = (members) => {
      noted(members);
      if (isCut || members.length === 3) return;
      isCut = true;
      cluster.network.isolate(old.address);
    };
    await assert.rejects(old.node.removeMember(gone), /whether the change .* is not known/);
    cluster.network.heal();
    cluster.network.breakStreams();
    await cluster.until('the removed one is told', () => cluster.toldRemoved.has(gone));
    const stay = [1, 2, 3].filter((id) => id !== gone);
    const knows = (id: number): boolean => {
      const ids = cluster
        .get(id)
        .node.members()
        .map((member) => member.id);
      return ids.join() === stay.join();
    };
    await cluster.until('those who stay know', () => stay.every(knows));
  } finally {
    await cluster.dispose();
  }
});

test('whoever is removed is gone once that is settled, or another change is made', () => {
  const table = new MemberTable();
  const remove = (id: number) => ({ ...SETTLEMENT, changes: [{ type: 'remove', id } as const] });
  const add = (id: number) => ({ ...SETTLEMENT, changes: [{ type: 'addVoter', id } as const] });
  assert.ok(isSettlement(SETTLEMENT) && !isSettlement(remove(3)) && !isSettlement(add(3)));
  table.applied(add(1), voting(1, 2, 3));
  table.applied(remove(3), voting(1, 2));
  assert.deepEqual([table.isSettled, table.wasRemoved(3), table.isGone(3)], [false, true, false]);
  const restored = new MemberTable();
  restored.restore(table.encode(), table.confState);
  assert.deepEqual([restored.isSettled, restored.isGone(3)], [false, false], 'in a snapshot too');
  restored.applied(SETTLEMENT, voting(1, 2));
  assert.deepEqual([restored.isSettled, restored.isGone(3)], [true, true]);
  table.applied(remove(2), voting(1));
  assert.deepEqual([table.isSettled, table.isGone(3), table.isGone(2)], [false, true, false]);
  restored.restore(restored.encode(), restored.confState);
  assert.deepEqual([restored.isSettled, restored.isGone(3)], [true, true]);
});

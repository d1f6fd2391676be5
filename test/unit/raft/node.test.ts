/**
 * The driver with real disks and the in-process network: what callers see of a group of managers.
 * Never touches real sockets.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../../base/errors.ts';
import { RaftCluster } from '../../support/raftCluster.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);

test('a single member leads at once, and after a restart it holds what it acknowledged', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.start(1, { voters: [1] });
    const leader = await cluster.leader();
    for (let count = 0; count < 50; count += 1) await leader.node.propose(bytes(`c${count}`));
    await cluster.stop(1);
    const again = await cluster.start(1);
    await cluster.leader();
    await again.node.readIndex();
    assert.equal(again.machine.commands.length, 50);
    assert.deepEqual(again.machine.members, [{ id: 1, address: '10.0.0.1:2377', learner: false }]);
  } finally {
    await cluster.dispose();
  }
});

test('three members agree, followers read, and a follower names the leader', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const proposals = Array.from({ length: 200 }, (_, at) => leader.node.propose(bytes(`p${at}`)));
    await Promise.all(proposals);
    for (const { node, machine } of cluster.nodes.values()) {
      const index = await node.readIndex();
      assert.ok(node.status().applied >= index);
      assert.equal(machine.commands.length, 200);
      assert.deepEqual(machine.commands, leader.machine.commands);
    }
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id);
    assert.ok(follower !== undefined);
    await assert.rejects(follower.node.propose(bytes('x')), (error) => {
      assert.ok(hasCode(error, 'not_leader'));
      assert.equal(error.detail['leaderAddress'], leader.address);
      assert.equal(error.detail['leaderId'], String(leader.id));
      return true;
    });
  } finally {
    await cluster.dispose();
  }
});

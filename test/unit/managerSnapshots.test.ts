/**
 * The cluster's settings of the log reach every manager's Raft member.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { network } from '../support/objects.ts';
import { type TestNode, TestSwarm, until } from '../support/swarm.ts';

function snapshots(of: TestNode): number {
  return readdirSync(join(of.directory, 'swarm', 'raft', 'snap')).length;
}

test('a snapshot interval set for the cluster holds on every manager', async () => {
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    const tokens = await m1.control.joinTokens();
    const m2 = await swarm.join('m2', tokens.manager, m1.address);
    await until('m2 is a manager', () => m1.control.store.get('node', m2.id)?.role === 'manager');
    assert.deepEqual([m1, m2].map(snapshots), [0, 0]);
    const { control } = await swarm.leader();
    const cluster = (await control.read()).cluster();
    assert.ok(cluster);
    const spec = { ...cluster.spec, snapshotInterval: 20, logEntriesForSlowFollowers: 5 };
    const rotate = { workerToken: false, managerToken: false, signingCaKey: '', unlockKey: false };
    await control.updateCluster(cluster.version, spec, rotate);
    for (let at = 0; at < 25; at += 1) await control.createNetwork(network(`n${at}`).spec);
    await until('each has taken one', () => [m1, m2].every((each) => snapshots(each) > 0));
  } finally {
    await swarm.close();
  }
});

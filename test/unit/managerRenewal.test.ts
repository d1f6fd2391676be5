/**
 * Certificates renewed while a swarm runs: what was connected with the old one goes on after it has
 * expired.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY_MS } from '../../base/duration.ts';
import { network } from '../support/objects.ts';
import { clock, TestSwarm, until } from '../support/swarm.ts';

test('a follower forwards writes with its new certificate when the old one has expired', async () => {
  // TLS itself goes by the machine's time, so the certificates are made in the past.
  clock.steppedMs = -80 * DAY_MS;
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    const tokens = await m1.control.joinTokens();
    const m2 = await swarm.join('m2', tokens.manager, m1.address);
    await until('m2 is a manager', () => m1.control.raftStatus().managers.length === 2);
    const leader = await swarm.leader();
    const follower = leader === m1 ? m2 : m1;
    await until('it follows', () => follower.control.raftStatus().leaderNodeId === leader.id);
    await follower.control.createNetwork(network('before').spec);
    clock.steppedMs = 0;
    for (const node of [m1, m2]) await node.swarmNode.renewCertificate();
    clock.steppedMs = 20 * DAY_MS;
    const made = await follower.control.createNetwork(network('after').spec);
    assert.equal(leader.control.store.get('network', made.id)?.spec.name, 'after');
  } finally {
    await swarm.close();
    clock.steppedMs = 0;
  }
});

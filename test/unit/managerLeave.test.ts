/**
 * Managers that leave a swarm by force: those that stay do not count on them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestSwarm, until } from '../support/swarm.ts';

test('a leader that leaves by force is no member any more, each time', async () => {
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    const tokens = await m1.control.joinTokens();
    for (const name of ['m2', 'm3', 'm4']) await swarm.join(name, tokens.manager, m1.address);
    for (let left = 4; left > 1; left -= 1) {
      const leader = await swarm.leader();
      await until(`${left} voters`, () => {
        const { managers } = leader.control.raftStatus();
        return managers.length === left && managers.every(({ reachable }) => reachable);
      });
      await until(
        'all of them settled',
        () =>
          [...leader.control.store.all('node')].filter(
            ({ role, manager }) => role === 'manager' && manager !== undefined,
          ).length === left,
      );
      await leader.swarmNode.leave(true);
      await leader.stop();
      const next = await swarm.leader();
      await until(`${left - 1} members`, async () => {
        return next.control.raftStatus().managers.length === left - 1;
      });
      await next.control.read();
      assert.equal(next.control.store.get('node', leader.id)?.state, 'down');
    }
  } finally {
    await swarm.close();
  }
});

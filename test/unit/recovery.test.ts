/**
 * States of dead managers, as `recover` reads them, and a swarm that goes on from one: real nodes in
 * one process, their files on disk.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { goOnAlone } from '../../daemon/alone.ts';
import { compareStates, type Examined, examine } from '../../daemon/examine.ts';
import { Identity } from '../../daemon/identity.ts';
import { unlockKeyText } from '../../daemon/keyFile.ts';
import { authorize } from '../../manager/authorize.ts';
import { REMOVED_NODE } from '../../manager/raft/hello.ts';
import { Store } from '../../manager/store/store.ts';
import { Raft } from '../../proto/services.ts';
import { cluster } from '../support/objects.ts';
import { webService } from '../support/specs.ts';
import { clock, type TestNode, TestSwarm, until } from '../support/swarm.ts';

const random = new SystemRandom();
const look = (node: TestNode, unlockKey = ''): Promise<Examined> =>
  examine(node.directory, { clock, random, unlockKey });

function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(directory, name)).isFile())
    .map((name) => `${name} ${readFileSync(join(directory, name)).toString('base64')}`);
}

test('of three dead managers the one that goes furthest is named, and the swarm goes on from it', async () => {
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    const tokens = await m1.control.joinTokens();
    const m2 = await swarm.join('m2', tokens.manager, m1.address);
    const m3 = await swarm.join('m3', tokens.manager, m1.address);
    const w1 = await swarm.join('w1', tokens.worker, m1.address);
    await until('three managers', () => m1.control.raftStatus().managers.length === 3);
    const leader = await swarm.leader();
    const early = [m1, m2, m3].find((node) => node !== leader) ?? m3;
    await until('all of them settled', () =>
      [...leader.control.store.all('node')].every(({ role }, at) => at > 2 || role === 'manager'),
    );
    await early.stop();
    const last = await leader.control.createService(webService('late', 1));
    for (const node of [m1, m2, m3]) await node.stop();
    const before = filesOf(early.directory);
    const states = [await look(early), await look(leader), await look(w1)];
    assert.deepEqual(filesOf(early.directory), before, 'nothing was written');
    assert.deepEqual(
      states.map(({ Usable }) => Usable),
      [true, true, false],
    );
    assert.match(states[2].Problem, /was a worker/);
    assert.equal(states[0].Members.length, 3);
    assert.equal(states[1].Discards.length, 3);
    assert.equal(compareStates(states).Best, leader.directory);
    rmSync(join(early.directory, 'swarm', 'raft', 'wal', '0000000000000001.wal'));
    assert.equal((await look(early)).Usable, false);

    const membership = leader.identity.membership();
    assert.ok(membership !== undefined);
    const environment = { clock, random, log: silentLog };
    await goOnAlone(environment, leader.identity, membership);
    await leader.start({ alone: true });
    const store = await leader.control.read();
    assert.equal(store.get('service', last.id)?.spec.name, 'late');
    const ids = [...store.all('node')].map(({ id }) => id).sort();
    assert.deepEqual(ids, [leader.id, w1.id].sort());
    assert.ok((store.cluster()?.removedRaftIds.length ?? 0) >= 2);
    const other = [m1, m2, m3].find((node) => node !== leader && node !== early);
    await other?.start();
    await until('it hears that it is out', () => /was removed/.test(other?.removed ?? ''));
    await until(
      'the worker is back',
      () => leader.control.store.get('node', w1.id)?.state === 'ready',
    );
  } finally {
    await swarm.close();
  }
});

test('only a node whose removal is on record is told so for good', () => {
  const store = new Store();
  const object = { ...cluster(), removedNodes: [{ id: 'gone', untilMs: Number.MAX_SAFE_INTEGER }] };
  const changes = [{ kind: 'create', table: 'cluster', object }] as const;
  store.apply(1, 1, { atomic: true, changes });
  const told = (nodeId: string): SwarmError => {
    try {
      const peer = {
        nodeId,
        role: 'manager',
        clusterId: object.id,
        serial: '',
        expiresAtMs: 0,
      } as const;
      authorize(store, undefined, peer, { service: Raft.typeName, method: 'Messages' }, '');
    } catch (error) {
      if (error instanceof SwarmError) return error;
    }
    throw new Error(`${nodeId} was let in`);
  };
  assert.equal(told('gone').detail[REMOVED_NODE], 'gone');
  // A leader that was paused may not have heard of it yet.
  assert.equal(told('new').detail[REMOVED_NODE], undefined);
});

test('a locked state is opened with its key, and says so without', async () => {
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    await m1.control.read();
    await m1.stop();
    const key = random.bytes(32);
    const identity = new Identity(m1.directory, random);
    identity.setLock(key);
    const shut = await look(m1);
    assert.deepEqual([shut.Usable, shut.Cluster], [false, undefined]);
    assert.match(shut.Problem, /locked: give the unlock key/);
    const text = unlockKeyText(Buffer.from(key).toString('hex'));
    const open = await look(m1, text);
    assert.deepEqual([open.Usable, open.Damage], [true, []]);
    await assert.rejects(look(m1, unlockKeyText('00'.repeat(32))), /key/);
  } finally {
    await swarm.close();
  }
});

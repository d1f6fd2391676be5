/**
 * Writes that a follower forwards, over real TLS: what is said, and what is asked again, when the
 * connection breaks after the leader has done them and before it has said so.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { ManagerControl } from '../../manager/control/control.ts';
import { controlHandlers } from '../../manager/control/server.ts';
import { Writes } from '../../manager/control/writes.ts';
import { RpcChannel, RpcServer } from '../../proto/rpc.ts';
import { Control } from '../../proto/services.ts';
import { TestAuthority } from '../support/certificates.ts';
import { DirectStore } from '../support/directStore.ts';
import { cluster, network, serviceSpec } from '../support/objects.ts';

const clock = new SystemClock();
const leader = new DirectStore(clock);
const random = new SeededRandom(1);
const writes = new Writes({
  clock,
  store: leader.store,
  proposer: leader,
  ids: new Ids(random),
  random,
  cannotDemote: async () => '',
});
let server: RpcServer;
let channel: RpcChannel;
let follower: ManagerControl;
let atLeader: ManagerControl;
/** Calls of this method break when they are done, so many times. */
let breaks = { method: '', times: 0 };
let asked: string[] = [];
/** What the leader has not heard of, and hears in a barrier. */
let unheard: (() => void) | undefined;
/** The managers whose wait for the news of their writes was ended, in order. */
let told: string[] = [];

before(async () => {
  leader.create('cluster', cluster({}, { joinSecretWorker: 'w', joinSecretManager: 'm' }));
  const authority = await TestAuthority.make(clock.wallMs());
  server = new RpcServer({
    log: silentLog,
    clock,
    authorize: (_peer, { method }) => void asked.push(method),
  });
  leader.beforeApply = () => {
    if (asked.at(-1) !== breaks.method || breaks.times === 0) return;
    breaks.times -= 1;
    server.disconnect('m2');
  };
  const notLeader = (): SwarmError => new SwarmError('not_leader', 'no');
  const hear = async (): Promise<void> => {
    unheard?.();
    unheard = undefined;
  };
  const read = async () => {
    await hear();
    return leader.store;
  };
  const state = () => assert.fail();
  const tell = (nodeId: string): void => void told.push(nodeId);
  const { store } = leader;
  const more = { read, store, state, heartbeatAges: () => new Map(), members: () => [], tell };
  server.handle(Control, controlHandlers({ writes, isLeader: () => true, notLeader, ...more }));
  const tls = await authority.node('m1', 'manager', clock.wallMs());
  const { port } = await server.listen({ host: '127.0.0.1', port: 0, tls });
  const credentials = await authority.node('m2', 'manager', clock.wallMs());
  channel = new RpcChannel(`127.0.0.1:${port}`, { kind: 'node', credentials }, { clock });
  const parts = {
    clock,
    store,
    writes,
    leaderAddress: () => `127.0.0.1:${port}`,
    noQuorum: () => new SwarmError('no_quorum', 'none'),
    channelTo: () => channel,
    raftStatus: () => assert.fail(),
    managers: () => assert.fail(),
    warnings: () => [],
    onLeadership: () => () => {},
  };
  const propose = (): never => assert.fail();
  follower = new ManagerControl({
    ...parts,
    proposer: { isLeader: false, propose, barrier: async () => {} },
  });
  atLeader = new ManagerControl({
    ...parts,
    proposer: { isLeader: true, propose: (given) => leader.propose(given), barrier: hear },
  });
});

after(async () => {
  channel.close();
  await server.close();
});

function breakAfter(method: string, times = 1): void {
  asked = [];
  breaks = { method, times };
}

test('a follower that forwarded a write is told at once how far the log is committed', async () => {
  told = [];
  const { id } = await follower.createNetwork(network('told').spec);
  assert.deepEqual(told, ['m2']);
  await follower.removeNetwork(id);
  assert.deepEqual(told, ['m2', 'm2']);
});

test('a write whose connection breaks is not repeated: its fate is said to be unknown', async () => {
  breakAfter('CreateService');
  await assert.rejects(follower.createService(serviceSpec('web')), {
    code: 'unavailable',
    message:
      /^the connection to 127.*broke: .*whether the change was made is not known; look, then/,
  });
  assert.deepEqual(asked, ['CreateService']);
  assert.equal(leader.store.byName('service', 'web')?.spec.name, 'web');
});

test('a removal whose connection breaks is asked again, and what is gone was removed', async () => {
  const { id } = await follower.createNetwork(network('front').spec);
  breakAfter('RemoveNetwork');
  await follower.removeNetwork(id);
  assert.deepEqual(asked, ['RemoveNetwork', 'RemoveNetwork']);
  assert.equal(leader.store.get('network', id), undefined);
  await assert.rejects(follower.removeNetwork(id), { code: 'not_found' });
});

test('a removal is asked for twice at the most', async () => {
  const { id } = await follower.createService(serviceSpec('other'));
  const { beforeApply } = leader;
  leader.beforeApply = () => {
    beforeApply?.();
    throw new SwarmError('unavailable', 'not made');
  };
  breakAfter('RemoveService', 2);
  await assert.rejects(follower.removeService(id), /whether the change was made is not known/);
  leader.beforeApply = beforeApply;
  assert.deepEqual(asked, ['RemoveService', 'RemoveService']);
});

test('what a leader refuses, it has not decided from what is old by then', async () => {
  const data = { name: 'lately', labels: {}, data: new Uint8Array([1]), templating: '' } as const;
  for (const control of [follower, atLeader]) {
    const { id } = await control.createData('config', data);
    unheard = () => leader.remove('config', id);
    const again = await control.createData('config', data);
    await assert.rejects(control.createData('config', data), { code: 'conflict' });
    const late = network('late');
    unheard = () => leader.create('network', late);
    await control.removeNetwork(late.id);
    assert.equal(leader.store.get('network', late.id), undefined);
    unheard = () => leader.create('network', late);
    await assert.rejects(control.removeNetwork('none'), { code: 'not_found' });
    await control.removeNetwork(late.id);
    await control.removeData('config', again.id);
  }
});

test('a leader that can no longer be sure refuses nothing: it has no quorum', async () => {
  unheard = () => {
    throw new SwarmError('no_quorum', 'nobody answers');
  };
  await assert.rejects(follower.removeNetwork('none'), { code: 'no_quorum' });
});

test('what all managers have refused is said without asking them again', async () => {
  const { id } = await atLeader.createNetwork(network('late').spec);
  const { beforeApply } = leader;
  leader.beforeApply = () => {
    leader.beforeApply = beforeApply;
    leader.remove('network', id);
  };
  unheard = () => assert.fail('a barrier');
  await assert.rejects(atLeader.removeNetwork(id), { code: 'not_found' });
  unheard = undefined;
});

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
/** Calls of this method break when they are done, so many times. */
let breaks = { method: '', times: 0 };
let asked: string[] = [];

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
  const read = async () => leader.store;
  const state = () => assert.fail();
  const told = { read, state, heartbeatAges: () => new Map(), members: () => [] };
  server.handle(Control, controlHandlers({ writes, isLeader: () => true, notLeader, ...told }));
  const tls = await authority.node('m1', 'manager', clock.wallMs());
  const { port } = await server.listen({ host: '127.0.0.1', port: 0, tls });
  const credentials = await authority.node('m2', 'manager', clock.wallMs());
  channel = new RpcChannel(`127.0.0.1:${port}`, { kind: 'node', credentials }, { clock });
  follower = new ManagerControl({
    clock,
    store: leader.store,
    proposer: { isLeader: false, propose: () => assert.fail(), barrier: async () => {} },
    writes,
    leaderAddress: () => `127.0.0.1:${port}`,
    noQuorum: () => new SwarmError('no_quorum', 'none'),
    channelTo: () => channel,
    raftStatus: () => assert.fail(),
    managers: () => assert.fail(),
    warnings: () => [],
    onLeadership: () => () => {},
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

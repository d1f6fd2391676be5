/**
 * The detector's hands: real TCP probes on loopback, and what reaches the store.
 */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { HealthMonitor } from '../../manager/health/monitor.ts';
import { probeTcp } from '../../manager/health/probe.ts';
import { HEARTBEAT_MS } from '../../manager/heartbeat.ts';
import type { NodeState } from '../../model/types.ts';
import { RpcChannel } from '../../proto/rpc.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import { cluster, node } from '../support/objects.ts';

const clock = new SystemClock();

async function listening(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return { server, port: (server.address() as { port: number }).port };
}

test('a host answers whether it accepts the connection or refuses it', async () => {
  const { server, port } = await listening();
  assert.equal(await probeTcp(clock, '127.0.0.1', port, 30_000), 'answers');
  await new Promise((resolve) => server.close(resolve));
  assert.equal(await probeTcp(clock, '127.0.0.1', port, 30_000), 'answers');
});

function setUp(probe: (nodeId: string) => 'answers' | 'silent') {
  const manual = new ManualClock();
  const direct = new DirectStore(manual);
  direct.create('cluster', cluster());
  for (const [index, id] of ['a', 'b'].entries()) direct.create('node', node(id, index + 1));
  const monitor = new HealthMonitor({
    clock: manual,
    random: new SeededRandom(1),
    log: silentLog,
    store: direct.store,
    proposer: direct,
    channelTo: () => new RpcChannel('127.0.0.1:1', { kind: 'unverified' }, { clock: manual }),
    probe: async ({ id }) => probe(id),
  });
  return { manual, direct, monitor };
}

test('a silent node is written down with the reason and the time', async () => {
  const { manual, direct, monitor } = setUp((id) => (id === 'b' ? 'silent' : 'answers'));
  monitor.start('');
  monitor.opened('a', HEARTBEAT_MS);
  monitor.opened('b', HEARTBEAT_MS);
  for (let beat = 0; beat < 10; beat += 1) {
    monitor.heard('a', HEARTBEAT_MS);
    await manual.advance(400);
  }
  const down = direct.store.get('node', 'b');
  assert.equal(down?.state, 'down');
  assert.match(down?.stateMessage ?? '', /no heartbeat, and 3 rounds of probes/);
  assert((down?.downSinceMs ?? 0) > 0);
  assert.equal(direct.store.get('node', 'a')?.state, 'ready');
  direct.remove('node', 'b');
  await manual.advance(1000);
  monitor.stop();
});

test('a write refused for a stale version is made from the fresh one', async () => {
  const { manual, direct, monitor } = setUp(() => 'silent');
  monitor.start('');
  monitor.opened('b', HEARTBEAT_MS);
  direct.beforeApply = () => {
    direct.beforeApply = undefined;
    const b = direct.store.get('node', 'b');
    assert(b !== undefined);
    direct.update('node', { ...b, spec: { ...b.spec, labels: { zone: 'x' } } });
  };
  for (let at = 0; at < 30; at += 1) await manual.advance(100);
  const b = direct.store.get('node', 'b');
  assert.equal(b?.state, 'down');
  assert.equal(b?.spec.labels['zone'], 'x');
  monitor.stop();
});

test('a node that rejoins and then never comes is called down again', async () => {
  const { manual, direct, monitor } = setUp((id) => (id === 'b' ? 'silent' : 'answers'));
  const set = (state: NodeState): void => {
    const b = direct.store.get('node', 'b');
    assert(b !== undefined);
    direct.update('node', { ...b, state });
  };
  set('down');
  monitor.start('');
  monitor.opened('a', HEARTBEAT_MS);
  await manual.advance(100);
  set('unknown');
  for (let beat = 0; beat < 20; beat += 1) {
    monitor.heard('a', HEARTBEAT_MS);
    await manual.advance(400);
  }
  assert.equal(direct.store.get('node', 'b')?.state, 'down');
  monitor.stop();
});

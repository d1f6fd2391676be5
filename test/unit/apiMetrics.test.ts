/** Prometheus' ways to the figures: the API's socket, and an address that serves nothing else. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { type Api, createApi } from '../../daemon/api/server.ts';
import { metricsAddress } from '../../daemon/apiAddresses.ts';
import { parseFigures } from '../support/figures.ts';
import { ScriptedNode } from '../support/scriptedNode.ts';

const meter = new Meter();
let api: Api;
let url = '';

before(async () => {
  const parts = { clock: new SystemClock(), log: silentLog, random: new SystemRandom(), meter };
  api = createApi({ node: new ScriptedNode(), ...parts });
  url = `http://127.0.0.1:${await api.listenMetrics('127.0.0.1', 0)}`;
});

after(() => api.close());

test('figures are served over TCP with their type, and nothing else is', async () => {
  meter.counter('tsswarm_test_total', 'Counted.', { kind: 'a "quoted"\nkind' }).add(3);
  const seconds = meter.histogram('tsswarm_test_seconds', 'Taken.', [0.1, 1]);
  for (const value of [0.1, 0.5, 7]) seconds.observe(value);
  const answer = await fetch(`${url}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  const text = await answer.text();
  assert.ok(text.includes('tsswarm_test_total{kind="a \\"quoted\\"\\nkind"} 3'));
  const plain = text
    .split('\n')
    .filter((line) => !line.includes('quoted'))
    .join('\n');
  const { types, values } = parseFigures(plain);
  assert.equal(types.get('tsswarm_test_seconds'), 'histogram');
  const buckets = ['0.1', '1', '+Inf'].map((le) =>
    values.get(`tsswarm_test_seconds_bucket{le="${le}"}`),
  );
  assert.deepEqual(buckets, [1, 2, 3]);
  assert.equal(values.get('tsswarm_test_seconds_count'), 3);
  assert.equal(values.get('tsswarm_test_seconds_sum'), 7.6);
  assert.ok(types.has('process_cpu_seconds_total'));
  for (const [path, method] of [
    ['/info', 'GET'],
    ['/metrics', 'POST'],
    ['/services', 'GET'],
  ] as const) {
    const other = await fetch(`${url}${path}`, { method });
    assert.equal(other.status, 404, path);
  }
});

test('a gauge is read when somebody looks, and is gone with who told it', async () => {
  let value = 1;
  const first = meter.gauge('tsswarm_test_now', 'Now.', () => value);
  const read = async (): Promise<number | undefined> =>
    parseFigures(
      (await (await fetch(`${url}/metrics`)).text()).replaceAll(/^tsswarm_test_total.*$/gm, ''),
    ).values.get('tsswarm_test_now');
  assert.equal(await read(), 1);
  value = 2;
  assert.equal(await read(), 2);
  const second = meter.gauge('tsswarm_test_now', 'Now.', () => 7);
  first();
  assert.equal(await read(), 7, 'who took its place is not taken away with it');
  second();
  assert.equal(await read(), undefined);
});

test('--metrics-addr names an address and a port, loopback when it names none', () => {
  assert.equal(metricsAddress(''), undefined);
  assert.deepEqual(metricsAddress(':9323'), { host: '127.0.0.1', port: 9323 });
  assert.deepEqual(metricsAddress('[::1]:9323'), { host: '::1', port: 9323 });
  assert.deepEqual(metricsAddress('10.0.0.1:1'), { host: '10.0.0.1', port: 1 });
  for (const wrong of ['9323', '10.0.0.1', 'tcp://10.0.0.1:1', '10.0.0.1:70000']) {
    assert.throws(() => metricsAddress(wrong), { code: 'invalid', message: /--metrics-addr/ });
  }
});

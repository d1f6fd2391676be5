/** The HTTP API over a real unix socket, with a scripted node behind it. */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { createApi } from '../../daemon/api/server.ts';
import type { LiveMessage } from '../../model/live.ts';
import { ScriptedNode } from '../support/scriptedNode.ts';
import { serveNode } from '../support/servedNode.ts';
import { webService } from '../support/specs.ts';

const served = await serveNode();
const { node, call } = served;
after(() => served.close());

const WEB = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'web' } } };

/** Lines of a stream until they are `enough`; then the connection is cut. */
function lines<T>(
  path: string,
  enough: (found: readonly T[]) => boolean,
  onOpen: () => void = () => {},
): Promise<T[]> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: served.socketPath, path }, (answer) => {
      const found: T[] = [];
      let rest = '';
      onOpen();
      answer.on('data', (chunk: Buffer) => {
        const parts = (rest + chunk.toString()).split('\n');
        rest = parts.pop() ?? '';
        for (const part of parts) found.push(JSON.parse(part));
        if (!enough(found)) return;
        sent.destroy();
        resolve(found);
      });
      answer.on('end', () => resolve(found));
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('ping tells the API version and the role, with and without a body', async () => {
  for (const method of ['GET', 'HEAD']) {
    const answer = await call(method, '/_ping');
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['api-version'], '1.50');
    assert.equal(answer.headers['docker-experimental'], 'false');
    assert.equal(answer.headers.ostype, 'linux');
    assert.equal(answer.headers.swarm, 'active/manager');
    assert.equal(answer.body.toString(), method === 'GET' ? 'OK' : '');
  }
});

test('API versions that are not served are refused with Docker’s words', async () => {
  const cases = [
    ['/v1.51/info', 'client version 1.51 is too new. Maximum supported API version is 1.50'],
    ['/v2.0/info', 'client version 2.0 is too new. Maximum supported API version is 1.50'],
  ] as const;
  for (const [path, message] of cases) {
    const answer = await call('GET', path);
    assert.equal(answer.status, 400);
    assert.equal(answer.json().message, message);
  }
  const old = await call('GET', '/v1.23/info');
  assert.equal(old.status, 400);
  assert.match(String(old.json().message), /^client version 1\.23 is too old\. Minimum/);
  assert.equal((await call('GET', '/v1.24/info')).status, 200);
});

test('an unknown endpoint is "page not found"', async () => {
  for (const path of ['/v1.50/distribution', '/nope', '/v1.50/services/a/b/c']) {
    const answer = await call('GET', path);
    assert.equal(answer.status, 404);
    assert.deepEqual(answer.json(), { message: 'page not found' });
  }
});

test('a wrong request gets one line that names the field, and changes nothing', async () => {
  const before = node.store.version;
  const cases: readonly (readonly [string, string, unknown, number, RegExp])[] = [
    ['POST', '/services/create', '{', 400, /^the request body is not valid JSON$/],
    ['POST', '/services/create', '[]', 400, /^the body must be an object$/],
    ['POST', '/services/create', { ...WEB, Name: 1 }, 400, /^Name must be a string$/],
    [
      'POST',
      '/services/create',
      { ...WEB, Mode: { GlobalJob: {} }, UpdateConfig: {} },
      501,
      /^UpdateConfig /,
    ],
    ['POST', '/services/create', { Name: 'web' }, 400, /^TaskTemplate\.ContainerSpec is missing/],
    ['POST', '/services/absent/update?version=1', WEB, 404, /^service absent not found$/],
    ['POST', '/services/absent/update', WEB, 400, /^invalid version "": pass \?version=/],
    ['POST', '/services/x/update?version=1&rollback=y', WEB, 400, /^rollback=y is unknown/],
    ['GET', '/services?filters={', undefined, 400, /^filters is not valid JSON$/],
    ['GET', '/services?filters={"a":["b"]}', undefined, 400, /^invalid filter 'a': use one of/],
    ['GET', '/tasks?filters={"desired-state":["x"]}', undefined, 400, /desired-state=x/],
    ['GET', '/nodes/%zz', undefined, 400, /^the path has a bad escape/],
    ['GET', '/nodes/absent', undefined, 404, /^node absent not found$/],
    ['DELETE', '/networks/bridge', undefined, 403, /^bridge is a pre-defined network/],
    [
      'POST',
      '/networks/create',
      { Name: 'a', Driver: 'macvlan' },
      501,
      /use --driver bridge or overlay$/,
    ],
    ['POST', '/auth', {}, 400, /^username and password are missing$/],
    ['POST', '/auth', { username: 'me', password: 'no' }, 401, /^login attempt to .* failed$/],
    ['GET', '/images/search?term=web', undefined, 501, /docker pull NAME$/],
    ['POST', '/swarm/unlock', { UnlockKey: 'x' }, 409, /^swarm is not locked$/],
    ['GET', '/services/absent/logs?stdout=1', undefined, 404, /^service absent not found$/],
    ['POST', '/swarm/join', { JoinToken: 'x' }, 400, /^RemoteAddrs is empty/],
    ['POST', '/swarm/update?version=0', { Raft: { ElectionTick: 3 } }, 501, /^Raft\.ElectionTick/],
  ];
  for (const [method, path, body, status, message] of cases) {
    const answer = await call(method, `/v1.50${path}`, body);
    const text = String(answer.json().message);
    assert.equal(answer.status, status, `${method} ${path}: ${text}`);
    assert.match(text, message);
    assert.doesNotMatch(text, /\n/);
  }
  assert.equal(node.store.version, before);
});

test('a body over 4 MiB is refused, and the client hears why', async () => {
  const body = JSON.stringify({ ...WEB, Labels: { a: 'x'.repeat(50 * 1024 * 1024) } });
  const answer = await call('POST', '/services/create', body);
  assert.equal(answer.status, 400);
  assert.match(String(answer.json().message), /larger than 4194304 bytes/);
});

test('a client whose large upload is refused half way hears why', async () => {
  node.images.refusal = new SwarmError('invalid', 'the archive has no manifest');
  const answer = await call('POST', '/images/load', Buffer.alloc(20 * 1024 * 1024));
  node.images.refusal = undefined;
  assert.equal(answer.status, 400);
  assert.equal(answer.json().message, 'the archive has no manifest');
  const volume = await call('POST', '/volumes/create', Buffer.alloc(20 * 1024 * 1024));
  assert.equal(volume.status, 400);
});

test('a service is created, listed, updated, rolled back and removed', async () => {
  const created = await call('POST', '/v1.50/services/create', {
    ...WEB,
    Mode: { Replicated: { Replicas: 3 } },
  });
  assert.equal(created.status, 201);
  const id = String(created.json().ID);
  const list = (await call('GET', '/services?status=true')).json<Record<string, unknown>[]>();
  assert.deepEqual(list[0].ServiceStatus, { RunningTasks: 3, DesiredTasks: 3, CompletedTasks: 0 });
  const [byName, byPrefix] = await Promise.all(
    ['web', id.slice(0, 6)].map((key) => call('GET', `/services/${key}?insertDefaults=true`)),
  );
  assert.deepEqual(byName.json(), byPrefix.json());
  const service = byName.json<{ Version: { Index: number }; Spec: typeof WEB }>();
  const version = service.Version.Index;

  const spec = { ...service.Spec, Mode: { Replicated: { Replicas: 1 } } };
  const stale = await call('POST', `/services/web/update?version=${version - 1}`, spec);
  assert.equal(stale.status, 500);
  assert.equal(stale.json().message, 'update out of sequence');
  const updated = await call('POST', `/services/web/update?version=${version}`, spec);
  assert.equal(updated.status, 200);

  const filters = encodeURIComponent('{"service":["web"],"_up-to-date":["true"]}');
  const running = encodeURIComponent('{"service":["web"],"desired-state":["running"]}');
  assert.equal((await call('GET', `/tasks?filters=${filters}`)).json<unknown[]>().length, 3);
  assert.equal((await call('GET', `/tasks?filters=${running}`)).json<unknown[]>().length, 1);

  const now = (await call('GET', '/services/web')).json<{ Version: { Index: number } }>();
  const back = `/services/web/update?version=${now.Version.Index}&rollback=previous`;
  assert.equal((await call('POST', back, {})).status, 200);
  assert.equal(node.store.serviceByName('web')?.spec.mode.kind, 'replicated');
  assert.deepEqual(node.store.serviceByName('web')?.spec.mode, { kind: 'replicated', replicas: 3 });
  assert.equal((await call('DELETE', '/services/web')).status, 200);
  assert.equal(node.store.count('task'), 0);
});

test('a worker, and a host outside a swarm, answer 503 with Docker’s text', async () => {
  const worker = await serveNode();
  try {
    worker.node.localNode = { ...worker.node.localNode, role: 'worker' };
    const nodes = await worker.call('GET', '/nodes');
    assert.equal(nodes.status, 503);
    assert.match(String(nodes.json().message), /Worker nodes can't be used to view or modify/);
    assert.equal((await worker.call('GET', '/info')).status, 200);
    worker.node.localNode = { ...worker.node.localNode, state: 'inactive', role: undefined };
    const services = await worker.call('GET', '/services');
    assert.equal(services.status, 503);
    assert.match(String(services.json().message), /^This node is not a swarm manager\. Use/);
    const networks = await worker.call('GET', '/networks');
    assert.equal(networks.json<unknown[]>().length, 3);
  } finally {
    await worker.close();
  }
});

test('logs are framed by stream, with time and origin in Docker’s order', async () => {
  await node.createService(webService('logged', 1));
  node.logLines = [
    { stream: 'stdout', text: 'hello' },
    { stream: 'stderr', text: 'oops\n' },
  ];
  const query = 'stdout=1&stderr=1&timestamps=1&details=1&tail=5&since=10.5';
  const { body, headers } = await call('GET', `/services/logged/logs?${query}`);
  assert.equal(headers['content-type'], 'application/vnd.docker.multiplexed-stream');
  const length = body.readUInt32BE(4);
  assert.deepEqual([...body.subarray(0, 4)], [1, 0, 0, 0]);
  const first = body.toString('utf8', 8, 8 + length);
  const task = [...node.store.tasksOfService(node.store.serviceByName('logged')!.id)][0];
  assert.equal(
    first,
    '2023-11-14T22:13:20.123456789Z ' +
      `com.docker.swarm.node.id=${task.nodeId},com.docker.swarm.service.id=${task.serviceId},` +
      `com.docker.swarm.task.id=${task.id} hello\n`,
  );
  assert.equal(body[8 + length], 2);
  const asked = node.logQueries.at(-1)!;
  assert.equal(asked.tail, 5);
  assert.equal(asked.sinceNs, 10_500_000_000n);
  const none = await call('GET', '/services/logged/logs');
  assert.equal(none.status, 400);
  await call('DELETE', '/services/logged');
});

test('events of the past and the present are told as Docker tells them', async () => {
  interface Event {
    readonly Type: string;
    readonly Action: string;
    readonly Actor: { readonly Attributes: Record<string, string> };
  }
  const filters = encodeURIComponent('{"type":["service"]}');
  const two = (events: readonly Event[]): boolean => events.length === 2;
  const found = lines<Event>(`/events?filters=${filters}`, two, () => {
    void call('POST', '/services/create', { ...WEB, Name: 'seen' }).then(() =>
      call('DELETE', '/services/seen'),
    );
  });
  const told = (await found).map((event) => `${event.Type} ${event.Action}`);
  assert.deepEqual(told, ['service create', 'service remove']);
  const since = `since=1&until=${1_700_000_000 + 3600}`;
  const past = await lines<Event>(`/events?${since}&filters=${filters}`, () => false);
  const names = past.map((event) => `${event.Action} ${event.Actor.Attributes.name}`);
  assert.ok(names.includes('create seen') && names.includes('remove seen'), names.join());
});

test('watch starts with a picture and goes on with each change', async () => {
  const hasTask = (found: readonly LiveMessage[]): boolean =>
    found.some((message) => message.type === 'task');
  const all = await lines<LiveMessage>('/tsswarm/watch', hasTask, () => {
    void call('POST', '/services/create', { ...WEB, Name: 'live' });
  });
  // The picture of managers and nodes is renewed every second, which may fall between.
  const messages = all.filter((message) => message.type !== 'cluster');
  const [first] = messages;
  assert.ok(first.type === 'state');
  assert.equal(first.cluster.term, 3);
  assert.deepEqual(
    first.cluster.nodes.map((item) => [item.hostname, item.heartbeatAgeMs]),
    [
      ['h1', 100],
      ['h2', 200],
      ['h3', 300],
    ],
  );
  assert.equal(first.cluster.managers[0].isLeader, true);
  assert.deepEqual(
    messages.slice(1).map((item) => item.type),
    ['event', 'task'],
  );
  const task = messages[2];
  assert.ok(task.type === 'task');
  assert.equal(task.task.name, 'live.1');
  assert.equal(task.task.hostname, 'h1');
  await call('DELETE', '/services/live');
});

test('images are listed, loaded, imported, pulled, tagged, saved and removed', async () => {
  const images = await serveNode();
  try {
    const list = (await images.call('GET', '/images/json')).json<Record<string, unknown>[]>();
    assert.deepEqual(list[0].RepoTags, ['web:latest']);
    const pinned = await images.call('GET', '/distribution/web/json');
    assert.equal(
      pinned.json<{ Descriptor: { digest: string } }>().Descriptor.digest,
      `sha256:${'b'.repeat(64)}`,
    );
    assert.equal((await images.call('GET', '/distribution/a/b:1/json')).status, 404);
    assert.equal((await images.call('GET', '/images/a/b:1/json')).status, 404);
    const image = (await images.call('GET', '/images/web:latest/json')).json();
    const info = (await images.call('GET', '/info')).json();
    assert.equal(info.Driver, 'overlay2');
    assert.deepEqual(image.GraphDriver, { Name: info.Driver, Data: null });
    const loaded = await images.call('POST', '/images/load', Buffer.alloc(300_000));
    assert.equal(loaded.json().stream, 'Loaded image: web:latest\n');
    assert.deepEqual(images.node.images.loaded, [300_000]);
    const query = 'fromSrc=-&repo=mine&tag=1&changes=CMD%20x';
    await images.call('POST', `/images/create?${query}`, Buffer.alloc(10));
    assert.deepEqual(images.node.images.imported, [{ reference: 'mine:1', changes: ['CMD x'] }]);
    const pulled = await images.call('POST', '/images/create?fromImage=web&tag=latest');
    const steps = pulled.body
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(steps.at(-2).status, `Digest: sha256:${'b'.repeat(64)}`);
    const absent = await images.call('POST', '/images/create?fromImage=broken');
    assert.match(absent.body.toString(), /"error":"the registry hung up"/);
    const missing = await images.call('POST', '/images/create?fromImage=absent');
    assert.equal(missing.status, 404);
    await images.call('POST', '/images/web/tag?repo=host:5000/a/web&tag=2');
    assert.deepEqual(images.node.images.tagged, ['host:5000/a/web:2']);
    const saved = await images.call('GET', '/images/get?names=web');
    assert.equal(saved.body.toString(), 'archive of docker.io/library/web:latest');
    const removed = await images.call('DELETE', '/images/web');
    assert.deepEqual(removed.json<unknown[]>()[0], { Untagged: 'web:latest' });
  } finally {
    await images.close();
  }
});

test('init hands on what was asked, and tokens rotate with an update of the swarm', async () => {
  const fresh = await serveNode();
  try {
    const { localNode } = fresh.node;
    fresh.node.localNode = { ...localNode, state: 'inactive', role: undefined };
    const answer = await fresh.call('POST', '/v1.50/swarm/init', {
      ListenAddr: '0.0.0.0:2377',
      AdvertiseAddr: '10.99.0.11',
      DefaultAddrPool: ['10.20.0.0/16'],
      SubnetSize: 26,
      Spec: { Orchestration: { TaskHistoryRetentionLimit: 2 } },
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.json<string>(), fresh.node.nodes()[0].id);
    assert.equal(fresh.node.inits[0].advertiseAddress, '10.99.0.11');
    assert.equal(fresh.node.inits[0].subnetSize, 26);
    assert.equal(fresh.node.inits[0].vxlanPort, 4789);
    assert.equal(fresh.node.store.cluster()?.spec.taskHistoryLimit, 2);
    interface Swarm {
      readonly Version: { readonly Index: number };
      readonly Spec: object;
      readonly JoinTokens: { readonly Worker: string; readonly Manager: string };
    }
    const before = (await fresh.call('GET', '/swarm')).json<Swarm>();
    const path = `/swarm/update?version=${before.Version.Index}&rotateWorkerToken=true`;
    assert.equal((await fresh.call('POST', path, before.Spec)).status, 200);
    const after = (await fresh.call('GET', '/swarm')).json<Swarm>();
    assert.notEqual(after.JoinTokens.Worker, before.JoinTokens.Worker);
    assert.equal(after.JoinTokens.Manager, before.JoinTokens.Manager);
  } finally {
    await fresh.close();
  }
});

test('errors of the cluster keep their code and text', async () => {
  const text = 'no quorum: of 3 managers h2 and h3 do not answer';
  node.failure = new SwarmError('no_quorum', text);
  const answer = await call('POST', '/services/create', { ...WEB, Name: 'q' });
  assert.equal(answer.status, 503);
  assert.equal(answer.json().message, text);
});

test('the socket is not for everybody, a dead one is replaced, a live one is not', async () => {
  assert.equal(statSync(served.socketPath).mode & 0o007, 0);
  const make = () =>
    createApi({
      node: new ScriptedNode(),
      clock: new SystemClock(),
      log: silentLog,
      random: new SystemRandom(),
      meter: new Meter(),
    });
  await assert.rejects(make().listenUnix(served.socketPath, { group: 'tsswarm' }), {
    code: 'conflict',
    message: /a daemon already answers on/,
  });
  const dead = `${served.directory}/dead.sock`;
  writeFileSync(dead, '');
  const api = make();
  await api.listenUnix(dead, { group: 'no such group' });
  assert.equal(statSync(dead).mode & 0o777, 0o600);
  await api.close();
  assert.equal(existsSync(dead), false);
});

test('a secret is made, listed by filter, labelled and removed, and its data never told', async () => {
  const value = Buffer.from('nobody sees this').toString('base64');
  const body = { Name: 'pass', Labels: { a: '1' }, Data: value };
  const created = await call('POST', '/secrets/create', body);
  assert.equal(created.status, 201);
  const id = String(created.json().ID);
  assert.equal((await call('POST', '/secrets/create', body)).status, 409);
  for (const filters of [{ name: ['pa'] }, { names: ['pass'] }, { id: [id] }, { label: ['a=1'] }]) {
    const list = await call('GET', `/secrets?filters=${JSON.stringify(filters)}`);
    assert.equal(list.json<object[]>().length, 1, JSON.stringify(filters));
    assert.doesNotMatch(JSON.stringify(list.json()), new RegExp(value));
  }
  const none = await call('GET', `/secrets?filters=${JSON.stringify({ names: ['pa'] })}`);
  assert.deepEqual(none.json(), []);
  const shown = (await call('GET', '/secrets/pass')).json<{ Version: { Index: number } }>();
  const version = shown.Version.Index;
  const at = `/secrets/${id}/update?version=${version}`;
  const labels = { Name: 'pass', Labels: { b: '2' } };
  assert.equal((await call('POST', at, { ...labels, Data: 'AAAA' })).status, 400);
  assert.equal((await call('POST', at, labels)).status, 200);
  assert.equal((await call('POST', at, labels)).status, 500);
  assert.equal((await call('POST', '/secrets/create', { Name: 'x', Data: '*' })).status, 400);
  const driver = { Name: 'x', Data: value, Driver: { Name: 'vault' } };
  assert.equal((await call('POST', '/secrets/create', driver)).status, 501);
  assert.equal((await call('DELETE', '/secrets/pass')).status, 204);
  assert.equal((await call('GET', '/secrets/pass')).status, 404);
});

test('a config tells its data and its templating, whatever the case of a field’s name', async () => {
  const Data = Buffer.from('listen 80').toString('base64');
  const body = { Name: 'site', Data, Templating: { name: 'golang' } };
  const created = await call('POST', '/configs/create', body);
  assert.equal(created.status, 201);
  const shown = (await call('GET', `/configs/${String(created.json().ID)}`)).json();
  assert.deepEqual(shown.Spec, { Name: 'site', Labels: {}, Data, Templating: { Name: 'golang' } });
  assert.equal((await call('DELETE', '/configs/site')).status, 204);
});

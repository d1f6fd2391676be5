/**
 * The root certificate changed while everything runs: two managers and a worker in one process,
 * with real certificates, gRPC over TLS and Raft; only the hosts' runtimes are played. The tests
 * share the swarm and run in order.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, test } from 'node:test';
import { DAY_MS, HOUR_MS } from '../../base/duration.ts';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom, SystemRandom } from '../../base/random.ts';
import { atOnce } from '../../base/slices.ts';
import { nextRotation } from '../../manager/ca/newRoot.ts';
import { Renewal } from '../../manager/ca/renewal.ts';
import { ROTATION_BATCH, RootRotationLoop } from '../../manager/ca/rotation.ts';
import { isTrusted, splitPem, trustDigest, trustOf, wantedTls } from '../../manager/ca/trust.ts';
import { createRoot, readCertificate } from '../../manager/ca/x509.ts';
import { NO_ROTATION } from '../../manager/control/types.ts';
import { byTable } from '../../manager/store/contents.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Cluster, ClusterSpec } from '../../model/types.ts';
import { TestAuthority } from '../support/certificates.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import * as objects from '../support/objects.ts';
import { clock, type TestNode, TestSwarm, until } from '../support/swarm.ts';

const swarm = new TestSwarm();
let m1: TestNode;
let m2: TestNode;
let w1: TestNode;

function clusterOf(node: TestNode = m1): Cluster {
  const cluster = node.control.store.cluster();
  assert.ok(cluster !== undefined);
  return cluster;
}

function update(spec: Partial<ClusterSpec>, signingCaKey = ''): Promise<Cluster> {
  const cluster = clusterOf();
  const wanted = { ...cluster.spec, ...spec };
  return m1.control.updateCluster(cluster.version, wanted, { ...NO_ROTATION, signingCaKey });
}

function rotate(): Promise<Cluster> {
  return update({ forceRotate: clusterOf().spec.forceRotate + 1 });
}

async function untilRotated(root: string): Promise<void> {
  await until('the old root is dropped', () => clusterOf().rootCaCertificate !== root, 30_000);
  const now = clusterOf().rootCaCertificate;
  for (const node of [m1, m2, w1]) {
    await until(`${node.name} trusts the new root alone`, () => {
      const { rootCertificate } = node.swarmNode.credentials;
      return trustDigest(rootCertificate) === trustDigest(now);
    });
  }
}

before(async () => {
  m1 = await swarm.init('m1');
  const tokens = await m1.control.joinTokens();
  m2 = await swarm.join('m2', tokens.manager, m1.address);
  w1 = await swarm.join('w1', tokens.worker, m1.address);
  await until('m2 is a manager', () => m1.control.store.get('node', m2.id)?.role === 'manager');
  await until('w1 is ready', () => m1.control.store.get('node', w1.id)?.state === 'ready');
});

after(() => swarm.close());

test('every node gets a certificate of a new root, and writes and tasks go on', async () => {
  const spec = objects.serviceSpec('web', {
    replicas: 3,
    task: {
      container: objects.container(),
      networks: [{ target: 'none', aliases: [], addresses: [] }],
    },
  });
  const service = await m1.control.createService(spec);
  const tasks = () => [...m1.control.store.tasksOfService(service.id)];
  await until(
    '3 run',
    () => tasks().every(({ status }) => status.state === TaskState.RUNNING) && tasks().length === 3,
  );
  const before = tasks().map(({ id }) => id);
  const root = clusterOf().rootCaCertificate;
  const tokens = await m1.control.joinTokens();
  let isOver = false;
  let writes = 0;
  const writing = (async () => {
    for (; !isOver; writes += 1) {
      const by = [m1, m2][writes % 2];
      try {
        const network = await by.control.createNetwork(objects.network(`n${writes}`).spec);
        await by.control.removeNetwork(network.id);
      } catch (error) {
        // A machine too busy to answer for seconds breaks connections, rotation or not: what came
        // of a write is then not known, and the next one goes on.
        assert.ok(hasCode(error, 'unavailable'), String(error));
      }
    }
  })();
  const during = await rotate();
  assert.ok(during.rootRotation !== undefined);
  assert.equal(during.rootCaCertificate, root);
  await untilRotated(root);
  isOver = true;
  await writing;
  assert.ok(writes > 0);
  const now = clusterOf();
  assert.equal(now.rootRotation, undefined);
  for (const node of [m1, m2, w1]) {
    const { certificate } = node.identity.credentials();
    assert.ok(isTrusted(certificate, now.rootCaCertificate), node.name);
    assert.ok(!isTrusted(splitPem(certificate)[0], root), node.name);
    assert.equal(m1.control.store.get('node', node.id)?.state, 'ready');
  }
  assert.deepEqual(
    tasks().map(({ id, status }) => [id, status.state]),
    before.map((id) => [id, TaskState.RUNNING]),
  );
  assert.notEqual((await m1.control.joinTokens()).worker, tokens.worker);
  await assert.rejects(swarm.join('x', tokens.worker, m1.address), /CA differs/);
  swarm.nodes.pop();
});

test('a node that is off holds the end up, joins go on, and it catches up', async () => {
  const root = clusterOf().rootCaCertificate;
  const { worker } = await m1.control.joinTokens();
  await w1.stop();
  await rotate();
  const wanted = wantedTls(clusterOf());
  for (const node of [m1, m2]) {
    await until(`${node.name} has changed`, () => {
      const tls = m1.control.store.get('node', node.id)?.tls;
      return tls?.issuer === wanted.issuer && tls.trust === wanted.trust;
    });
  }
  const w2 = await swarm.join('w2', worker, m2.address);
  await until('w2 is ready', () => m1.control.store.get('node', w2.id)?.state === 'ready');
  assert.equal(clusterOf().rootCaCertificate, root);
  await w1.start();
  await untilRotated(root);
  await w2.stop();
});

test('a root given with its key takes the place of the present one', async () => {
  const { root } = await TestAuthority.make(clock.wallMs());
  const node = m1.control.store.byName('node', 'w2');
  assert.ok(node !== undefined);
  await m1.control.removeNode(node.id, true);
  const before = clusterOf().rootCaCertificate;
  const given = { signingCaCertificate: root.certificate };
  await assert.rejects(update(given), /SigningCAKey is missing/);
  const { root: other } = await TestAuthority.make(clock.wallMs());
  await assert.rejects(update(given, other.privateKey), /not the key of SigningCACert/);
  await update(given, root.privateKey);
  await untilRotated(before);
  assert.equal(clusterOf().rootCaCertificate, root.certificate);
  // What clients send back with any other change asks for nothing.
  assert.equal((await update({ taskHistoryLimit: 3 })).rootRotation, undefined);
});

async function scene(count: number) {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  const nowMs = clock.wallMs();
  const random = new SystemRandom();
  const root = await createRoot(nowMs, random);
  const at = { rootCaCertificate: root.certificate, rootCaKey: root.privateKey };
  const cluster = objects.cluster({}, at);
  const spec = { ...cluster.spec, forceRotate: 1 };
  const rotation = await nextRotation({ cluster, spec, signingCaKey: '', nowMs, random });
  direct.create('cluster', { ...cluster, spec, rootRotation: rotation });
  for (let index = 1; index <= count; index += 1) {
    direct.create('node', objects.node(`n${index}`, index));
  }
  const loop = new RootRotationLoop();
  const dirty = { everything: true, ids: byTable(() => new Set<string>()) };
  const pass = (): number => {
    const { changes } = atOnce(loop.plan(direct.store, dirty, clock.wallMs()));
    for (const change of changes) direct.change(change);
    return changes.length;
  };
  return { direct, pass, rotation };
}

test('nodes are asked so many at a time, and the old root goes when all have changed', async () => {
  const { direct, pass, rotation } = await scene(ROTATION_BATCH + 10);
  const cluster = direct.store.cluster();
  assert.ok(cluster !== undefined && rotation !== undefined);
  assert.equal(splitPem(trustOf(cluster)).length, 2);
  const wanted = wantedTls(cluster);
  const asked = () =>
    [...direct.store.all('node')].filter(({ tls }) => tls.wantedIssuer === wanted.issuer);
  assert.equal(pass(), ROTATION_BATCH);
  assert.equal(pass(), 0);
  for (const node of asked().slice(0, 4)) {
    direct.update('node', { ...node, tls: { ...node.tls, ...wanted } });
  }
  assert.equal(pass(), 4);
  const [down] = asked().filter(({ tls }) => tls.issuer === '');
  direct.update('node', { ...down, state: 'down' });
  assert.equal(pass(), 1, 'one that is down makes room for another');
  pass();
  for (const node of direct.store.all('node')) {
    direct.update('node', { ...node, tls: { ...wanted, trust: '', wantedIssuer: '' } });
  }
  assert.equal(pass(), 0, 'until they trust both');
  for (const node of direct.store.all('node')) {
    direct.update('node', { ...node, tls: { ...wanted, wantedIssuer: '' } });
  }
  assert.equal(pass(), 1);
  const after = direct.store.cluster();
  assert.equal(after?.rootCaCertificate, rotation.certificate);
  assert.equal(after?.rootCaKey, rotation.privateKey);
  assert.equal(after?.rootRotation, undefined);
  assert.equal(pass(), 0);
});

test('the cross-signed certificate leads from the new root to the old one', async () => {
  const { direct, rotation } = await scene(0);
  const old = direct.store.cluster()?.rootCaCertificate ?? '';
  assert.ok(rotation !== undefined);
  assert.ok(new X509Certificate(rotation.crossSigned).verify(new X509Certificate(old).publicKey));
  assert.ok(!isTrusted(rotation.certificate, old));
});

test('a shorter life of certificates makes a node renew a long one soon', async () => {
  const clock = new ManualClock();
  const authority = await TestAuthority.make(clock.wallMs());
  const issue = (lifeMs: number) => authority.node('w', 'worker', clock.wallMs(), lifeMs);
  let { certificate } = await issue(90 * DAY_MS);
  let lifetimeMs = 90 * DAY_MS;
  let renewals = 0;
  const renewal = new Renewal({
    clock,
    random: new SeededRandom(1),
    log: silentLog,
    current: () => certificate,
    lifetimeMs: () => lifetimeMs,
    renew: async () => {
      certificate = (await issue(lifetimeMs)).certificate;
      renewals += 1;
    },
  });
  renewal.start();
  await clock.advance(4 * HOUR_MS);
  assert.equal(renewals, 0);
  lifetimeMs = 2 * HOUR_MS;
  renewal.poke();
  await clock.advance(1000);
  await until('a new certificate', () => renewals === 1);
  const { notAfterMs } = readCertificate(certificate);
  assert.ok(notAfterMs <= clock.wallMs() + 2 * HOUR_MS);
  renewal.stop();
});

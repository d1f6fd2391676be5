/**
 * Tokens, certificates, renewal times and the clock check, and the authority over a bare store.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { DAY_MS, HOUR_MS, SECOND_MS } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom, SystemRandom } from '../../base/random.ts';
import { checkSkew, checkUsable } from '../../manager/ca/client.ts';
import { Renewal, renewAtMs } from '../../manager/ca/renewal.ts';
import { CertificateAuthorityServer } from '../../manager/ca/server.ts';
import {
  checkRoot,
  joinTokens,
  newJoinSecret,
  parseToken,
  roleOfToken,
} from '../../manager/ca/tokens.ts';
import { isTrusted } from '../../manager/ca/trust.ts';
import {
  createRequest,
  createRoot,
  issueCertificate,
  readCertificate,
  subjectDer,
} from '../../manager/ca/x509.ts';
import type { Cluster, NodeDescription } from '../../model/types.ts';
import { descriptionToWire } from '../../proto/convert.ts';
import type { PeerIdentity } from '../../proto/credentials.ts';
import type { CallContext } from '../../proto/rpc.ts';
import type { IssueCertificateRequest } from '../../proto/services.ts';
import { TestAuthority } from '../support/certificates.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import { cluster, node } from '../support/objects.ts';

const random = new SystemRandom();
const NOW_MS = 1_800_000_000_000;

async function newCluster(): Promise<Cluster> {
  const root = await createRoot(NOW_MS, random);
  return cluster(
    {},
    {
      rootCaCertificate: root.certificate,
      rootCaKey: root.privateKey,
      joinSecretWorker: newJoinSecret(random),
      joinSecretManager: newJoinSecret(random),
    },
  );
}

test('the DER of a subject is as the certificate has it', async () => {
  const { certificate } = await createRoot(NOW_MS, random);
  const { raw } = new X509Certificate(certificate);
  const name = subjectDer(certificate);
  assert.equal(name.toString('hex'), '3015311330110603550403130a7473737761726d2d6361');
  assert.ok(raw.includes(name));
});

test('a token tells its role, and has the shape that Docker Swarm gave it', async () => {
  const one = await newCluster();
  const tokens = joinTokens(one);
  assert.match(tokens.worker, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
  assert.equal(roleOfToken(parseToken(tokens.worker), one), 'worker');
  assert.equal(roleOfToken(parseToken(` ${tokens.manager}\n`), one), 'manager');
});

test('a token of another cluster or with another secret is refused, and why', async () => {
  const [one, other] = [await newCluster(), await newCluster()];
  const foreign = parseToken(joinTokens(other).worker);
  assert.throws(() => roleOfToken(foreign, one), /CA differs/);
  assert.throws(() => checkRoot(foreign, one.rootCaCertificate, 'h:1'), /answers at h:1/);
  const { digest } = parseToken(joinTokens(one).worker);
  assert.throws(() => roleOfToken({ digest, secret: '0'.repeat(25) }, one), /rotated/);
  assert.throws(() => parseToken('SWMTKN-1-short-short'), { code: 'invalid' });
});

test('a node certificate says who it is for, whatever the request said', async () => {
  const root = await createRoot(NOW_MS, random);
  const { csr } = await createRequest();
  const issued = await issueCertificate({
    root,
    csr,
    nodeId: 'node1',
    role: 'manager',
    clusterId: 'cluster1',
    nowMs: NOW_MS,
    lifetimeMs: 90 * DAY_MS,
    random,
  });
  const facts = readCertificate(issued.certificate);
  assert.deepEqual(facts, {
    nodeId: 'node1',
    role: 'manager',
    clusterId: 'cluster1',
    serial: issued.serial,
    notBeforeMs: NOW_MS - HOUR_MS,
    notAfterMs: NOW_MS + 90 * DAY_MS,
  });
  assert(isTrusted(issued.certificate, root.certificate));
  const other = await createRoot(NOW_MS, random);
  assert(!isTrusted(issued.certificate, other.certificate));
  const parsed = new X509Certificate(issued.certificate);
  assert.equal(parsed.ca, false);
  assert.match(parsed.subjectAltName ?? '', /tsswarm-node/);
  assert.equal(new X509Certificate(root.certificate).ca, true);
});

test('a request that is no request, or is not signed by its own key, is refused', async () => {
  const root = await createRoot(NOW_MS, random);
  const [one, two] = [await createRequest(), await createRequest()];
  const body = (pem: string): Buffer => Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64');
  const mixed = Buffer.concat([body(one.csr).subarray(0, -8), body(two.csr).subarray(-8)]);
  const forged =
    `-----BEGIN CERTIFICATE REQUEST-----\n${mixed.toString('base64')}\n` +
    '-----END CERTIFICATE REQUEST-----\n';
  const common = {
    root,
    nodeId: 'n',
    role: 'worker' as const,
    clusterId: 'c',
    nowMs: NOW_MS,
    lifetimeMs: DAY_MS,
    random,
  };
  await assert.rejects(issueCertificate({ ...common, csr: 'hello' }), { code: 'invalid' });
  await assert.rejects(issueCertificate({ ...common, csr: forged }), { code: 'invalid' });
});

test('a certificate out of its time says what to do', async () => {
  const authority = await TestAuthority.make(NOW_MS);
  const { certificate } = await authority.node('n', 'worker', NOW_MS, DAY_MS);
  checkUsable(certificate, NOW_MS);
  assert.throws(() => checkUsable(certificate, NOW_MS + 2 * DAY_MS), /expired.*leave --force/);
  assert.throws(() => checkUsable(certificate, NOW_MS - 2 * DAY_MS), /valid only from.*clock/);
});

test('clocks more than 30 seconds apart are refused, naming the one that is ahead', () => {
  checkSkew(NOW_MS, NOW_MS + 30 * SECOND_MS, 'm1:2377');
  assert.throws(() => checkSkew(NOW_MS, NOW_MS + 31 * SECOND_MS, 'm1:2377'), /of m1:2377 is 31s/);
  assert.throws(() => checkSkew(NOW_MS + 120_000, NOW_MS, 'm1:2377'), /of this host is 2m0s ahead/);
});

test('renewal comes at half life, a tenth earlier or later', async () => {
  const authority = await TestAuthority.make(NOW_MS);
  const { certificate } = await authority.node('n', 'worker', NOW_MS, 90 * DAY_MS);
  for (let seed = 0; seed < 50; seed += 1) {
    const days = (renewAtMs(certificate, new SeededRandom(seed)) - NOW_MS) / DAY_MS;
    assert(days > 35.9 && days < 54.1, `${days} days`);
  }
});

test('certificates of the shortest life are renewed in its middle, not without end', async () => {
  const clock = new ManualClock();
  const authority = await TestAuthority.make(clock.wallMs());
  for (const seed of [1, 2, 3, 4]) {
    let { certificate } = await authority.node('n', 'worker', clock.wallMs(), HOUR_MS);
    const startedMs = clock.nowMs();
    const tries: number[] = [];
    let issuing = Promise.resolve();
    const renewal = new Renewal({
      clock,
      random: new SeededRandom(seed),
      log: silentLog,
      lifetimeMs: () => undefined,
      current: () => certificate,
      renew: () => {
        tries.push(clock.nowMs() - startedMs);
        issuing = authority.node('n', 'worker', clock.wallMs(), HOUR_MS).then((issued) => {
          ({ certificate } = issued);
        });
        return issuing;
      },
    });
    renewal.start();
    for (let minute = 0; minute < 60; minute += 1) {
      await clock.advance(60_000);
      await issuing;
      if (tries.length > 3) break;
    }
    renewal.stop();
    assert(tries.length >= 1 && tries.length <= 2, `${tries.length} renewals in an hour`);
    assert(tries[0] > 20 * 60_000 && tries[0] < 40 * 60_000, `${tries[0]} ms`);
  }
});

test('a renewal that fails is tried again with growing pauses until it succeeds', async () => {
  const clock = new ManualClock();
  const authority = await TestAuthority.make(clock.wallMs());
  let { certificate } = await authority.node('n', 'worker', clock.wallMs(), 2 * HOUR_MS);
  const next = await authority.node('n', 'worker', clock.wallMs(), 10 * DAY_MS);
  const tries: number[] = [];
  const renewal = new Renewal({
    clock,
    random: new SeededRandom(3),
    log: silentLog,
    lifetimeMs: () => undefined,
    current: () => certificate,
    renew: async () => {
      tries.push(clock.nowMs());
      if (tries.length < 4) throw new SwarmError('unavailable', 'nobody answers');
      certificate = next.certificate;
    },
  });
  renewal.start();
  await clock.advance(3 * HOUR_MS);
  assert.equal(tries.length, 4);
  const pauses = tries.slice(1).map((atMs, index) => atMs - tries[index]);
  assert.deepEqual(pauses, [10_000, 20_000, 40_000]);
  renewal.stop();
});

function description(machineId: string): NodeDescription {
  return { ...node('x', 1).description, machineId };
}

async function authorityOver(direct: DirectStore, clock: ManualClock) {
  const server = new CertificateAuthorityServer({
    clock,
    random,
    ids: new Ids(random),
    log: silentLog,
    store: direct.store,
    proposer: direct,
    notLeader: () => new SwarmError('not_leader', 'elsewhere', { detail: { leader: 'm2:2377' } }),
  });
  const issue = server.handlers().issueCertificate;
  assert(issue !== undefined);
  const { csr } = await createRequest();
  return async (
    request: Partial<IssueCertificateRequest> & { readonly machineId?: string },
    peer?: Partial<PeerIdentity>,
  ) => {
    const { machineId, ...rest } = request;
    const full = {
      csrPem: csr,
      token: '',
      availability: 'active',
      description: descriptionToWire(description(machineId ?? 'm')),
      address: '10.0.0.9',
      port: 2377,
      previousNodeId: '',
      ...rest,
    } as IssueCertificateRequest;
    const context = {
      peer,
      signal: new AbortController().signal,
      remoteAddress: '10.0.0.1',
    } as CallContext;
    return (await issue(full, context)) as { nodeId: string; role: string; hostIndex: number };
  };
}

test('a join makes a node with the next free host index; two at once get two', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  const one = await newCluster();
  direct.create('cluster', one);
  direct.create('node', node('first', 1));
  direct.create('node', node('third', 3));
  const ask = await authorityOver(direct, clock);
  const tokens = joinTokens(one);
  const answers = await Promise.all([
    ask({ token: tokens.worker }),
    ask({ token: tokens.manager, address: '' }),
  ]);
  assert.deepEqual(
    answers.map(({ hostIndex }) => hostIndex),
    [2, 4],
  );
  const [worker, manager] = answers.map(({ nodeId }) => direct.store.get('node', nodeId));
  assert.equal(worker?.spec.role, 'worker');
  assert.equal(worker?.address, '10.0.0.9');
  assert.equal(manager?.spec.role, 'manager');
  assert.equal(manager?.role, 'worker');
  assert.equal(manager?.address, '10.0.0.1');
  assert.equal(worker?.certificateSerial.length, 38);
});

test('a follower sends who wants to join to the leader', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', await newCluster());
  direct.isLeader = false;
  const ask = await authorityOver(direct, clock);
  await assert.rejects(ask({ token: 'x' }), { code: 'not_leader' });
});

test('a renewal needs the certificate of a node that is still there', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', await newCluster());
  direct.create('node', node('w', 1, { spec: { role: 'manager' } }));
  const ask = await authorityOver(direct, clock);
  await assert.rejects(ask({}), { code: 'unauthorized' });
  await assert.rejects(ask({}, { nodeId: 'gone' }), { code: 'forbidden' });
  assert.equal((await ask({}, { nodeId: 'w' })).role, 'manager');
});

test('a data root that returns takes its old place; a copy of it becomes a new node', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  const one = await newCluster();
  direct.create('cluster', one);
  const known = node('old', 1, { state: 'down', description: { machineId: 'm-1' } });
  direct.create('node', known);
  const ask = await authorityOver(direct, clock);
  const { worker, manager } = joinTokens(one);
  const copy = await ask({ token: worker, previousNodeId: 'old', machineId: 'm-2' });
  assert.notEqual(copy.nodeId, 'old');
  const other = await ask({ token: manager, previousNodeId: 'old', machineId: 'm-1' });
  assert.notEqual(other.nodeId, 'old');
  const back = await ask({ token: worker, previousNodeId: 'old', machineId: 'm-1' });
  assert.equal(back.nodeId, 'old');
  assert.equal(back.hostIndex, 1);
  const again = await ask({ token: worker, previousNodeId: 'old', machineId: 'm-1' });
  assert.notEqual(again.nodeId, 'old', 'it is not down any more');
});

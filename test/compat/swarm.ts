/**
 * docker swarm, and in between docker node: a swarm of two hosts of its own beside the lab's, which
 * is begun, joined, changed, locked, broken, mended and left.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import { bootSpare, layoutOf, startDaemonOf, stopDaemonOf, within } from '../support/labHosts.ts';
import {
  certificateOf,
  dataPath,
  daysOf,
  filesIn,
  inGateway,
  listening,
  onHost,
  readData,
} from './look.ts';
import { nodes } from './node.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, refused, SOON_MS, work } from './world.ts';

const FOUNDER = { host: 'h3', address: '10.99.0.13' };
const JOINER = { host: 'h4', address: '10.99.0.14' };
const PORT = 2378;
const DATA_PORT = 4999;
/** Ends at once when it is told to. */
const PROGRAM = ['--stop-signal', 'SIGKILL', BOX, 'sleep', '600'];
const HEARTBEAT =
  'nodes are asked every 0.5 s; above the default of 5 s every tenth part of it instead';
/** An update waits for its tasks no longer than that. */
const QUICK = ['--update-monitor', '10ms', '-q'];

const founder = (...args: string[]): Promise<string> => docker(FOUNDER.host, ...args);
const founderInfo = (format: string): Promise<string> => founder('info', '--format', format);
const isSealed = (host: string): boolean =>
  !readData(host, 'swarm', 'node.key').includes('PRIVATE');
const stateOf = (host: string): Promise<string> =>
  docker(host, 'info', '--format', '{{.Swarm.LocalNodeState}}');

let key = '';

export function swarms(suite: Suite): void {
  begin(suite);
  join_(suite);
  nodes(suite);
  update(suite);
  authority(suite);
  lock(suite);
  anew(suite);
  leave(suite);
}

function begin(suite: Suite): void {
  suite.works(
    'swarm init',
    [
      ...['advertise-addr', 'listen-addr', 'autolock', 'availability'],
      ...['data-path-port', 'default-addr-pool', 'default-addr-pool-mask-length'],
    ],
    'the host listens where it should, its key is sealed, tasks get addresses of the pool',
    async () => {
      await Promise.all([FOUNDER, JOINER].map(({ host }) => bootSpare(host)));
      for (const { host } of [FOUNDER, JOINER]) {
        const change = ['--change', 'ENV PATH=/bin'];
        await docker(host, 'image', 'import', ...change, join(work, 'root.tar'), BOX);
      }
      const said = await founder(
        ...['swarm', 'init', '--advertise-addr', `eth0:${PORT}`, '--autolock'],
        ...['--listen-addr', `eth0:${PORT}`, '--availability', 'drain'],
        ...['--data-path-addr', FOUNDER.address, '--data-path-port', String(DATA_PORT)],
        ...['--default-addr-pool', '10.60.0.0/16', '--default-addr-pool-mask-length', '26'],
        ...['--cert-expiry', '48h', '--dispatcher-heartbeat', '1s'],
        ...['--snapshot-interval', '20', '--max-snapshots', '1', '--task-history-limit', '1'],
      );
      key = /SWMKEY-1-\S+/.exec(said)?.[0] ?? '';
      assert.notEqual(key, '');
      assert.ok(isSealed(FOUNDER.host));
      assert.ok((await listening(FOUNDER.host)).includes(`${FOUNDER.address}:${PORT}`));
      await founder('network', 'create', '--driver', 'overlay', 'net');
      const create = ['service', 'create', '-d', '--mode', 'global', '--network', 'net'];
      await founder(...create, '--name', 'all', ...PROGRAM);
      assert.equal(await founder('ps', '-q'), '', 'nothing runs on a drained node');
      await founder('node', 'update', '--availability', 'active', FOUNDER.host);
      const container = await runs(FOUNDER.host);
      const address = await founder('exec', container, 'ip', '-o', 'addr', 'show');
      assert.match(address, / 10\.60\.\d+\.\d+\/26 /);
      const links = await inGateway(FOUNDER.host, 'ip', '-d', 'link', 'show', 'type', 'vxlan');
      const id = await founder('network', 'inspect', '-f', '{{.Id}}', 'net');
      const { execRoot } = layoutOf(FOUNDER.host);
      const overlay = `--net=${join(execRoot, 'netns', `ov-${id}`)}`;
      const inside = await onHost(FOUNDER.host, 'nsenter', overlay, 'ip', '-d', 'link');
      for (const text of [links, inside]) assert.match(text, new RegExp(` dstport ${DATA_PORT} `));
    },
  );
  suite.works(
    'swarm init',
    ['snapshot-interval', 'max-snapshots', 'task-history-limit'],
    'snapshots and ended tasks are kept as told',
    async () => {
      assert.equal(await founderInfo('{{.Swarm.Cluster.Spec.Raft.SnapshotInterval}}'), '20');
      for (const turn of ['1', '2', '3']) {
        await founder('service', 'update', '--env-add', `TURN=${turn}`, ...QUICK, 'all');
      }
      const ended = ['service', 'ps', '-q', '--filter', 'desired-state=shutdown', 'all'];
      await until(
        'one ended task is kept',
        SOON_MS,
        async () => (await founder(...ended)).split('\n').length === 1 || undefined,
      );
      const count = (): number => filesIn(dataPath(FOUNDER.host, 'swarm', 'raft', 'snap')).length;
      await until('the last snapshot and the one before are kept', SOON_MS, async () => {
        if (count() === 2) return true;
        await founder('service', 'update', '-d', '--force', ...QUICK, 'all');
        return undefined;
      });
    },
  );
  suite.differs('swarm init', ['dispatcher-heartbeat'], HEARTBEAT);
  suite.differs(
    'swarm init',
    ['data-path-addr'],
    'only the advertised address: containers’ traffic uses it; another is refused',
  );
  suite.not(
    'swarm init',
    ['external-ca'],
    'refused: give the swarm your authority’s certificate and key with `swarm ca --ca-cert`',
  );
  suite.works('swarm init', [], 'what it does not do it refuses by name', async () => {
    const init = (...flags: string[]) => ['swarm', 'init', ...flags];
    await refused(
      JOINER.host,
      init('--external-ca', 'protocol=cfssl,url=https://ca.example'),
      /CAConfig\.ExternalCAs is not supported/,
    );
    await refused(
      JOINER.host,
      init('--advertise-addr', JOINER.address, '--data-path-addr', '127.0.0.1'),
      /--data-path-addr 127\.0\.0\.1 is not supported/,
    );
    assert.equal(await stateOf(JOINER.host), 'inactive');
  });
}

/** The one container of the host, once it runs. */
function runs(host: string): Promise<string> {
  return until(`a task runs on ${host}`, SOON_MS, async () => {
    const ids = (await docker(host, 'ps', '-q')).split('\n').filter((id) => id !== '');
    return ids.length === 1 ? ids[0] : undefined;
  });
}

function join_(suite: Suite): void {
  suite.works(
    'swarm join-token',
    ['quiet', 'rotate'],
    'a new token lets in, the old one no more',
    async () => {
      const old = await founder('swarm', 'join-token', '--quiet', 'worker');
      assert.match(await founder('swarm', 'join-token', 'worker'), /docker swarm join --token/);
      const fresh = await founder('swarm', 'join-token', '--rotate', '--quiet', 'worker');
      assert.notEqual(fresh, old);
      const target = `${FOUNDER.address}:${PORT}`;
      await refused(JOINER.host, ['swarm', 'join', '--token', old, target], /token/);
      assert.equal(await stateOf(JOINER.host), 'inactive');
    },
  );
  suite.works(
    'swarm join',
    ['advertise-addr', 'availability', 'listen-addr', 'token'],
    'it has a certificate of the swarm; paused, it gets no task, active it does',
    async () => {
      const token = await founder('swarm', 'join-token', '-q', 'worker');
      const address = `${JOINER.address}:${PORT}`;
      await docker(
        JOINER.host,
        ...['swarm', 'join', '--token', token, '--advertise-addr', address],
        ...['--listen-addr', address, '--data-path-addr', JOINER.address],
        ...['--availability', 'pause', `${FOUNDER.address}:${PORT}`],
      );
      const root = new X509Certificate(await founder('swarm', 'ca'));
      assert.ok(certificateOf(JOINER.host).verify(root.publicKey));
      const format = '{{.Spec.Availability}} {{.Status.Addr}}';
      assert.equal(
        await founder('node', 'inspect', '-f', format, JOINER.host),
        `pause ${JOINER.address}`,
      );
      assert.equal(await docker(JOINER.host, 'ps', '-q'), '');
      await founder('node', 'update', '--availability', 'active', JOINER.host);
      const container = await runs(JOINER.host);
      const [other] = (await founder('ps', '-q')).split('\n');
      const shown = await founder(
        'exec',
        other,
        'ip',
        '-o',
        '-4',
        'addr',
        'show',
        'scope',
        'global',
      );
      const target = /inet (10\.60\.[\d.]+)\//.exec(shown)?.[1] ?? '';
      await docker(JOINER.host, 'exec', container, 'ping', '-c1', '-W3', target);
    },
  );
  suite.works('swarm init', ['cert-expiry'], 'who joins has a certificate that long', async () => {
    const days = daysOf(certificateOf(JOINER.host));
    assert.ok(days > 1.9 && days < 2.2, `${days} days`);
  });
  suite.differs(
    'swarm join',
    ['data-path-addr'],
    'only the advertised address: containers’ traffic uses it; another is refused',
  );
}

function update(suite: Suite): void {
  suite.works(
    'swarm update',
    ['cert-expiry', 'max-snapshots', 'snapshot-interval'],
    'old snapshots go from the disk, new certificates live as long as it says',
    async () => {
      await founder(
        ...['swarm', 'update', '--cert-expiry', '72h', '--dispatcher-heartbeat', '2s'],
        ...['--max-snapshots', '0', '--snapshot-interval', '25'],
      );
      await founder('swarm', 'ca', '--rotate', '--quiet');
      await signedBy(await founder('swarm', 'ca'), FOUNDER.host, JOINER.host);
      const days = daysOf(certificateOf(JOINER.host));
      assert.ok(days > 2.9 && days < 3.2, `${days} days`);
      await until('one snapshot is left', SOON_MS, async () => {
        const directory = dataPath(FOUNDER.host, 'swarm', 'raft', 'snap');
        if (filesIn(directory).length === 1) return true;
        await founder('service', 'update', '-d', '--force', ...QUICK, 'all');
        return undefined;
      });
    },
  );
  suite.differs('swarm update', ['dispatcher-heartbeat'], HEARTBEAT);
  suite.works('swarm update', ['task-history-limit'], 'no ended task is kept', async () => {
    await founder('swarm', 'update', '--task-history-limit', '0');
    await founder('service', 'update', '--force', ...QUICK, 'all');
    const ended = ['service', 'ps', '-q', '--filter', 'desired-state=shutdown', 'all'];
    await until(
      'it is forgotten',
      SOON_MS,
      async () => (await founder(...ended)) === '' || undefined,
    );
  });
  suite.works('swarm update', ['autolock'], 'the key on disk is opened, and sealed', async () => {
    await founder('swarm', 'update', '--autolock=false');
    await until('open', SOON_MS, () => !isSealed(FOUNDER.host) || undefined);
    key = /SWMKEY-1-\S+/.exec(await founder('swarm', 'update', '--autolock'))?.[0] ?? '';
    await until('sealed', SOON_MS, () => isSealed(FOUNDER.host) || undefined);
  });
  suite.not(
    'swarm update',
    ['external-ca'],
    'refused: give the swarm your authority’s certificate and key with `swarm ca --ca-cert`',
  );
}

async function signedBy(root: string, ...hosts: string[]): Promise<void> {
  const { publicKey } = new X509Certificate(root);
  for (const host of hosts) {
    await until(
      `${host} has a new certificate`,
      SOON_MS,
      () => certificateOf(host).verify(publicKey) || undefined,
    );
  }
}

function authority(suite: Suite): void {
  suite.works(
    'swarm ca',
    ['cert-expiry', 'quiet', 'rotate'],
    'every node’s certificate on disk is of the new root, and lives as long as told',
    async () => {
      const old = await founder('swarm', 'ca');
      await founder('swarm', 'ca', '--rotate', '--quiet', '--cert-expiry', '96h');
      const fresh = await founder('swarm', 'ca');
      assert.notEqual(fresh, old);
      await signedBy(fresh, FOUNDER.host, JOINER.host);
      const days = daysOf(certificateOf(JOINER.host));
      assert.ok(days > 3.9 && days < 4.2, `${days} days`);
    },
  );
  suite.works(
    'swarm ca',
    ['ca-cert', 'ca-key', 'detach'],
    'an authority of one’s own signs the nodes’ certificates',
    async () => {
      const [certificate, privateKey] = [join(work, 'own.pem'), join(work, 'own.key')];
      const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '9'];
      const out = ['-keyout', privateKey, '-out', certificate];
      execFileSync('openssl', ['req', '-x509', ...ec, '-subj', '/CN=own', ...out], {
        stdio: 'ignore',
      });
      const given = ['--ca-cert', certificate, '--ca-key', privateKey];
      await founder('swarm', 'ca', '--rotate', '--detach', ...given);
      await signedBy(readFileSync(certificate, 'utf8'), FOUNDER.host, JOINER.host);
      await until(
        'the root is changed',
        SOON_MS,
        async () =>
          (await founder('swarm', 'ca')).trim() === readFileSync(certificate, 'utf8').trim() ||
          undefined,
      );
    },
  );
  suite.not(
    'swarm ca',
    ['external-ca'],
    'refused: give your authority’s certificate and key with `--ca-cert` and `--ca-key`',
  );
  suite.works('swarm ca', [], 'an authority elsewhere is refused in one line', async () => {
    const external = ['--external-ca', 'protocol=cfssl,url=https://ca.example'];
    const line = /^Error response from daemon: CAConfig\.ExternalCAs is not [^\n]*\n$/;
    await refused(FOUNDER.host, ['swarm', 'update', ...external], line);
  });
}

function lock(suite: Suite): void {
  suite.works(
    'swarm unlock-key',
    ['quiet', 'rotate'],
    'the key on disk is sealed anew',
    async () => {
      assert.equal(await founder('swarm', 'unlock-key', '--quiet'), key);
      assert.match(await founder('swarm', 'unlock-key'), /SWMKEY-1-/);
      const sealed = readData(FOUNDER.host, 'swarm', 'node.key');
      key = await founder('swarm', 'unlock-key', '--rotate', '--quiet');
      await until(
        'sealed anew',
        SOON_MS,
        () => readData(FOUNDER.host, 'swarm', 'node.key') !== sealed || undefined,
      );
    },
  );
  suite.works('swarm unlock', [], 'a locked manager manages again', async () => {
    await stopDaemonOf(FOUNDER.host);
    await startDaemonOf(FOUNDER.host);
    assert.equal(await stateOf(FOUNDER.host), 'locked');
    assert.ok(!(await listening(FOUNDER.host)).includes(`${FOUNDER.address}:${PORT}`));
    const unlock = (with_: string) =>
      within(FOUNDER.host, 'sh', '-c', `echo '${with_}' | docker swarm unlock`);
    assert.notEqual((await unlock(`${key.slice(0, -6)}AAAAAA`)).code, 0);
    assert.equal((await unlock(key)).code, 0);
    assert.equal(await stateOf(FOUNDER.host), 'active');
    assert.ok((await listening(FOUNDER.host)).includes(`${FOUNDER.address}:${PORT}`));
    await runs(FOUNDER.host);
  });
}

function anew(suite: Suite): void {
  suite.works(
    'swarm init',
    ['force-new-cluster'],
    'a manager that lost the others goes on with what it has',
    async () => {
      const { host, address } = FOUNDER;
      const services = ['service', 'ls', '--format', '{{.Name}}'];
      const root = await founder('swarm', 'ca');
      const force = ['swarm', 'init', '--force-new-cluster', '--advertise-addr', address];
      await docker(host, ...force);
      await runs(host);
      assert.equal(await founder(...services), 'all');
      assert.equal(await founder('swarm', 'ca'), root);
      const managers = await founder('node', 'ls', '--format', '{{.ManagerStatus}}');
      assert.equal(managers.trim(), 'Leader');
    },
  );
}

function leave(suite: Suite): void {
  suite.works('swarm leave', ['force'], 'nothing of the swarm is left on the host', async () => {
    await docker(JOINER.host, 'swarm', 'leave', '--force');
    await refused(FOUNDER.host, ['swarm', 'leave'], /last manager.*--force/s);
    await founder('swarm', 'leave', '--force');
    for (const { host, address } of [FOUNDER, JOINER]) {
      assert.equal(await stateOf(host), 'inactive');
      assert.ok(!existsSync(dataPath(host, 'swarm', 'node.key')));
      assert.ok(!(await listening(host)).includes(`${address}:${PORT}`));
      assert.equal(await docker(host, 'ps', '-q'), '');
      assert.doesNotMatch(await onHost(host, 'ps', '-eo', 'args'), /^sleep 600/m);
    }
  });
}

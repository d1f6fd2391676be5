/**
 * Images by the real docker client against one daemon in no swarm: pull, push, login, tag, rmi,
 * inspect, history, save, load, import, prune, with Debian's docker-registry beside the daemon
 * (plain, and with TLS of a private authority and a password). The store on disk is looked at too.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { SeededRandom } from '../../base/random.ts';
import {
  buildImage,
  directory,
  file,
  manifestOf,
  ociArchive,
  sha256,
  tar,
} from '../support/images.ts';
import { until } from '../support/lab.ts';
import { registryCommand, untilListening } from '../support/registry.ts';
import { type Standalone, startStandalone } from '../support/standalone.ts';
import { TOP } from '../tidy/sources.ts';

const PLAIN = '127.0.0.1:5000';
const SAFE = '127.0.0.1:5001';

let host: Standalone;
let digest = '';
let imageId = '';
let work = '';

async function startRegistry(port: number, more: { tls?: boolean; basic?: string }): Promise<void> {
  const at = join(work, String(port));
  mkdirSync(at);
  host.spawnInside(...registryCommand({ directory: at, port, ...more }));
  await untilListening(port, host.pid);
}

before(async () => {
  host = await startStandalone();
  work = join(host.directory, 'work');
  mkdirSync(work);
  await Promise.all([startRegistry(5000, {}), startRegistry(5001, { tls: true, basic: 'me:pw' })]);
  const noise = Buffer.from(new SeededRandom(4).bytes(700_000));
  const layers = [
    await tar([directory('bin'), { name: 'noise', body: noise }]),
    await tar([file('hello', 'hello')]),
  ];
  const image = buildImage(layers, (layer) => gzipSync(layer), {
    Cmd: ['/hello'],
    Env: ['A=b'],
    ExposedPorts: { '80/tcp': {} },
    Labels: { kind: 'test' },
  });
  const history = [
    { created: '2025-06-01T00:00:00Z', created_by: 'COPY noise /' },
    { created: '2025-06-01T00:00:00Z', created_by: 'ENV A=b', empty_layer: true },
    { created: '2025-06-01T00:00:00Z', created_by: 'COPY hello /', comment: 'by hand' },
  ];
  const config = Buffer.from(JSON.stringify({ ...JSON.parse(image.config.toString()), history }));
  const whole = { ...image, config };
  digest = sha256(manifestOf(whole));
  imageId = sha256(config);
  writeFileSync(join(work, 'web.tar'), await ociArchive(whole, 'web:1'));
});

after(async () => {
  await host.stop();
});

test('docker load, images, inspect and history tell what the archive holds', async () => {
  writeFileSync(join(work, 'web.tar.gz'), gzipSync(readFileSync(join(work, 'web.tar'))));
  assert.match(await host.docker('load', '-i', join(work, 'web.tar.gz')), /Loaded image: web:1/);
  assert.match(await host.docker('images'), /^web +1 +[0-9a-f]{12} .* 700kB$/m);
  assert.match(await host.docker('images', '--digests'), new RegExp(digest));
  const [shown] = JSON.parse(await host.docker('image', 'inspect', 'web:1'));
  assert.equal(shown.Id, imageId);
  assert.deepEqual(shown.RepoTags, ['web:1']);
  assert.deepEqual(shown.Config, {
    Cmd: ['/hello'],
    Env: ['A=b'],
    ExposedPorts: { '80/tcp': {} },
    Labels: { kind: 'test' },
  });
  assert.equal(shown.RootFS.Layers.length, 2);
  assert.notEqual(shown.Metadata.LastTagTime, '0001-01-01T00:00:00Z');
  const rows = (await host.docker('history', '--no-trunc', '--human=false', 'web:1')).split('\n');
  assert.match(rows[1], new RegExp(`^${imageId} .*COPY hello / +5 +by hand`));
  assert.match(rows[2], /^<missing> .*ENV A=b +0 /);
  assert.match(rows[3], /^<missing> .*COPY noise \/ +700000 /);
  const own = [join(TOP, 'dist/cli/main.js'), '-H', `unix://${host.socket}`, 'history', 'web:1'];
  assert.match(execFileSync(process.execPath, own, { encoding: 'utf8' }), / ago .* 700kB /);
});

test('docker push and pull move an image with its digest, layer by layer', async () => {
  await host.docker('tag', 'web:1', `${PLAIN}/team/web:1`);
  const pushed = await host.docker('push', `${PLAIN}/team/web:1`);
  assert.match(pushed, /The push refers to repository \[127\.0\.0\.1:5000\/team\/web\]/);
  assert.match(pushed, /^[0-9a-f]{12}: Pushed$/m);
  assert.match(pushed, new RegExp(`^1: digest: ${digest} size: \\d+$`, 'm'));
  assert.match(await host.docker('push', `${PLAIN}/team/web:1`), /Layer already exists/);
  await host.docker('tag', 'web:1', `${PLAIN}/copy/web:1`);
  assert.match(await host.docker('push', `${PLAIN}/copy/web:1`), /Mounted from team\/web/);
  const gone = await host.docker('rmi', 'web:1', `${PLAIN}/team/web:1`, `${PLAIN}/copy/web:1`);
  assert.match(gone, /^Untagged: web:1$/m);
  assert.match(gone, new RegExp(`^Untagged: 127.0.0.1:5000/team/web@${digest}$`, 'm'));
  assert.match(gone, new RegExp(`^Deleted: ${imageId}$`, 'm'));
  assert.deepEqual(readdirSync(join(host.dataRoot, 'image', 'blobs', 'sha256')), []);
  assert.deepEqual(readdirSync(join(host.dataRoot, 'image', 'layers')), []);
  const pulled = await host.docker('pull', `${PLAIN}/team/web:1`);
  assert.match(pulled, /^1: Pulling from team\/web$/m);
  assert.match(pulled, /^[0-9a-f]{12}: Pulling fs layer$/m);
  assert.match(pulled, /^[0-9a-f]{12}: Download complete$/m);
  assert.match(pulled, /^[0-9a-f]{12}: Pull complete$/m);
  assert.match(pulled, new RegExp(`^Digest: ${digest}$`, 'm'));
  assert.match(pulled, /^Status: Downloaded newer image for 127.0.0.1:5000\/team\/web:1$/m);
  const again = await host.docker('pull', `${PLAIN}/team/web:1`);
  assert.match(again, /^Status: Image is up to date for/m);
  const [shown] = JSON.parse(await host.docker('inspect', `${PLAIN}/team/web@${digest}`));
  assert.equal(shown.Id, imageId);
  assert.equal(readdirSync(join(host.dataRoot, 'image', 'layers')).length, 2);
  await host.docker('tag', `${PLAIN}/team/web:1`, `${PLAIN}/team/web:2`);
  assert.match(await host.docker('push', '-a', `${PLAIN}/team/web`), /^2: digest: /m);
  await host.docker('rmi', '-f', imageId);
  await host.docker('pull', '-a', '-q', `${PLAIN}/team/web`);
  assert.match(await host.docker('images', '-q', `${PLAIN}/team/web:2`), /[0-9a-f]{12}/);
});

test('docker says in its own words what a registry does not have', async () => {
  const none = await host.tryDocker('pull', `${PLAIN}/team/web:none`);
  assert.equal(none.code, 1);
  assert.match(none.stderr, /manifest for 127.0.0.1:5000\/team\/web:none not found: manifest unkn/);
  const away = await host.tryDocker('pull', '127.0.0.1:5009/web:1');
  assert.match(away.stderr, /cannot reach registry 127.0.0.1:5009: .*ECONNREFUSED/);
  const absent = await host.tryDocker('push', 'nothing:1');
  assert.match(absent.stderr, /An image does not exist locally with the tag: nothing/);
  const search = await host.tryDocker('search', 'web');
  assert.match(search.stderr, /searching registries is not supported .*docker pull NAME/);
  const other = await host.tryDocker('pull', '--platform', 'linux/s390x', `${PLAIN}/team/web:1`);
  assert.match(other.stderr, /the image is for linux\/amd64, not for linux\/s390x/);
});

test('docker login, and pull and push with what it keeps, over TLS of a private authority', async () => {
  const name = `${SAFE}/team/web:1`;
  const login = (password: string) => host.tryDocker('login', '-u', 'me', '-p', password, SAFE);
  assert.match((await login('pw')).stderr, /shows a certificate that is not trusted/);
  const certs = join(host.dataRoot, 'certs.d', SAFE);
  mkdirSync(certs, { recursive: true });
  copyFileSync(join(work, '5001', 'ca.pem'), join(certs, 'ca.crt'));
  const wrong = await login('wrong');
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /unauthorized: authentication required/);
  await host.docker('tag', `${PLAIN}/team/web:1`, name);
  assert.match((await host.tryDocker('push', name)).stderr, /no basic auth credentials/);
  assert.match((await login('pw')).stdout, /Login Succeeded/);
  await host.docker('push', '-q', name);
  await host.docker('rmi', name);
  await host.docker('pull', '-q', name);
  await host.docker('logout', SAFE);
  await host.docker('rmi', name);
  assert.match((await host.tryDocker('pull', name)).stderr, /no basic auth credentials/);
});

test('docker save several, load, import with changes, and filters of lists', async () => {
  const name = `${PLAIN}/team/web`;
  const rootfs = join(work, 'rootfs.tar');
  writeFileSync(rootfs, await tar([file('x', 'x')]));
  const made = await host.docker(
    ...['import', '--change', 'CMD ["/x"]', '-c', 'LABEL made=here', rootfs, 'mine:1'],
  );
  assert.match(made, /^sha256:[0-9a-f]{64}\n$/);
  assert.equal(
    await host.docker('inspect', '-f', '{{.Config.Cmd}} {{.Config.Labels.made}}', 'mine:1'),
    '[/x] here\n',
  );
  const both = join(work, 'both.tar');
  await host.docker('save', '-o', both, `${name}:1`, 'mine:1');
  await host.docker('rmi', '-f', imageId, 'mine:1');
  const loaded = await host.docker('load', '-i', both);
  assert.match(loaded, /Loaded image: 127.0.0.1:5000\/team\/web:1/);
  assert.match(loaded, /Loaded image: mine:1/);
  const ids = async (...filters: string[]): Promise<number> => {
    const flags = filters.flatMap((filter) => ['-f', filter]);
    const listed = await host.docker('images', '-q', ...flags);
    return listed.split('\n').filter(Boolean).length;
  };
  assert.equal(await ids('reference=mine'), 1);
  assert.equal(await ids('reference=*/team/*'), 1);
  assert.equal(await ids('label=made=here'), 1);
  assert.equal(await ids('since=mine:1'), 1);
  assert.equal(await ids('before=mine:1'), 0);
  assert.equal(await ids('dangling=true'), 0);
  assert.equal(await ids('until=1h'), 2);
  assert.match((await host.tryDocker('images', '-f', 'odd=1')).stderr, /invalid filter 'odd'/);
});

test('docker image prune takes dangling images, with -a all that are unused', async () => {
  writeFileSync(join(work, 'a.tar'), await tar([file('a', 'a')]));
  await host.docker('import', join(work, 'a.tar'), 'mine:1');
  const dangling = (await host.docker('images', '-q', '-f', 'dangling=true')).trim();
  assert.match(dangling, /^[0-9a-f]{12}$/, 'the old mine:1 has lost its name');
  const kept = await host.docker('image', 'prune', '-f', '--filter', 'label!=made=here');
  assert.match(kept, /^Total reclaimed space: 0B$/m);
  const first = await host.docker('image', 'prune', '-f');
  assert.match(first, new RegExp(`^deleted: sha256:${dangling}`, 'm'));
  assert.match(first, /^Total reclaimed space: [1-9]/m);
  assert.match(await host.docker('image', 'prune', '-a', '-f', '--filter', 'until=240h'), /untagg/);
  assert.equal(await host.docker('images', '-aq'), '');
  assert.deepEqual(readdirSync(join(host.dataRoot, 'image', 'layers')), []);
  // The client cuts an age to whole seconds; this very second is asked for too.
  const until = String(Math.ceil(new SystemClock().wallMs() / 1000));
  const events = await host.docker(
    ...['events', '--since', '1h', '--until', until, '--filter', 'type=image'],
  );
  for (const action of ['load', 'tag', 'push', 'pull', 'untag', 'delete', 'import', 'save']) {
    assert.match(events, new RegExp(` image ${action} `), action);
  }
  const none = await host.tryDocker('rmi', 'web:1');
  assert.match(none.stderr, /[Nn]o such image: web:1/);
});

interface TaskRow {
  readonly state: string;
  readonly error: string;
}

async function tasksOf(service: string): Promise<TaskRow[]> {
  const format = '{{json .CurrentState}} {{json .Error}}';
  const rows = await host.docker('service', 'ps', '--no-trunc', '--format', format, service);
  return rows
    .split('\n')
    .filter(Boolean)
    .map((row) => {
      const [state, error] = JSON.parse(`[${row.replace('" "', '","')}]`) as [string, string];
      return { state, error };
    });
}

test('a service pulls with the credentials of its creator, and says at once why it cannot', async () => {
  const name = `${SAFE}/team/tsswarm:1`;
  await host.docker('load', '-i', join(TOP, 'dist', 'images', 'web.tar'));
  await host.docker('tag', 'tsswarm/web', name);
  await host.docker('login', '-u', 'me', '-p', 'pw', SAFE);
  await host.docker('push', '-q', name);
  await host.docker('rmi', '-f', 'tsswarm/web', name);
  await host.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
  const create = ['service', 'create', '-d', '--restart-condition', 'none'];
  const without = await host.tryDocker(...create, '--name', 'without', name);
  assert.equal(without.code, 0, without.stderr);
  const refused = await until('its task is rejected', 4000, async () =>
    (await tasksOf('without')).find((task) => task.error !== ''),
  );
  assert.match(refused.state, /^Rejected/);
  assert.match(refused.error, /No such image: .*no basic auth credentials/);

  await host.docker(...create, '--name', 'with', '--with-registry-auth', name);
  await until('it runs', 10_000, async () =>
    (await tasksOf('with')).find((task) => task.state.startsWith('Running')),
  );
  const shown = await host.docker('service', 'inspect', 'with');
  assert.match(shown, new RegExp(`"Image": "${name}@sha256:[0-9a-f]{64}"`));
  assert.doesNotMatch(shown, /registryAuth|"pw"/i);
  assert.doesNotMatch(shown, /cHc/); // in base 64; ids have no capitals
  const [image] = (await host.docker('images', '-q', SAFE.concat('/team/tsswarm'))).split('\n');
  assert.match(image, /^[0-9a-f]{12}$|^$/);

  const absent = await host.tryDocker(...create, '--name', 'absent', `${PLAIN}/none:1`);
  assert.match(absent.stderr, /image 127.0.0.1:5000\/none:1 could not be accessed on a registry/);
  const why = await until('it is said why', 4000, async () =>
    (await tasksOf('absent')).find((task) => task.error !== ''),
  );
  assert.match(why.error, /manifest for 127.0.0.1:5000\/none:1 not found: manifest unknown/);
});

/** The kernel gives a connection that is not answered up after two minutes. */
const AWAY_MS = 30_000;

test('service create does not wait for a registry that is away', async () => {
  // An address that swallows what is sent to it, as a host behind a firewall does.
  const away = '127.0.0.2:5000';
  const rule =
    'add table ip silent; add chain ip silent inward { type filter hook input priority 0; }; ';
  const drop = await host.inside(
    'nft',
    `${rule} add rule ip silent inward ip daddr 127.0.0.2 drop`,
  );
  assert.equal(drop.code, 0, drop.stderr);
  const clock = new SystemClock();
  await host.docker('load', '-i', join(TOP, 'dist', 'images', 'web.tar'));
  await host.docker('tag', 'tsswarm/web', `${away}/web:1`);
  const create = ['service', 'create', '-d', '--restart-condition', 'none'];
  let beganMs = clock.nowMs();
  await host.docker(...create, '--name', 'here', `${away}/web:1`);
  assert.ok(clock.nowMs() - beganMs < AWAY_MS, 'with the image here the wait is short');
  await until('it runs', 5000, async () =>
    (await tasksOf('here')).find((task) => task.state.startsWith('Running')),
  );
  beganMs = clock.nowMs();
  const other = '127.0.0.3:5000';
  await host.inside('nft', 'add rule ip silent inward ip daddr 127.0.0.3 drop');
  const nowhere = await host.tryDocker(...create, '--name', 'nowhere', `${other}/web:1`);
  assert.match(nowhere.stderr, /could not be accessed on a registry/);
  assert.ok(clock.nowMs() - beganMs < AWAY_MS, 'nor is it long without');
  const told = await until('it is said why', 5000, async () =>
    (await tasksOf('nowhere')).find((task) => task.error !== ''),
  );
  assert.match(told.error, /cannot reach registry 127.0.0.3:5000: no connection within 0.9 s/);
  await host.docker('swarm', 'leave', '--force');
});

test('the configuration file sets registries by the keys of daemon.json, and refuses others', async () => {
  const config = join(work, 'daemon.json');
  writeFileSync(config, JSON.stringify({ 'registry-mirrors': [`http://${PLAIN}`] }));
  const staged = `${PLAIN}/library/web:1`;
  await host.docker('load', '-i', join(work, 'web.tar'));
  await host.docker('tag', 'web:1', staged);
  await host.docker('push', '-q', staged);
  await host.docker('rmi', '-f', imageId);
  await host.restart('--config-file', config);
  assert.match(await host.docker('pull', 'web:1'), new RegExp(`Digest: ${digest}`));
  assert.ok(existsSync(join(host.dataRoot, 'image', 'layers')));
  writeFileSync(config, JSON.stringify({ 'insecure-registry': [] }));
  await assert.rejects(host.restart('--config-file', config), /the daemon has ended/);
  writeFileSync(config, JSON.stringify({ 'data-root': '/x' }));
  await assert.rejects(host.restart('--config-file', config), /the daemon has ended/);
  await host.restart();
});

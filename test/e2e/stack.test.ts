/**
 * Stacks on real hosts: `tsswarm stack` from a Compose file to tasks that answer, and what is true
 * on the hosts after each step. The docker client sees the same stacks. One lab of two hosts, in
 * order.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  get,
  inside,
  lab,
  loadImage,
  type Outcome,
  outcome,
  raise,
  running,
  swarm,
  until,
  WEB_IMAGE,
} from '../support/lab.ts';

const directory = mkdtempSync(join(tmpdir(), 'tsswarm-stack-'));
const WAIT_MS = 20_000;
const hasDocker = (await outcome('sh', ['-c', 'docker --version'])).code === 0;
const skip = hasDocker ? false : 'no docker client here';

before(async () => {
  await raise(2, 1);
  await loadImage('h1', 'h2');
});

after(async () => {
  await lab('down');
  rmSync(directory, { recursive: true, force: true });
});

/** A stack file; the path it has. */
function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function deploy(...args: string[]): Promise<Outcome> {
  return inside('h1', 'tsswarm', 'stack', 'deploy', ...args);
}

const WEB = `
x-web: &web
  image: ${WEB_IMAGE}
  networks: [front]
services:
  web:
    <<: *web
    ports: ["8085:80"]
    environment: { GREETING: "\${GREETING:-hello}" }
    secrets: [{ source: key, target: key.txt, mode: 0400 }]
    configs: [{ source: settings, target: /settings, mode: 0444 }]
    depends_on: { db: { condition: service_healthy } }
    deploy:
      replicas: 2
      update_config: { order: start-first, monitor: 500ms, failure_action: rollback }
      restart_policy: { delay: 100ms }
  db:
    <<: *web
    healthcheck:
      test: [CMD, /web, get, "http://127.0.0.1/health"]
      interval: 1s
      start_period: 10s
      start_interval: 200ms
networks: { front: {} }
secrets: { key: { content: hush } }
configs: { settings: { content: "a=\${GREETING:-hello}", name: "settings-\${GREETING:-hello}" } }
`;

test('a stack is deployed, waited for, and answers on every host', async () => {
  const path = file('web.yml', WEB);
  const { code, stdout, stderr } = await deploy('-c', path, 'shop');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /Creating network shop_front\n[\s\S]*Creating service shop_db\n/);
  assert.ok(stdout.indexOf('service shop_db') < stdout.indexOf('service shop_web'), stdout);
  assert.match(stdout, /service shop_web converged\n$/);
  assert.equal((await running('h1', 'shop_web')).length, 2);
  for (const host of ['10.99.0.11', '10.99.0.12']) {
    const answer = await until('it answers', WAIT_MS, () => get('client', `http://${host}:8085/`));
    assert.match(answer, /task/);
  }
  assert.equal(await swarm('h1', 'stack', 'ls', '--format', '{{.Name}} {{.Services}}'), 'shop 2');
});

test('tasks have what the file gives them: secrets, configs, environment, names', async () => {
  for (const { id } of await running('h1', 'shop_web')) {
    // Whatever host it runs on.
    const cat = ['exec', id, '/web', 'cat', '/run/secrets/key.txt', '/settings'];
    assert.equal(await swarm('h1', ...cat), 'husha=hello');
    assert.match(await swarm('h1', 'exec', id, '/web', 'env'), /^GREETING=hello$/m);
    const ask = ['exec', id, '/web', 'get', 'http://db/'];
    assert.match(await until('db answers', WAIT_MS, () => swarm('h1', ...ask)), /task/);
  }
});

test('docker sees the stack, and updates it without replacing a task', { skip }, async () => {
  const before = (await running('h1', 'shop_web')).map((task) => task.id).sort();
  const listed = await inside('h1', 'docker', 'stack', 'ls', '--format', '{{.Name}}');
  assert.equal(listed.stdout, 'shop\n');
  const path = file(
    'docker.yml',
    `version: "3.13"\n${WEB.replace(/condition: service_healthy/, '')}`
      .replace(/depends_on:.*/, 'depends_on: [db]')
      .replaceAll('{ content: hush }', `{ file: ${file('key', 'hush')} }`)
      .replace(/\{ content: "a=[^"]*", /, `{ file: ${file('settings', 'a=hello')}, `),
  );
  const done = await inside('h1', 'docker', 'stack', 'deploy', '--detach=true', '-c', path, 'shop');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /Updating service shop_web/);
  const { code, stdout, stderr } = await deploy('-c', file('web.yml', WEB), 'shop');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /Updating service shop_web/);
  const after = (await running('h1', 'shop_web')).map((task) => task.id).sort();
  assert.deepEqual(after, before);
});

test('a changed file updates what it changes, and --prune removes what it leaves out', async () => {
  const path = file(
    'less.yml',
    WEB.replace(/ {2}db:[\s\S]*?networks: \{/, 'networks: {')
      .replace(/ {4}depends_on:.*\n/, '')
      .replaceAll(':-hello', ':-bye'),
  );
  const { code, stdout, stderr } = await deploy('--prune', '-c', path, 'shop');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^Removing service shop_db$/m);
  assert.match(stdout, /^Creating config settings-bye$/m);
  const [task] = await running('h1', 'shop_web');
  assert.equal(await swarm('h1', 'exec', task.id, '/web', 'cat', '/settings'), 'a=bye');
  assert.equal(await swarm('h1', 'stack', 'services', '-q', 'shop').then((t) => t.length), 12);
});

test('an update that fails is rolled back, and the exit code tells', async () => {
  const path = file(
    'bad.yml',
    WEB.replace(/ {2}db:[\s\S]*?networks: \{/, 'networks: {')
      .replace(/ {4}depends_on:.*\n/, 'X')
      .replace('X', '    command: fail 3\n')
      .replaceAll(':-hello', ':-bye'),
  );
  const { code, stderr } = await deploy('-q', '-c', path, 'shop');
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^tsswarm: shop_web was rolled back: .* \(on h\d: .+\)$/m);
  assert.equal((await running('h1', 'shop_web')).length, 2);
  assert.match(await get('client', 'http://10.99.0.11:8085/'), /task/);
});

test('a file that a swarm cannot run changes nothing and says each key', async () => {
  const path = file('build.yml', 'services: {a: {image: i, build: ., privileged: true}}\n');
  const { code, stderr } = await deploy('-c', path, 'other');
  assert.equal(code, 1);
  assert.match(stderr, /build\.yml: services\.a\.build: images are not built here/);
  assert.match(stderr, /build\.yml: services\.a\.privileged: name what the program needs/);
  assert.equal(await swarm('h1', 'stack', 'ls', '--format', '{{.Name}}'), 'shop');
});

test('other content under a name that exists is refused before anything is changed', async () => {
  const changed = WEB.replace('{ content: hush }', '{ content: loud }').replaceAll(
    ':-hello',
    ':-new',
  );
  const { code, stdout, stderr } = await deploy('--prune', '-c', file('loud.yml', changed), 'shop');
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^tsswarm: the secret shop_key exists with other content, .* another name/);
  assert.doesNotMatch(await swarm('h1', 'config', 'ls', '--format', '{{.Name}}'), /settings-new/);
});

test('jobs of a stack are waited for until they are complete', async () => {
  const path = file(
    'job.yml',
    `
services:
  once:
    image: ${WEB_IMAGE}
    command: [echo, "it is done"]
    deploy: { mode: replicated-job, replicas: 3 }
`,
  );
  const { code, stdout, stderr } = await deploy('-c', path, 'jobs');
  assert.equal(code, 0, stderr);
  assert.match(stdout, /job jobs_once complete\n$/);
  assert.match(await swarm('h1', 'stack', 'services', 'jobs'), /0\/3 \(3\/3 completed\)/);
  await swarm('h1', 'stack', 'rm', 'jobs');
});

test('a stack that is removed leaves no task, network, secret or config', async () => {
  const tasks = await running('h1', 'shop_web');
  assert.equal(tasks.length, 2);
  const out = await swarm('h1', 'stack', 'rm', 'shop');
  assert.match(out, /^Removing service shop_web$/m);
  assert.match(out, /^Removing network shop_front$/m);
  for (const kind of ['service', 'secret', 'config']) {
    assert.equal(await swarm('h1', kind, 'ls', '-q'), '', kind);
  }
  assert.equal(
    await swarm('h1', 'network', 'ls', '-f', 'driver=overlay', '-q', '-f', 'label=x'),
    '',
  );
  for (const host of ['h1', 'h2']) {
    await until(`no container on ${host}`, WAIT_MS, async () =>
      (await swarm(host, 'ps', '-q')) === '' ? true : undefined,
    );
  }
  const again = await inside('h1', 'tsswarm', 'stack', 'rm', 'shop');
  assert.deepEqual([again.code, again.stderr], [0, 'Nothing found in stack: shop\n']);
});

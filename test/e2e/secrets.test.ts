/**
 * Secrets and configs with the real docker client in a lab: what a task on a worker finds in its
 * container, and what nobody finds anywhere else. The tests share one lab of a manager and a worker
 * and run in order.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import {
  containerPid,
  inside,
  lab,
  loadImage,
  outcome,
  raise,
  running,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { docker as dockerOn, layoutOf, within } from '../support/labHosts.ts';

const skip = await skipWithoutDocker();

const VALUE = 'corvid-lantern-8841';
const NEXT_VALUE = 'corvid-lantern-9952';
const files = mkdtempSync(join(tmpdir(), 'secrets-'));
const ON_WORKER = ['--constraint', 'node.hostname==h2'];

function file(name: string, text: string): string {
  const path = join(files, name);
  writeFileSync(path, text);
  return path;
}

async function docker(...args: string[]): Promise<string> {
  return (await dockerOn('h1', ...args)).trim();
}

async function refused(line: RegExp, ...args: string[]): Promise<void> {
  const { code, stderr } = await within('h1', 'docker', ...args);
  assert.notEqual(code, 0, `docker ${args.join(' ')}`);
  assert.match(stderr, line);
}

/** A command on the worker with the container's root as $root. */
async function inTask(service: string, script: string): Promise<string> {
  const [task] = await untilRunning('h1', service, 1);
  const pid = await containerPid('h1', task.id);
  const { code, stdout, stderr } = await inside(
    'h2',
    'sh',
    '-c',
    `root=/proc/${pid}/root; ${script}`,
  );
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

/** Files of a host's daemon that hold the text: its data root and its log. */
async function holders(host: string, text: string): Promise<string> {
  const { dataRoot, logFile } = layoutOf(host);
  const { stdout } = await outcome('grep', ['-rlaF', '--', text, dataRoot, logFile]);
  return stdout.trim();
}

before(async () => {
  if (skip !== false) return;
  await raise(2, 1);
  await loadImage('h1', 'h2');
});

after(async () => {
  rmSync(files, { recursive: true, force: true });
  if (skip === false) await lab('down');
});

test('docker secret create, ls and inspect never show what is in it', { skip }, async () => {
  const id = await docker('secret', 'create', '--label', 'a=1', 'pass', file('pass', VALUE));
  assert.match(id, /^\w{25}$/);
  assert.equal(await docker('secret', 'ls', '--format', '{{.Name}}', '-f', 'label=a=1'), 'pass');
  assert.equal(await docker('secret', 'ls', '-q', '-f', `id=${id.slice(0, 6)}`), id);
  const [shown] = JSON.parse(await docker('secret', 'inspect', 'pass')) as { Spec: object }[];
  assert.deepEqual(shown.Spec, { Name: 'pass', Labels: { a: '1' } });
  assert.deepEqual(await holders('h2', VALUE), '');
  await refused(/secret pass already exists/, 'secret', 'create', 'pass', join(files, 'pass'));
  const large = file('large', 'x'.repeat(512_001));
  await refused(/less than 512000 bytes/, 'secret', 'create', 'large', large);
});

test('a config shows its data, as docker has it', { skip }, async () => {
  await docker('config', 'create', 'site', file('site', 'listen 80;\n'));
  assert.match(await docker('config', 'inspect', '--pretty', 'site'), /listen 80;/);
});

test('a task finds its files with owner and mode, read-only and in memory', { skip }, async () => {
  await docker(
    ...['service', 'create', '--detach', '--name', 'web', ...ON_WORKER],
    ...['--secret', 'source=pass,target=db/password,uid=65534,gid=100,mode=0400'],
    ...['--secret', 'pass', '--config', 'source=site,target=/etc/web/site.conf,mode=0440'],
    ...['--config', 'site', WEB_IMAGE],
  );
  assert.equal(await inTask('web', 'cat $root/run/secrets/pass'), VALUE);
  const facts = 'stat -c "%a %u %g %s" $root/run/secrets/db/password $root/run/secrets/pass';
  const size = VALUE.length;
  assert.equal(await inTask('web', facts), `400 65534 100 ${size}\n444 0 0 ${size}`);
  assert.equal(await inTask('web', 'cat $root/etc/web/site.conf $root/site | wc -l'), '2');
  assert.equal(await inTask('web', 'stat -c %a $root/etc/web/site.conf'), '440');
  const mounts = await inTask('web', 'cat $root/proc/1/mountinfo');
  const line = mounts.split('\n').find((each) => each.includes(' /run/secrets '));
  assert.match(line ?? '', / ro,nosuid,nodev,noexec.* - tmpfs /);
  assert.match(mounts, / \/etc\/web\/site\.conf ro,nosuid,nodev,noexec.* - tmpfs /);
});

test('no disk of the worker, nor its log, holds the secret', { skip }, async () => {
  await inside('h2', 'sync');
  assert.equal(await holders('h2', VALUE), '');
  assert.equal(await holders('h1', VALUE), '', 'the managers’ log is sealed');
  const { stdout } = await within('h1', 'docker', 'service', 'inspect', 'web');
  assert.match(stdout, /"SecretName": "pass"/);
  assert.doesNotMatch(stdout, new RegExp(VALUE));
});

test('a daemon that starts again finds the files of its tasks as they were', { skip }, async () => {
  const [task] = await running('h1', 'web');
  await lab('stop-daemon', 'h2');
  await lab('start-daemon', 'h2');
  const [same] = await untilRunning('h1', 'web', 1);
  assert.equal(same.id, task.id);
  assert.equal(await inTask('web', 'cat $root/run/secrets/pass'), VALUE);
});

test('what is in use is not removed, and an update takes another one in', { skip }, async () => {
  await refused(/in use by the following service: web/, 'secret', 'rm', 'pass');
  await refused(/in use by the following service: web/, 'config', 'rm', 'site');
  await docker('secret', 'create', 'pass-2', file('pass-2', NEXT_VALUE));
  await docker(
    ...['service', 'update', '--detach', '--secret-rm', 'pass'],
    ...['--secret-add', 'source=pass-2,target=pass', 'web'],
  );
  await until('the new secret', 20_000, async () =>
    (await inTask('web', 'cat $root/run/secrets/pass')) === NEXT_VALUE ? true : undefined,
  );
  await docker('secret', 'rm', 'pass');
  await refused(/not found|no such secret/i, 'secret', 'inspect', 'pass');
});

test('templates in a config name the service, the environment and a secret', { skip }, async () => {
  const text =
    'name={{.Service.Name}} node={{.Node.Hostname}} mode={{env "MODE"}} pass={{secret "key"}}';
  await docker('config', 'create', '--template-driver', 'golang', 'tpl', file('tpl', text));
  await docker(
    ...['service', 'create', '--detach', '--name', 'tpl', ...ON_WORKER, '--env', 'MODE=fast'],
    ...['--secret', 'source=pass-2,target=key', '--config', 'source=tpl,target=/tpl', WEB_IMAGE],
  );
  const wanted = `name=tpl node=h2 mode=fast pass=${NEXT_VALUE}`;
  assert.equal(await inTask('tpl', 'cat $root/tpl'), wanted);
});

test('a stack brings its secrets and configs', { skip }, async () => {
  const stack = file(
    'stack.yml',
    `version: "3.8"
services:
  app:
    image: ${WEB_IMAGE}
    secrets: [key]
    configs: [{ source: conf, target: /app.conf }]
    deploy: { placement: { constraints: [node.hostname==h2] } }
secrets: { key: { file: ./pass-2 } }
configs: { conf: { file: ./site } }
`,
  );
  await docker('stack', 'deploy', '--detach=true', '-c', stack, 'shop');
  assert.equal(await inTask('shop_app', 'cat $root/run/secrets/key'), NEXT_VALUE);
  assert.equal(await inTask('shop_app', 'cat $root/app.conf'), 'listen 80;');
  await docker('stack', 'rm', 'shop');
  assert.equal(await docker('secret', 'ls', '-q', '-f', 'name=shop'), '');
});

test('without a manager a task waits for its secret, and has it when one is back', {
  skip,
}, async () => {
  const [task] = await running('h1', 'tpl');
  const pid = await containerPid('h1', task.id);
  await lab('stop-daemon', 'h1');
  await lab('stop-daemon', 'h2');
  await lab('start-daemon', 'h2');
  const read = `cat /proc/${pid}/root/run/secrets/key`;
  assert.equal((await inside('h2', 'sh', '-c', read)).stdout, NEXT_VALUE);
  assert.equal(await holders('h2', NEXT_VALUE), '');
  await inside('h2', 'kill', '-9', String(pid));
  await until('the container is made anew', 30_000, async () => {
    const filter = ['--filter', `label=com.docker.swarm.task.id=${task.id}`];
    const { stdout } = await within('h2', 'docker', 'ps', '-aq', ...filter);
    return stdout.trim() === '' ? true : undefined;
  });
  assert.equal(await holders('h2', NEXT_VALUE), '');
  await lab('start-daemon', 'h1');
  await untilReady('h1', 2);
  await until('it runs with its secret', 30_000, async () => {
    const text = await inTask('tpl', 'cat $root/run/secrets/key');
    return text === NEXT_VALUE ? true : undefined;
  });
});

test('nothing of it is left on the worker when the services are gone', { skip }, async () => {
  await docker('service', 'rm', 'web', 'tpl');
  await until('no tmpfs', 30_000, async () => {
    const { stdout } = await inside('h2', 'sh', '-c', 'grep -c "/memory/" /proc/self/mountinfo');
    return stdout.trim() === '0' ? true : undefined;
  });
  await docker('secret', 'rm', 'pass-2');
  await docker('config', 'rm', 'site', 'tpl');
  assert.equal(await holders('h2', NEXT_VALUE), '');
});

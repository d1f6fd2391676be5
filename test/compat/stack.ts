/** docker stack: Compose files to tasks that answer, and nothing left when a stack is removed. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import { LOCKED, lockedRegistry, loggedIn, SECOND_BOX } from './lockedRegistry.ts';
import type { Suite } from './suite.ts';
import { containersOf, environment, fileOf, leave, ofService, programs, words } from './tasks.ts';
import { BOX, docker, fetched, refused, SOON_MS, tried, within, work } from './world.ts';

const PORT = 8280;
const QUICKLY = 'stop_signal: KILL';

function file(name: string, text: string): string {
  const path = join(work, name);
  writeFileSync(path, text);
  return path;
}

const WEB = (): string => `
services:
  web:
    image: ${BOX}
    command: [sh, -c, "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    ${QUICKLY}
    ports: ["${PORT}:80"]
    environment: { GREETING: "\${COMPAT_GREETING:-hello}" }
    secrets: [{ source: key, target: key.txt, mode: 0400 }]
    configs: [{ source: settings, target: /settings }]
    networks: [front]
    deploy: { replicas: 2, update_config: { monitor: 1ms, parallelism: 0 } }
  peer:
    image: ${BOX}
    command: sleep 1000
    ${QUICKLY}
    networks: [front]
    deploy: { update_config: { monitor: 1ms } }
networks: { front: {} }
secrets: { key: { file: ${file('stack-key', 'hush')} } }
configs: { settings: { file: ${file('stack-settings', 'a=b')} } }
`;
const MORE = `
services:
  web: { environment: { MORE: "yes" }, deploy: { replicas: 3 } }
`;
const LESS = (): string => WEB().replace(/^ {2}peer:\n(?: {4}.*\n)+/m, '');

const deploy = (...args: string[]) => docker('h1', 'stack', 'deploy', ...args);

export function stacks(suite: Suite): void {
  suite.works(
    'stack config',
    ['compose-file', 'skip-interpolation'],
    'files are merged and filled in by the client; no daemon is asked, no host changes',
    async () => {
      const files = [
        '-c',
        file('web.yml', WEB()),
        '-c',
        file('more.yml', `version: "3.13"${MORE}`),
      ];
      const merged = await docker('h1', 'stack', 'config', ...files);
      assert.match(merged, /^ {6}GREETING: hello\n {6}MORE: "yes"$/m);
      assert.match(merged, /^ {6}replicas: 3$/m);
      const raw = await docker('h1', 'stack', 'config', '--skip-interpolation', ...files);
      assert.match(raw, /GREETING: \$\{COMPAT_GREETING:-hello\}/);
      assert.equal(await docker('h1', 'stack', 'ls', '--format', '{{.Name}}'), '');
    },
  );
  deployment(suite);
  images(suite);
  look(suite);
  suite.works(
    'stack rm',
    ['detach'],
    'no program, network, secret or config of the stacks is left',
    async () => {
      const removed = await docker('h1', 'stack', 'rm', '--detach=false', 'shop');
      assert.match(removed, /^Removing service shop_web$/m);
      assert.match(removed, /^Removing network shop_front$/m);
      await docker('h1', 'stack', 'rm', '--detach', 'locked');
      for (const service of ['shop_web', 'locked_box']) {
        await until(`nothing is left of ${service}`, SOON_MS, async () =>
          (await containersOf(service)).length === 0 ? true : undefined,
        );
      }
      const label = ['--filter', 'label=com.docker.stack.namespace=shop', '-q'];
      for (const kind of ['service', 'secret', 'config', 'network']) {
        assert.equal(await docker('h1', kind, 'ls', ...label), '', kind);
      }
      assert.equal(await fetched('client', `http://10.99.0.12:${PORT}/`), '');
      await leave(LOCKED, SECOND_BOX);
    },
  );
}

function deployment(suite: Suite): void {
  suite.works(
    'stack deploy',
    ['compose-file', 'detach', 'quiet'],
    'services answer on every host, with their secrets, configs, environment and names',
    async () => {
      const said = await deploy('--detach=false', '--quiet', '-c', file('web.yml', WEB()), 'shop');
      assert.doesNotMatch(said, /converged/);
      const tasks = await programs('shop_web', 2);
      for (const { pid } of tasks) {
        assert.ok(environment(pid).includes('GREETING=hello'));
        assert.equal(fileOf(pid, '/run/secrets/key.txt') + fileOf(pid, '/settings'), 'husha=b');
      }
      for (const address of ['10.99.0.11', '10.99.0.12']) {
        assert.equal((await fetched('client', `http://${address}:${PORT}/`)).trim(), 'page');
      }
      const [peer] = await programs('shop_peer', 1);
      const ask = ['/bin/busybox', 'wget', '-qO-', 'http://web/'];
      assert.equal(await within(peer.pid, ...ask), 'page');
      const files = ['-c', join(work, 'web.yml'), '-c', file('more.yml', MORE)];
      assert.match(await deploy('--detach', ...files, 'shop'), /Updating service shop_web/);
      await until('the tasks are new', SOON_MS, async () =>
        (await programs('shop_web', 3)).every(({ pid }) => environment(pid).includes('MORE=yes'))
          ? true
          : undefined,
      );
      const [same] = await programs('shop_peer', 1);
      assert.equal(same.pid, peer.pid, 'what did not change runs on');
    },
  );
  suite.works('stack deploy', ['prune'], 'services no longer named end', async () => {
    const path = file('less.yml', LESS());
    assert.doesNotMatch(await deploy('--detach', '-c', path, 'shop'), /Removing/);
    assert.equal((await programs('shop_peer', 1)).length, 1);
    assert.match(await deploy('--detach', '--prune', '-c', path, 'shop'), /service shop_peer/);
    await until('it is gone', SOON_MS, async () =>
      (await containersOf('shop_peer')).length === 0 ? true : undefined,
    );
    await programs('shop_web', 2);
  });
}

function images(suite: Suite): void {
  const image = '{{.Spec.TaskTemplate.ContainerSpec.Image}}';
  suite.works(
    'stack deploy',
    ['resolve-image', 'with-registry-auth'],
    'a worker pulls with the password of who asked; digests are looked up as told',
    async () => {
      await lockedRegistry();
      const text = (tag: string) => `
services:
  box:
    image: ${LOCKED}:${tag}
    command: sleep 1000
    ${QUICKLY}
    deploy: { placement: { constraints: [node.hostname==h2] }, update_config: { monitor: 1ms } }
`;
      const auth = ['--with-registry-auth', '--detach=false', '-q'];
      const never = [...auth, '--resolve-image', 'never'];
      await loggedIn('stack', 'deploy', ...never, '-c', file('one.yml', text('1')), 'locked');
      assert.equal(await ofService('locked_box', image), `${LOCKED}:1`);
      const [first] = await programs('locked_box', 1);
      assert.deepEqual([first.node, words(first.pid)], ['h2', ['sleep', '1000']]);
      const always = [...auth, '--resolve-image', 'always'];
      await loggedIn('stack', 'deploy', ...always, '-c', file('two.yml', text('2')), 'locked');
      const pinned = await ofService('locked_box', image);
      assert.match(pinned, /:2@sha256:[0-9a-f]{64}$/);
      const [second] = await programs('locked_box', 1);
      assert.ok(environment(second.pid).includes('EDITION=2'));
      const changed = [...auth, '--resolve-image', 'changed'];
      await loggedIn('stack', 'deploy', ...changed, '-c', join(work, 'two.yml'), 'locked');
      assert.equal(await ofService('locked_box', image), pinned);
      const [same] = await programs('locked_box', 1);
      assert.equal(same.pid, second.pid);
    },
  );
}

function look(suite: Suite): void {
  const stack = (...args: string[]) => docker('h1', 'stack', ...args);
  const ids = (text: string): string[] => text.split('\n').filter(Boolean).sort();
  suite.works('stack ls', ['format'], 'the stacks that run are told', async () => {
    const format = ['--format', '{{.Name}} {{.Services}}'];
    assert.equal(await stack('ls', ...format), 'locked 1\nshop 1');
  });
  suite.works(
    'stack services',
    ['filter', 'format', 'quiet'],
    'as many tasks are told as programs run',
    async () => {
      const count = (await programs('shop_web', 2)).length;
      const format = ['--format', '{{.Name}} {{.Mode}} {{.Replicas}} {{.Ports}}'];
      const line = `shop_web replicated ${count}/${count} *:${PORT}->80/tcp`;
      assert.equal(await stack('services', ...format, 'shop'), line);
      const id = await docker('h1', 'service', 'inspect', '-f', '{{.ID}}', 'shop_web');
      assert.equal(await stack('services', '--quiet', 'shop'), id.slice(0, 12));
      assert.equal(await stack('services', '-q', '--filter', 'name=shop_x', 'shop'), '');
    },
  );
  suite.works(
    'stack ps',
    ['filter', 'format', 'no-resolve', 'no-trunc', 'quiet'],
    'the tasks that are told are those whose programs run, on those hosts',
    async () => {
      const tasks = await programs('shop_web', 2);
      const running = ['--filter', 'desired-state=running'];
      const told = await stack('ps', '--quiet', '--no-trunc', ...running, 'shop');
      assert.deepEqual(ids(told), tasks.map(({ id }) => id).sort());
      const nodes = await stack('ps', '--format', '{{.Node}}', ...running, 'shop');
      assert.deepEqual(ids(nodes), tasks.map(({ node }) => node).sort());
      const raw = await stack('ps', '--no-resolve', '--format', '{{.Node}}', ...running, 'shop');
      assert.ok(
        ids(raw).every((node) => /^[0-9a-z]{12,25}$/.test(node)),
        raw,
      );
      await refused('h1', ['stack', 'ps', 'nobody'], /^nothing found in stack: nobody$/m);
      assert.equal((await tried('h1', 'stack', 'rm', 'nobody')).code, 0);
    },
  );
}

/** Templates and the merge of image and spec, as Docker does them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  mergeEnv,
  planContainer,
  planNetwork,
  templateContext,
} from '../../agent/containerPlan.ts';
import { expand } from '../../agent/template.ts';
import type { Task } from '../../model/types.ts';
import { makeTask } from '../support/agentParts.ts';

const NODE = { id: 'node1', hostname: 'h1', os: 'linux', architecture: 'x86_64' };
const IMAGE = {
  entrypoint: ['/entry'],
  cmd: ['serve'],
  env: ['PATH=/bin', 'MODE=image'],
  workingDir: '/srv',
  user: 'www',
  stopSignal: 'SIGQUIT',
};

function plan(task: Task) {
  return planContainer(task, IMAGE, templateContext(task, NODE), 'a'.repeat(64));
}

test('every template Docker knows is replaced, with and without spaces', () => {
  const context = templateContext(makeTask('t1'), NODE);
  const text =
    '{{.Service.ID}} {{ .Service.Name }} {{.Service.Labels.tier}} {{.Node.ID}} ' +
    '{{.Node.Hostname}} {{.Node.Platform.OS}}/{{.Node.Platform.Architecture}} ' +
    '{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}} {{index .Service.Labels "tier"}}';
  assert.equal(
    expand(text, 'env', context),
    'service1 web front node1 h1 linux/x86_64 t1 web.1.t1 1 front',
  );
});

test('a label that is not there is empty, and inherited names are not labels', () => {
  const context = templateContext(makeTask('t1'), NODE);
  assert.equal(expand('[{{.Service.Labels.none}}]', 'env', context), '[]');
  assert.equal(expand('[{{.Service.Labels.constructor}}]', 'env', context), '[]');
});

test('an unknown or unclosed template is refused with what it said', () => {
  const context = templateContext(makeTask('t1'), NODE);
  assert.throws(() => expand('A={{.Task.Nope}}', 'env', context), {
    code: 'invalid',
    message: /^env: unknown template "\{\{\.Task\.Nope\}\}"; known are /,
  });
  assert.throws(() => expand('A={{.Task.ID', 'env', context), /is not closed/);
});

test('a container is named and labelled as Docker names and labels a task', () => {
  const made = plan(makeTask('t1'));
  assert.equal(made.name, 'web.1.t1');
  assert.equal(plan(makeTask('t1', { task: { slot: 0 } })).name, 'web.node1.t1');
  assert.deepEqual(made.labels, {
    'com.docker.swarm.node.id': 'node1',
    'com.docker.swarm.service.id': 'service1',
    'com.docker.swarm.service.name': 'web',
    'com.docker.swarm.task': '',
    'com.docker.swarm.task.id': 't1',
    'com.docker.swarm.task.name': 'web.1.t1',
  });
  assert.equal(made.hostname, 'aaaaaaaaaaaa');
});

test('the spec overrides the image: arguments keep the entrypoint, a command drops both', () => {
  assert.deepEqual(plan(makeTask('t1')).args, ['/entry', 'serve']);
  assert.deepEqual(plan(makeTask('t1', { container: { args: ['x'] } })).args, ['/entry', 'x']);
  assert.deepEqual(plan(makeTask('t1', { container: { command: ['sh'] } })).args, ['sh']);
  const made = plan(makeTask('t1', { container: { user: '1000', workingDir: '/w' } }));
  assert.equal(made.user, '1000');
  assert.equal(made.workingDir, '/w');
  assert.equal(plan(makeTask('t1')).stopSignal, 'SIGQUIT');
});

test('environment is merged by name, and a bare name takes a variable away', () => {
  assert.deepEqual(mergeEnv(['A=1', 'B=2', 'C=3'], ['B=x', 'C', 'D=4']), ['A=1', 'B=x', 'D=4']);
  const made = plan(makeTask('t1', { container: { env: ['NAME={{.Task.Name}}', 'MODE=spec'] } }));
  assert.deepEqual(made.env, ['PATH=/bin', 'MODE=spec', 'NAME=web.1.t1']);
});

test('networks: none and host stand alone, nothing named is the default bridge', () => {
  const on = (target: string) => ({ spec: { networks: [{ target, aliases: [], addresses: [] }] } });
  assert.deepEqual(planNetwork(makeTask('t1', on('none'))), { kind: 'new' });
  assert.deepEqual(planNetwork(makeTask('t1', on('host'))), { kind: 'host' });
  const bare = makeTask('t1', { spec: { networks: [] } });
  assert.deepEqual(planNetwork(bare), {
    kind: 'attached',
    overlays: [],
    defaultBridge: true,
    publishes: false,
  });
  const both = {
    spec: { networks: ['none', 'n1'].map((target) => ({ target, aliases: [], addresses: [] })) },
  };
  assert.throws(() => planNetwork(makeTask('t1', both)), /cannot be combined/);
});

test('log options are read, and a bad one is refused', () => {
  const logs = (logOptions: Record<string, string>) => makeTask('t1', { spec: { logOptions } });
  assert.deepEqual(plan(logs({ 'max-size': '10m', 'max-file': '3' })).log, {
    maxSizeBytes: 10 * 1024 * 1024,
    maxFiles: 3,
  });
  assert.throws(() => plan(logs({ 'max-file': '0' })), /max-file=0/);
});

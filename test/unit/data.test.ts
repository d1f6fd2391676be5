/**
 * Secrets and configs without hosts: what the writes check, what the store refuses to take away,
 * which node is told of which, and what an agent makes of it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secrets } from '../../agent/secrets.ts';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { atOnce } from '../../base/slices.ts';
import { Writes } from '../../manager/control/writes.ts';
import { difference, inBatches } from '../../manager/dispatcher/assignments.ts';
import { SharedAssignments } from '../../manager/dispatcher/shared.ts';
import type { AssignmentItem } from '../../model/assignment.ts';
import { TaskState } from '../../model/taskState.ts';
import type { DataSpec, FileReference, ServiceSpec } from '../../model/types.ts';
import { makeTask } from '../support/agentParts.ts';
import { DirectStore } from '../support/directStore.ts';
import { FakeMemoryFiles } from '../support/fakeRuntime.ts';
import { ManualClock } from '../support/manualClock.ts';
import { cluster, container, node, serviceSpec } from '../support/objects.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);

function data(name: string, fields: Partial<DataSpec> = {}): DataSpec {
  return { name, labels: {}, data: bytes(`value of ${name}`), templating: '', ...fields };
}

function reference(name: string, fields: Partial<FileReference> = {}): FileReference {
  return { id: '', name, target: name, uid: '0', gid: '0', mode: 0o444, ...fields };
}

function naming(secrets: FileReference[], configs: FileReference[] = []): ServiceSpec {
  return serviceSpec('web', { task: { container: container({ secrets, configs }) } });
}

function scene() {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  direct.create('node', node('w1', 1));
  direct.create('node', node('w2', 2));
  const random = new SeededRandom(1);
  const writes = new Writes({
    clock,
    store: direct.store,
    proposer: direct,
    ids: new Ids(random),
    random,
    cannotDemote: async () => '',
  });
  return { clock, direct, writes };
}

test('a name is taken once, in whatever letters, and data keeps its bounds', async () => {
  const { writes } = scene();
  await writes.createData('secret', data('pass'));
  await writes.createData('config', data('pass'));
  await assert.rejects(writes.createData('secret', data('pass')), /pass already exists/);
  await assert.rejects(writes.createData('secret', data('PASS')), { code: 'conflict' });
  const large = { data: new Uint8Array(512_001) };
  await assert.rejects(writes.createData('secret', data('big', large)), /less than 512000 bytes/);
  await writes.createData('config', data('big', large));
  const none = data('none', { data: bytes('') });
  await assert.rejects(writes.createData('config', none), /larger than 0/);
  for (const name of ['', '-a', 'a b', 'a'.repeat(65)]) {
    await assert.rejects(writes.createData('secret', data(name)), { code: 'invalid' });
  }
});

test('an update changes labels and nothing else', async () => {
  const { writes, direct } = scene();
  const { object } = await writes.createData('secret', data('pass'));
  const labelled = data('', { labels: { a: '1' }, data: bytes('') });
  await writes.updateData('secret', object.id, object.version, labelled);
  const after = direct.store.get('secret', object.id);
  assert.deepEqual(after?.spec, { ...object.spec, labels: { a: '1' } });
  assert.equal(after?.spec.data, direct.store.get('secret', object.id)?.spec.data);
  await assert.rejects(writes.updateData('secret', object.id, object.version, labelled), {
    code: 'out_of_sequence',
  });
  const { version } = after ?? object;
  for (const spec of [data('other'), data('', { data: bytes('else') })]) {
    const update = writes.updateData('secret', object.id, version, spec);
    await assert.rejects(update, /only updates to Labels are allowed/);
  }
});

test('what a service names must be there, and cannot be removed before it', async () => {
  const { writes } = scene();
  const wanted = naming([reference('pass')], [reference('site')]);
  await assert.rejects(writes.createService(wanted), /secret not found: pass/);
  const secret = (await writes.createData('secret', data('pass'))).object;
  await assert.rejects(writes.createService(wanted), /config not found: site/);
  const config = (await writes.createData('config', data('site'))).object;
  const service = (await writes.createService(wanted)).object;
  assert.equal(service.spec.task.container.secrets[0].id, secret.id);
  assert.equal(service.spec.task.container.configs[0].id, config.id);
  await assert.rejects(
    writes.removeData('secret', secret.id),
    /secret 'pass' is in use by the following service: web/,
  );
  await writes.updateService(service.id, service.version, naming([], [reference('site')]));
  await writes.removeData('secret', secret.id);
  await assert.rejects(writes.removeData('config', config.id), /in use/);
  await assert.rejects(writes.removeData('secret', 'none'), { code: 'not_found' });
});

test('references that cannot be files are refused', async () => {
  const { writes } = scene();
  await writes.createData('secret', data('pass'));
  await writes.createData('config', data('site'));
  const bad: [FileReference[], FileReference[], RegExp][] = [
    [[reference('pass', { target: '../x' })], [], /malformed file target/],
    [[reference('pass', { target: '' })], [], /malformed file target/],
    [[reference('pass', { uid: 'root' })], [], /invalid uid "root"/],
    [[reference('pass', { mode: 0o10000 })], [], /mode of secret pass/],
    [[reference('pass'), reference('pass')], [], /conflicting target: 'pass'/],
    [
      [reference('pass')],
      [reference('site', { target: '/run/secrets//pass' })],
      /conflicting target/,
    ],
  ];
  for (const [secrets, configs, line] of bad) {
    await assert.rejects(writes.createService(naming(secrets, configs)), line);
  }
});

test('a node is told of data while a task there needs it, and only then', async () => {
  const { writes, direct } = scene();
  const { object } = await writes.createData('secret', data('pass'));
  const spec = naming([reference('pass')]);
  const service = (await writes.createService(spec)).object;
  const shared = new SharedAssignments();
  atOnce(shared.refresh(direct.store));
  const keysOf = (nodeId: string): string[] => [...shared.itemsOf(direct.store, nodeId).keys()];
  const key = `secret/${object.id}`;
  assert.deepEqual(keysOf('w1'), ['ingress']);
  const task = makeTask('t1', {
    task: { serviceId: service.id, nodeId: 'w1', version: 0 },
    spec: { container: service.spec.task.container },
  });
  direct.create('task', task);
  assert.deepEqual(keysOf('w1'), [key, 'ingress', 'task/t1']);
  assert.deepEqual(keysOf('w2'), ['ingress']);
  const first = shared.itemsOf(direct.store, 'w1');
  assert.equal(first.get(key), shared.itemsOf(direct.store, 'w1').get(key));
  const now = direct.store.get('task', 't1');
  assert.ok(now !== undefined);
  const status = { ...now.status, state: TaskState.COMPLETE };
  direct.update('task', { ...now, status });
  const ended = difference(first, shared.itemsOf(direct.store, 'w1'));
  assert.deepEqual(ended.remove, [key]);
});

test('much data goes in several messages, all else in the first', () => {
  const item = (id: string): AssignmentItem => ({
    kind: 'config',
    data: { id, name: id, data: new Uint8Array(1_000_000), templating: '' },
  });
  const task: AssignmentItem = { kind: 'task', task: makeTask('t1') };
  const configs = Array.from({ length: 20 }, (_, at) => item(`c${at}`));
  const batches = [...inBatches({ update: [...configs, task], remove: ['task/old'] })];
  assert.deepEqual(
    batches.map(({ update }) => update.length),
    [9, 8, 4],
  );
  assert.ok(batches[0].update.includes(task));
  assert.deepEqual(
    batches.map(({ remove }) => remove.length),
    [1, 0, 0],
  );
  assert.deepEqual([...inBatches({ update: [], remove: [] })], [{ update: [], remove: [] }]);
});

const CONTEXT = {
  service: { id: 's', name: 'web', labels: {} },
  node: { id: 'n', hostname: 'h1', os: 'linux', architecture: 'x86_64' },
  task: { id: 't', name: 'web.1.t', slot: 1 },
};

function agentScene() {
  const clock = new ManualClock();
  const memoryFiles = new FakeMemoryFiles();
  return { clock, memoryFiles, secrets: new Secrets({ clock, memoryFiles }) };
}

const never = new AbortController().signal;

test('files are made where references say, templates replaced, binary data kept', async () => {
  const { memoryFiles, secrets } = agentScene();
  const raw = Buffer.from([0xff, 0x00, 0xc3]);
  const add = (kind: 'secret' | 'config', id: string, value: Uint8Array, golang = false): void =>
    secrets.apply({
      kind,
      data: { id, name: id, data: value, templating: golang ? 'golang' : '' },
    });
  add('secret', 'raw', raw);
  add('secret', 'sub', bytes('deep'));
  const template = '{{.Service.Name}} {{ env "A" }} {{secret "raw"}} {{config `/c`}}';
  add('config', 'tpl', bytes(template), true);
  add('config', 'c', bytes('{{left}}'));
  const spec = container({
    env: ['A=1', 'A={{.Node.Hostname}}'],
    secrets: [
      reference('raw', { id: 'raw' }),
      reference('sub', { id: 'sub', target: 'a/b', uid: '5', gid: '6', mode: 0o400 }),
    ],
    configs: [
      reference('tpl', { id: 'tpl', target: 'etc/tpl' }),
      reference('c', { id: 'c', target: '/c' }),
    ],
  });
  const mounts = await secrets.mounts('c1', spec, CONTEXT, never);
  assert.deepEqual(
    mounts.map(({ source, target, readOnly }) => [source, target, readOnly]),
    [
      ['/memory/c1/secrets', '/run/secrets', true],
      ['/memory/c1/files/2', '/etc/tpl', true],
      ['/memory/c1/files/3', '/c', true],
    ],
  );
  const made = memoryFiles.made.get('c1') ?? [];
  assert.deepEqual(
    made.map(({ path, uid, gid, mode }) => [path, uid, gid, mode]),
    [
      ['secrets/raw', 0, 0, 0o444],
      ['secrets/a/b', 5, 6, 0o400],
      ['files/2', 0, 0, 0o444],
      ['files/3', 0, 0, 0o444],
    ],
  );
  const expanded = Buffer.concat([bytes('web h1 '), raw, bytes(' {{left}}')]);
  assert.deepEqual(Buffer.from(made[2].data), expanded);
  assert.equal(Buffer.from(made[3].data).toString(), '{{left}}');
  secrets.sweep([]);
  assert.equal(memoryFiles.made.size, 0);
});

test('a template that is wrong fails with its name and none of its data', async () => {
  const { secrets } = agentScene();
  const make = (text: string): Promise<unknown> => {
    const held = { id: 'x', name: 'x', data: bytes(text), templating: 'golang' } as const;
    secrets.apply({ kind: 'config', data: held });
    const spec = container({ configs: [reference('x', { id: 'x' })] });
    return secrets.mounts('c1', spec, CONTEXT, never);
  };
  await assert.rejects(
    make('hidden {{printf "a"}}'),
    /config x: unknown template "{{printf "a"}}"/,
  );
  await assert.rejects(make('{{secret "gone"}}'), /config x: secret target gone not found/);
});

test('a task waits for its secret until a manager came, then a bounded while', async () => {
  const { clock, secrets } = agentScene();
  const spec = container({ secrets: [reference('pass', { id: 'p' })] });
  let state = 'waits';
  const waiting = secrets.mounts('c1', spec, CONTEXT, never).then(
    () => {
      state = 'made';
    },
    (error: Error) => {
      state = error.message;
    },
  );
  await clock.advance(60_000);
  assert.equal(state, 'waits');
  secrets.complete();
  await clock.advance(9_000);
  assert.equal(state, 'waits');
  const held = { id: 'p', name: 'pass', data: bytes('v'), templating: '' } as const;
  secrets.apply({ kind: 'secret', data: held });
  await waiting;
  assert.equal(state, 'made');
  secrets.forget('secret/p');
  const gone = assert.rejects(secrets.mounts('c2', spec, CONTEXT, never), {
    code: 'not_found',
    message: 'secret not found: pass: was it removed?',
  });
  await clock.advance(11_000);
  await gone;
});

test('a task that is stopped waits no longer for its secret', async () => {
  const { secrets } = agentScene();
  const stop = new AbortController();
  const spec = container({ secrets: [reference('pass', { id: 'p' })] });
  const waiting = secrets.mounts('c1', spec, CONTEXT, stop.signal);
  stop.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
});

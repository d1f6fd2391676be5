/** Hooks: when each runs and in which namespaces, what it reads, and what becomes of one that fails. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { TAG } from '../../runtime/container/encode.ts';
import { NAMESPACE } from '../../runtime/container/specRecords.ts';
import {
  DETACHED,
  type Extra,
  ended,
  HOOK,
  hook,
  hookState,
  launcherHost,
  numeric,
  PHASE,
  scriptHook,
  type Told,
} from '../support/launcher.ts';
import { until } from '../support/until.ts';

const { host, launcher } = launcherHost('hooks');

let round = 0;

/** A place of its own on the host for what hooks write. */
function place(): string {
  round += 1;
  const dir = join(host.dir, `hooks-${round}`);
  mkdirSync(dir);
  return dir;
}

async function start(args: readonly string[], extra: readonly Extra[]): Promise<Told> {
  const joins = extra.some(([tag, kind]) => tag === TAG.namespace && kind === NAMESPACE.pid);
  const config = host.config(['/bin/probe', ...args], { pidNamespace: joins ? 'host' : 'new' });
  return await launcher.start(launcher.spec(config, DETACHED, [numeric, hookState, ...extra]));
}

interface State {
  readonly status: string;
  readonly pid: number;
  readonly bundle: string;
}

const state = (file: string): State => JSON.parse(readFileSync(file, 'utf8')) as State;

test('every hook runs at its moment, in its namespaces, with the state of that moment', async () => {
  const dir = place();
  const gate = join(dir, 'gate');
  execFileSync('mkfifo', ['-m', '600', gate]);
  const record = (name: string): string =>
    `cat > ${dir}/${name}.json; readlink /proc/self/ns/mnt > ${dir}/${name}.mnt; ` +
    `readlink /proc/self/ns/net > ${dir}/${name}.net; echo ${name} >> ${dir}/order`;
  const told = await start(
    ['sleep', '60'],
    [
      [TAG.gate, gate],
      scriptHook(HOOK.createContainer, `${record('container')}; touch tmp/made`),
      scriptHook(HOOK.createRuntime, record('runtime')),
      scriptHook(HOOK.prestart, record('pre')),
      hook(HOOK.startContainer, ['/bin/probe', 'write', '/tmp/inside', 'here'], { env: [] }),
      hook(HOOK.startContainer, ['/bin/probe', 'copy', '0']),
      scriptHook(HOOK.poststart, record('post')),
    ],
  );
  assert.deepEqual([told.failure, told.phase], [undefined, PHASE.created]);
  assert.equal(readFileSync(join(dir, 'order'), 'utf8'), 'pre\nruntime\ncontainer\n');
  for (const name of ['pre', 'runtime']) {
    assert.deepEqual(state(join(dir, `${name}.json`)), {
      ociVersion: '1.0.2',
      id: 'test',
      status: 'creating',
      pid: told.pid,
      bundle: '/nowhere',
    });
  }
  assert.equal(state(join(dir, 'container.json')).pid, 1);
  assert.equal(existsSync(`/proc/${told.pid}/root/tmp/made`), true);
  const own = (kind: string): string => readlinkSync(`/proc/self/ns/${kind}`);
  const its = (kind: string): string => readlinkSync(`/proc/${told.pid}/ns/${kind}`);
  const seen = (name: string): string => readFileSync(join(dir, name), 'utf8').trim();
  assert.deepEqual([seen('runtime.mnt'), seen('runtime.net')], [own('mnt'), own('net')]);
  assert.deepEqual([seen('container.mnt'), seen('container.net')], [its('mnt'), its('net')]);
  assert.equal(existsSync(`/proc/${told.pid}/root/tmp/inside`), false);
  readFileSync(gate);
  assert.equal(readFileSync(`/proc/${told.pid}/root/tmp/inside`, 'utf8'), 'here');
  // With a gate, poststart is for who opens it.
  assert.equal(readFileSync(join(dir, 'order'), 'utf8'), 'pre\nruntime\ncontainer\n');
});

test("hooks of a container in another's pid namespace are told of who makes its process", async () => {
  const first = await start(['sleep', '60'], []);
  const dir = place();
  const record = (name: string): string =>
    `cat > ${dir}/${name}.json; pid=$(sed 's/.*"pid":\\([0-9]*\\).*/\\1/' ${dir}/${name}.json); ` +
    `readlink /proc/$pid/ns/net > ${dir}/${name}.net; readlink /proc/self/ns/pid > ${dir}/${name}.pid`;
  const told = await start(
    ['sleep', '60'],
    [
      [TAG.namespace, NAMESPACE.pid, `/proc/${first.pid}/ns/pid`],
      scriptHook(HOOK.prestart, record('pre')),
      scriptHook(HOOK.createContainer, record('container')),
      hook(HOOK.startContainer, ['/bin/probe', 'write', '/tmp/inside', 'here'], { env: [] }),
      scriptHook(HOOK.poststart, record('post')),
    ],
  );
  assert.equal(told.failure, undefined);
  const its = (kind: string): string => readlinkSync(`/proc/${told.pid}/ns/${kind}`);
  const seen = (name: string): string => readFileSync(join(dir, name), 'utf8').trim();
  for (const name of ['pre', 'container', 'post']) {
    assert.equal(seen(`${name}.net`), its('net'), name);
    assert.equal(seen(`${name}.pid`), readlinkSync('/proc/self/ns/pid'), name);
  }
  assert.equal(its('pid'), readlinkSync(`/proc/${first.pid}/ns/pid`));
  assert.equal(state(join(dir, 'post.json')).pid, told.pid);
  assert.equal(readFileSync(`/proc/${told.pid}/root/tmp/inside`, 'utf8'), 'here');
  for (const { pid } of [told, first]) {
    process.kill(pid, 'SIGKILL');
    await launcher.end(pid);
  }
});

test('without a gate the launcher runs poststart once the program is executed', async () => {
  const dir = place();
  const told = await start(
    ['sleep', '60'],
    [
      scriptHook(HOOK.poststart, `cat > ${dir}/post.json`),
      scriptHook(HOOK.poststart, 'exit 3'),
      scriptHook(HOOK.poststart, `touch ${dir}/never`),
    ],
  );
  assert.equal(told.phase, PHASE.running);
  assert.deepEqual(
    [state(join(dir, 'post.json')).status, state(join(dir, 'post.json')).pid],
    ['running', told.pid],
  );
  assert.deepEqual(told.notes, ['error running hook /bin/sh: exit status 3']);
  assert.equal(existsSync(join(dir, 'never')), false);
});

test('a hook has the variables it was given and nothing else of its launcher', async () => {
  const dir = place();
  const script =
    `/usr/bin/env > ${dir}/env; ls /proc/self/fd > ${dir}/fds; ` +
    `sed -n '/SigBlk/p' /proc/self/status > ${dir}/mask`;
  const told = await start(
    ['exit', '0'],
    [
      hook(HOOK.createRuntime, ['/bin/sh', '-c', script, 'own name'], {
        env: ['A=1', 'B=two words'],
      }),
    ],
  );
  assert.equal(told.failure, undefined);
  const env = readFileSync(join(dir, 'env'), 'utf8').split('\n');
  assert.deepEqual(
    env.filter((line) => !/^(PWD|OLDPWD|SHLVL|_)=/.test(line)),
    ['A=1', 'B=two words', ''],
  );
  assert.equal(readFileSync(join(dir, 'fds'), 'utf8'), '0\n1\n2\n3\n');
  assert.match(readFileSync(join(dir, 'mask'), 'utf8'), /\t0000000000000000\n/);
});

test('a hook that fails fails the creation, by its path and code, and leaves nothing', async () => {
  for (const [stage, script, error] of [
    [
      HOOK.prestart,
      'echo some reason >&2; exit 7',
      'error running hook /bin/sh: exit status 7: some reason',
    ],
    [HOOK.createRuntime, 'exit 1', 'error running hook /bin/sh: exit status 1'],
    [HOOK.createContainer, 'kill -9 $$', 'error running hook /bin/sh: signal 9'],
  ] as const) {
    const config = host.config(['/bin/probe', 'sleep', '60']);
    const spec = launcher.spec(config, DETACHED, [numeric, hookState, scriptHook(stage, script)]);
    const told = await launcher.start(spec);
    assert.deepEqual(told.failure, { exitCode: 128, error });
    assert.deepEqual(host.cgroups.list().includes(config.id), false);
  }
  const absent = await start(['exit', '0'], [hook(HOOK.startContainer, ['/bin/absent'])]);
  assert.equal(
    absent.failure?.error,
    'error running hook /bin/absent: exit status 127: No such file or directory',
  );
});

test('a hook that runs longer than it may is killed, and the creation fails', async () => {
  const clock = new SystemClock();
  const startMs = clock.nowMs();
  for (const stage of [HOOK.createRuntime, HOOK.createContainer]) {
    const dir = place();
    const told = await start(
      ['exit', '0'],
      [scriptHook(stage, `echo $$ > ${dir}/pid; exec sleep 600`, 1)],
    );
    assert.equal(told.failure?.error, 'hook /bin/sh ran longer than its 1 s');
    const pid = readFileSync(join(dir, 'pid'), 'utf8').trim();
    if (stage === HOOK.createRuntime) assert.equal(existsSync(`/proc/${pid}`), false);
  }
  assert(clock.nowMs() - startMs < 60_000);
});

test('a hook of a container that is killed meanwhile does not stay behind', async () => {
  const dir = place();
  const script =
    `cat > ${dir}/state; echo $$ > ${dir}/pid.new; mv ${dir}/pid.new ${dir}/pid; ` +
    'exec sleep 600';
  const config = host.config(['/bin/probe', 'exit', '0']);
  const told = launcher.start(
    launcher.spec(config, DETACHED, [numeric, hookState, scriptHook(HOOK.createRuntime, script)]),
  );
  await until('the hook to run', 10_000, () => existsSync(join(dir, 'pid')));
  process.kill(state(join(dir, 'state')).pid, 'SIGKILL');
  assert.match((await told).failure?.error ?? '', /^killed before its program was executed$/);
  assert.equal(existsSync(`/proc/${readFileSync(join(dir, 'pid'), 'utf8').trim()}`), false);
});

test('what a killed launcher was making does not wait at its gate for ever', async () => {
  const dir = place();
  const gate = join(dir, 'gate');
  execFileSync('mkfifo', ['-m', '600', gate]);
  const config = host.config(['/bin/probe', 'exit', '0']);
  const script = `touch ${dir}/begun; while [ ! -e ${dir}/go ]; do sleep 0.05; done`;
  const extra = [numeric, hookState, scriptHook(HOOK.createContainer, script)];
  const { pid, told } = launcher.begin(
    launcher.spec(config, DETACHED, [...extra, [TAG.gate, gate]]),
  );
  try {
    await until('the hook', 20_000, () => existsSync(join(dir, 'begun')));
    process.kill(pid, 'SIGKILL');
    assert.equal(await ended(pid), 137);
    assert.equal((await told).pid, 0);
  } finally {
    writeFileSync(join(dir, 'go'), '');
  }
  await until('what it made to end', 20_000, () => host.cgroups.pids(config.id).length === 0);
});

test('a state of any size up to a mebibyte is read whole', async () => {
  const dir = place();
  const tail = `,"annotations":{"a":"${'x'.repeat(900_000)}"}}`;
  const told = await start(
    ['exit', '0'],
    [
      [TAG.hookState, '{"id":"large","status":"', tail],
      scriptHook(HOOK.createRuntime, `cat > ${dir}/large`),
    ],
  );
  assert.equal(told.failure, undefined);
  assert.equal(JSON.parse(readFileSync(join(dir, 'large'), 'utf8')).id, 'large');
});

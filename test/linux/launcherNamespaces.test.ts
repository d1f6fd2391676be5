/**
 * Namespaces as an OCI configuration names them: each new or joined by path, several at once, with
 * maps and clock offsets. Looked at from the host and from inside.
 */
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import {
  readSpec,
  type SpecRecord,
  SpecWriter,
  TAG,
  type Tag,
} from '../../runtime/container/encode.ts';
import { addMount, NAMESPACE, type NamespaceKind } from '../../runtime/container/specRecords.ts';
import { makePipe } from '../../runtime/sys/libc.ts';
import {
  DETACHED,
  type Extra,
  ended,
  HOOK,
  hookState,
  launcherHost,
  numeric,
  scriptHook,
  type Told,
} from '../support/launcher.ts';
import { buildLayer, buildProbe } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const { host, launcher } = launcherHost('namespaces');
const OFFSET_S = 86_400;
const FIRST_ID = 200_000;

const namespace = (kind: NamespaceKind, path = ''): Extra => {
  return [TAG.namespace, NAMESPACE[kind], path];
};
const layerMaps: readonly Extra[] = [
  [TAG.layerMap, 0, 0, FIRST_ID, 1000],
  [TAG.layerMap, 1, 0, FIRST_ID, 2000],
];
const maps: readonly Extra[] = [
  namespace('user'),
  [TAG.uidMap, 0, FIRST_ID, 1000],
  [TAG.uidMap, 1000, FIRST_ID + 5000, 1000],
  [TAG.gidMap, 0, FIRST_ID, 2000],
  ...layerMaps,
];

/** The last mount namespace named counts. */
function withoutOwnMounts(spec: Uint8Array): Uint8Array {
  const writer = new SpecWriter();
  const isOwn = ({ tag, payload }: SpecRecord): boolean =>
    tag === TAG.namespace &&
    Buffer.from(payload).readUInt32LE(0) === NAMESPACE.mount &&
    payload.length === 5;
  for (const record of readSpec(spec)) {
    if (!isOwn(record)) writer.add(record.tag as Tag, record.payload);
  }
  return writer.finish();
}

async function begin(
  args: readonly string[],
  extra: readonly Extra[],
  without: readonly NamespaceKind[] = [],
): Promise<{ readonly told: Told; readonly read: () => string }> {
  const pipe = makePipe();
  const config = host.config(['/bin/probe', ...args], {
    networkNamespace: without.includes('network') ? 'host' : 'new',
    pidNamespace: without.includes('pid') ? 'host' : 'new',
    ipcNamespace: without.includes('ipc') ? 'host' : 'new',
    utsNamespace: without.includes('uts') ? 'host' : 'new',
    cgroupNamespace: without.includes('cgroup') ? 'host' : 'new',
  });
  const whole = launcher.spec(config, DETACHED, [numeric, ...extra]);
  const spec = without.includes('mount') ? withoutOwnMounts(whole) : whole;
  const told = await launcher.start(spec, [0, pipe.write, pipe.write]);
  closeSync(pipe.write);
  const read = (): string => {
    const text = readFileSync(pipe.read, 'utf8');
    closeSync(pipe.read);
    return text;
  };
  return { told, read };
}

async function output(
  args: readonly string[],
  extra: readonly Extra[],
  without?: readonly NamespaceKind[],
): Promise<string> {
  const { told, read } = await begin(args, extra, without);
  assert.equal(told.failure, undefined);
  const text = read();
  await launcher.end(told.pid);
  return text.trimEnd();
}

async function failureOf(
  extra: readonly Extra[],
  without?: readonly NamespaceKind[],
): Promise<string> {
  const { told, read } = await begin(['exit', '0'], extra, without);
  assert.equal(read(), '');
  return told.failure?.error ?? '';
}

async function sleeper(
  extra: readonly Extra[] = [],
  without: readonly NamespaceKind[] = [],
): Promise<{ readonly pid: number; readonly end: () => Promise<void> }> {
  const { told, read } = await begin(['sleep', '60'], extra, without);
  assert.equal(told.failure, undefined);
  const end = async (): Promise<void> => {
    process.kill(told.pid, 'SIGKILL');
    assert.equal(await launcher.end(told.pid), 137);
    assert.equal(read(), '');
  };
  return { pid: told.pid, end };
}

const linkOf = (pid: number | 'self', name: string): string =>
  readlinkSync(`/proc/${pid}/ns/${name}`);
const pathOf = (pid: number, name: string): string => `/proc/${pid}/ns/${name}`;

test('a time namespace has the clocks it is given, alone and in a user namespace', async () => {
  const offsets: Extra[] = [
    namespace('time'),
    [TAG.timeOffset, 1, BigInt(OFFSET_S), 0],
    [TAG.timeOffset, 7, BigInt(2 * OFFSET_S), 500_000_000],
  ];
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  for (const extra of [offsets, [...maps, ...offsets]]) {
    const text = await output(['clocks'], extra);
    const [, monotonic, boottime] = text.match(/^monotonic (\d+) boottime (\d+)$/) ?? [];
    assert(Number(monotonic) >= OFFSET_S + Math.floor(uptime) - 60, text);
    assert(Number(boottime) - Number(monotonic) >= OFFSET_S, text);
  }
});

test('namespaces are joined by path, several at once', async () => {
  const first = await sleeper();
  const without = ['network', 'ipc', 'uts', 'pid', 'cgroup'] as const;
  const second = await sleeper(
    [
      namespace('network', pathOf(first.pid, 'net')),
      namespace('ipc', pathOf(first.pid, 'ipc')),
      namespace('uts', pathOf(first.pid, 'uts')),
      namespace('pid', pathOf(first.pid, 'pid')),
      namespace('cgroup', pathOf(first.pid, 'cgroup')),
    ],
    without,
  );
  for (const name of ['net', 'ipc', 'uts', 'pid', 'cgroup']) {
    assert.equal(linkOf(second.pid, name), linkOf(first.pid, name), name);
    assert.notEqual(linkOf(second.pid, name), linkOf('self', name), name);
  }
  assert.notEqual(linkOf(second.pid, 'mnt'), linkOf(first.pid, 'mnt'));
  // The second process there asked for its procfs, the third is its first.
  assert.match(readFileSync(`/proc/${second.pid}/status`, 'utf8'), /^NSpid:\t\d+\t3$/m);
  await second.end();
  await first.end();
});

test('a user namespace is joined with its siblings, new ones beside them belong to it', async () => {
  const first = await sleeper(maps);
  const join = [
    namespace('user', pathOf(first.pid, 'user')),
    namespace('network', pathOf(first.pid, 'net')),
    namespace('pid', pathOf(first.pid, 'pid')),
    ...layerMaps,
  ];
  const { told, read } = await begin(['cat', '/proc/self/uid_map'], join, ['network', 'pid']);
  assert.equal(told.failure, undefined);
  assert.match(read(), /^ +0 +200000 +1000\n +1000 +205000 +1000\n$/);
  await launcher.end(told.pid);
  const second = await sleeper(join, ['network', 'pid']);
  for (const name of ['user', 'net', 'pid']) {
    assert.equal(linkOf(second.pid, name), linkOf(first.pid, name), name);
  }
  assert.notEqual(linkOf(second.pid, 'ipc'), linkOf(first.pid, 'ipc'));
  assert.match(readFileSync(`/proc/${second.pid}/status`, 'utf8'), /^Uid:\t200000\t/m);
  await second.end();
  await first.end();
});

test("a user namespace of one's own goes with the pid namespace of another", async () => {
  const first = await sleeper();
  const join = [...maps, namespace('pid', pathOf(first.pid, 'pid'))];
  const { told, read } = await begin(['cat', '/proc/1/status'], join, ['pid']);
  assert.equal(told.failure, undefined);
  assert.match(read(), /^Name:\tprobe\n(.*\n)*NSpid:\t1\n/);
  assert.equal(await launcher.end(told.pid), 0);
  const second = await sleeper(join, ['pid']);
  assert.equal(linkOf(second.pid, 'pid'), linkOf(first.pid, 'pid'));
  assert.match(readFileSync(`/proc/${second.pid}/status`, 'utf8'), /^Uid:\t200000\t/m);
  await second.end();
  const hooks = [...join, hookState, scriptHook(HOOK.createContainer, 'true')];
  assert.match(await failureOf(hooks, ['pid']), /^createContainer hooks cannot be run for a con/);
  await first.end();
});

test('the mount namespace of another is joined, the root made in it', async () => {
  const first = await sleeper();
  const text = await output(
    ['cat', '/proc/self/mountinfo'],
    [namespace('mount', pathOf(first.pid, 'mnt'))],
    ['mount'],
  );
  assert.match(text, / \/proc /);
  await first.end();
});

test('a root directory is bound with what is mounted below it, for mapped ids, too', async () => {
  const root = join(host.dir, 'root');
  mkdirSync(root);
  buildLayer(root);
  for (const name of ['proc', 'dev', 'sys']) mkdirSync(join(root, name), { recursive: true });
  assert.equal(
    await output(['cat', '/etc/group'], [[TAG.root, root]]),
    readFileSync(join(root, 'etc/group'), 'utf8').trimEnd(),
  );
  await output(['write', '/tmp/made', 'here'], [[TAG.root, root]]);
  assert.equal(readFileSync(join(root, 'tmp/made'), 'utf8'), 'here');
  assert.equal(statSync(join(root, 'tmp/made')).uid, 0);
  assert.equal(
    await output(['stat', '/tmp/made'], [...maps, [TAG.root, root]]),
    '644 65534:65534 /tmp/made',
  );
});

test('a v2 group that the container sees as a root and may write to is its root’s', async (t) => {
  const groupOf = (id: string): string | undefined =>
    host.cgroups.plan(id, {}).groups.find(({ version }) => version === 2)?.dir;
  if (groupOf('none') === undefined) return t.skip('this host has no cgroup v2 mount');
  const writer = new SpecWriter();
  addMount(writer, { target: '/own', source: 'cgroup', type: 'cgroup2' });
  const records = readSpec(writer.finish()).map(({ tag, payload }): Extra => [tag, payload]);
  for (const [extra, uid] of [
    [maps, 0],
    [[...maps, ...records], FIRST_ID],
  ] as const) {
    const own = host.config(['/bin/probe', 'sleep', '60']);
    const spec = launcher.spec(own, DETACHED, [numeric, ...extra]);
    const { pid, failure } = await launcher.start(spec);
    assert.equal(failure, undefined);
    const owners = ['', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.freeze'].map(
      (name) => statSync(join(groupOf(own.id) ?? '', name)).uid,
    );
    assert.deepEqual(owners, [uid, uid, uid, 0]);
    process.kill(pid, 'SIGKILL');
    await launcher.end(pid);
  }
});

test('what cannot be joined or made is said by its name', async () => {
  const path = join(host.dir, 'nothing');
  assert.match(
    await failureOf([namespace('network', path)], ['network']),
    /cannot open the network/,
  );
  assert.match(
    await failureOf([namespace('network', '/proc/self/ns/uts')], ['network']),
    /is not a network namespace/,
  );
  assert.match(await failureOf([namespace('network')]), /named twice/);
  assert.match(await failureOf([namespace('user')]), /needs maps of users and of groups/);
  const overlapping: Extra[] = [namespace('user'), [TAG.uidMap, 0, 1, 5], [TAG.uidMap, 2, 9, 5]];
  assert.match(
    await failureOf([...overlapping, [TAG.gidMap, 0, 1, 5]]),
    /cannot map the container's users: Invalid argument/,
  );
  assert.match(
    await failureOf([namespace('time'), [TAG.timeOffset, 3, 1n, 0]]),
    /cannot set the offset of clock 3/,
  );
});

test('what a process between them leaves when it is killed does not outlive the launcher', async () => {
  const killer = join(host.dir, 'killer');
  buildProbe(killer, 'stageKiller');
  const config = host.config(['/bin/probe', 'sleep', '600']);
  const spec = launcher.spec(config, DETACHED, [numeric, ...maps]);
  const shim = resolve('dist/runtime/shim/tsswarm-shim');
  const { pid, told } = launcher.begin(spec, [], [shim, 'test'], killer);
  assert.equal((await told).failure?.error, 'killed before its namespaces were made');
  assert.equal(await ended(pid), 1);
  await until('its groups to be gone', 10_000, () => host.cgroups.pids(config.id).length === 0);
  for (const { dir } of host.cgroups.plan(config.id, {}).groups) assert(!existsSync(dir), dir);
});

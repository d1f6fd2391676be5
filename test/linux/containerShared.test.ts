/** What containers have in common with others: whose process a number names, memory they share. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import type { Container, ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { identify } from '../../runtime/sys/process.ts';
import { killed, parentOf } from '../support/processes.ts';
import { makeTestHost, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const LAST_PID = '/proc/sys/kernel/ns_last_pid';
const REUSE_TRIES = 200;
const host = makeTestHost('shared');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(() => host.end(table));

/** A process of the host's with this number, unless others keep taking it. */
async function processNumbered(pid: number): Promise<ChildProcess | undefined> {
  for (let tries = 0; tries < REUSE_TRIES && !existsSync(`/proc/${pid}`); tries += 1) {
    writeFileSync(LAST_PID, String(pid - 1));
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    if (child.pid === pid) return child;
    await killed(child);
  }
  return undefined;
}

interface Reused {
  readonly container: Container;
  readonly pid: number;
  /** Has the container's number. */
  readonly other: ChildProcess;
  /** Lets the container's end be known. */
  finish(): void;
}

/**
 * A container that has ended and does not know it yet, and a process that has its number by now.
 * The whole machine forks beside: somebody else may be given the number first.
 */
async function reused(): Promise<Reused | undefined> {
  const container = await started(table, host.config(['/bin/probe', 'sleep', '600']));
  const { pid } = container;
  const shim = parentOf(pid);
  const startTicks = identify(pid)?.startTicks;
  // Somebody holds its output, so its end is awaited; the shim is stopped meanwhile.
  const held = openSync(`/proc/${pid}/fd/1`, 'w');
  await container.kill('KILL');
  await until('its end', 5000, () => identify(pid)?.startTicks !== startTicks);
  process.kill(shim, 'SIGSTOP');
  const finish = (): void => {
    closeSync(held);
    process.kill(shim, 'SIGCONT');
  };
  const other = await processNumbered(pid);
  if (other !== undefined) return { container, pid, other, finish };
  finish();
  await container.wait();
  await container.remove();
  return undefined;
}

test('a number that is another process’s by now leads to none of its files and namespaces', async (t) => {
  if (!existsSync(LAST_PID)) return t.skip('this kernel does not let a pid be chosen');
  writeFileSync(join(host.dir, 'marker'), 'of the host');
  const found = await until('a process with the number of a container', 60_000, reused);
  const { container, pid, other, finish } = found;
  try {
    assert.deepEqual([container.state, container.pid], ['running', pid]);
    await assert.rejects(container.statPath(join(host.dir, 'marker')), /has just ended/);
    for (const kind of ['pidNamespace', 'ipcNamespace', 'utsNamespace'] as const) {
      const config = host.config(['/bin/probe', 'exit', '0'], {
        [kind]: { container: container.config.id },
      });
      const joining = await table.create(config);
      await assert.rejects(joining.start(), /namespace of a non running container/);
    }
    assert.deepEqual((await container.detailedStats()).networks, {});
  } finally {
    await killed(other);
    finish();
  }
  assert.equal((await container.wait()).exitCode, 137);
});

test('memory that is shared is nobody’s on the host, and goes with a start that fails', async () => {
  const device = join(host.dir, 'device');
  execFileSync('mknod', [device, 'c', '1', '3']);
  const shared = join(host.options.execRoot, 'shm');
  const config = host.config(['/bin/probe', 'sleep', '600'], {
    ipcNamespace: 'shareable',
    devices: [{ hostPath: device, containerPath: '/dev/own', permissions: 'r' }],
  });
  const container = await table.create(config);
  await container.start();
  assert.equal(statSync(shared).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(shared), [config.id]);
  await container.stop(0);
  assert.deepEqual(readdirSync(shared), []);
  rmSync(device);
  await assert.rejects(container.start(), /device/);
  assert.deepEqual(readdirSync(shared), []);
});

test('groups that containers name are there for as long as one names them', async () => {
  const cgroupParent = '/shop.slice/till';
  const [{ path = '' } = {}] = host.cgroups.hierarchies;
  const till = join(path, host.cgroupParent, 'parents/shop.slice/till');
  const create = (extra: Partial<ContainerConfig> = {}): Promise<Container> =>
    table.create(host.config(['/bin/probe', 'sleep', '600'], { cgroupParent, ...extra }));
  await assert.rejects(
    create({ resourceLimits: [{ name: 'absent', soft: 1, hard: 1 }] }),
    /absent/,
  );
  assert(!existsSync(join(till, '..')));
  const [first, second] = [await create(), await create()];
  await first.start();
  await first.remove();
  await second.start();
  assert(existsSync(join(till, second.config.id)));
  await second.remove();
  assert(!existsSync(join(till, '..')));
});

test('groups named for what a killed daemon was making or removing go with the next', async () => {
  const [{ path = '' } = {}] = host.cgroups.hierarchies;
  const parents = join(path, host.cgroupParent, 'parents');
  const config = host.config(['/bin/probe', 'sleep', '600'], { cgroupParent: 'kept/here' });
  const kept = await table.create(config);
  mkdirSync(join(parents, 'left/over'), { recursive: true });
  mkdirSync(join(parents, 'kept/not'));
  const next = await host.open();
  assert.deepEqual(readdirSync(join(parents, 'kept')).includes('not'), false);
  assert(existsSync(join(parents, 'kept/here')));
  assert(!existsSync(join(parents, 'left')));
  await next.close();
  await kept.remove();
});

test('a group may not have the name of a file of the kernel, and nothing is left', async () => {
  const above = 'named';
  const parents = host.cgroups.hierarchies.map((each) =>
    join(each.path, host.cgroupParent, 'parents', above),
  );
  await assert.rejects(
    table.create(host.config(['/bin/probe'], { cgroupParent: `${above}/cpuset.cpus` })),
    (error) => hasCode(error, 'invalid') && /the kernel has a file/.test(error.message),
  );
  assert.deepEqual(parents.filter(existsSync), []);
});

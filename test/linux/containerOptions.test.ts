/** What a container can be asked to be: each option as the kernel sees it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cutLimits } from '../../runtime/container/resourceLimits.ts';
import type { Container, ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { exec } from '../support/probeExec.ts';
import { logText, makeTestHost, outputOf, runToEnd, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const host = makeTestHost('options');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

const output = (args: readonly string[], extra?: Partial<ContainerConfig>): Promise<string> =>
  outputOf(table, host.config(['/bin/probe', ...args], extra));

const run = (args: readonly string[], extra?: Partial<ContainerConfig>): Promise<Container> =>
  started(table, host.config(['/bin/probe', ...args], extra));

test('with init, a reaper is process 1: it hands signals on and leaves no zombies', async () => {
  const container = await run(['daemon'], { init: true });
  await until('the program', 5000, async () => (await logText(container)) === 'ready 2\n');
  await until('the orphan to end', 5000, async () => (await container.processes()).length === 2);
  await container.kill('SIGTERM');
  const record = await container.wait();
  assert.deepEqual([record.exitCode, record.signal], [143, 0]);
  assert.equal(
    (await runToEnd(table, host.config(['/bin/probe', 'exit', '7'], { init: true }))).exitCode,
    7,
  );
  const missing = await table.create(host.config(['nothing'], { init: true }));
  await assert.rejects(missing.start(), /not found/);
  assert.equal(missing.exit?.exitCode, 127);
  assert.match(await output(['tty'], { init: true, tty: true }), /^terminal/);
});

test('an init holds nothing of the host and has no rights that its program has not', async () => {
  const extra = { init: true, user: '1000', openStdin: true, stdinOnce: true };
  const container = await run(['copy', '0'], extra);
  const comm = (): string => readFileSync(`/proc/${container.pid}/comm`, 'utf8');
  await until('init', 5000, () => comm() === 'init\n');
  assert.deepEqual(readdirSync(`/proc/${container.pid}/fd`), []);
  assert.match(readFileSync(`/proc/${container.pid}/status`, 'utf8'), /^CapEff:\t0+$/m);
  const streams = await container.attach({ stdin: true });
  streams.stdin?.end();
  await until('the end of its input', 5000, () => container.state === 'exited');
  assert.equal(container.exit?.exitCode, 0);
  await container.remove();
});

test('resource limits and the OOM score are set, cut to what this host may give', async () => {
  const resourceLimits = [{ name: 'nofile', soft: 100, hard: 200 }];
  assert.equal(await output(['limit', '7'], { resourceLimits }), '100 200');
  const own = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
  const [, hard] = (
    await output(['limit', '7'], { resourceLimits: [{ name: 'nofile', soft: -1, hard: -1 }] })
  ).split(' ');
  assert(Number(hard) >= Number(own), hard);
  assert.equal(await output(['cat', '/proc/self/oom_score_adj'], { oomScoreAdjust: 321 }), '321');
  const container = await run(['sleep', '60'], { resourceLimits });
  const limits = readFileSync(`/proc/${container.pid}/limits`, 'utf8');
  assert.match(limits, /Max open files\s+100\s+200/);
  await container.remove();
  assert.deepEqual(cutLimits(resourceLimits, 0), []);
  const status = readFileSync('/proc/self/status', 'utf8');
  const mayRaise = (BigInt(`0x${/CapEff:\s+(\w+)/.exec(status)?.[1]}`) >> 24n) & 1n;
  const cut = cutLimits([{ name: 'nofile', soft: 1, hard: 2 ** 40 }], -5);
  assert.equal(cut.length, mayRaise === 1n ? 0 : 2, cut.join());
  const refused = host.config(['x'], { resourceLimits: [{ name: 'fun', soft: 1, hard: 1 }] });
  await assert.rejects(table.create(refused), /invalid ulimit type "fun"/);
});

test('privileges: none new, no filter, all of them', async () => {
  const status = (extra: Partial<ContainerConfig>): Promise<string> =>
    output(['cat', '/proc/self/status'], extra);
  assert.match(await status({ noNewPrivileges: true }), /NoNewPrivs:\t1[\s\S]*Seccomp:\t2/);
  assert.match(await status({ seccomp: 'unconfined' }), /NoNewPrivs:\t0[\s\S]*Seccomp:\t0/);
  const own = /CapBnd:\s+(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  const all = await status({ privileged: true });
  assert.match(all, new RegExp(`CapEff:\\t${own}[\\s\\S]*Seccomp:\\t0`));
  const mounts = await output(['cat', '/proc/mounts'], { privileged: true });
  assert.match(mounts, / \/sys sysfs rw,/);
  assert.doesNotMatch(mounts, / \/proc\/sys /);
  // Not refused: there is merely nothing behind 1:1 on some kernels.
  const opened = await output(['mknod', '1', '1'], { privileged: true });
  assert.doesNotMatch(opened, /not permitted/);
  const bare = await output(['cat', '/proc/mounts'], { maskPaths: false });
  assert.doesNotMatch(bare, / \/proc\/kcore /);
});

test("a device of the host's is there under its name, with its rights", async () => {
  const device = { hostPath: '/dev/full', containerPath: '/dev/mine', permissions: 'r' };
  assert.match(await output(['device', '/dev/mine'], { devices: [device] }), /char 1:7 666 opens/);
  const outside = { ...device, containerPath: '/srv/mine' };
  const container = await table.create(
    host.config(['/bin/probe', 'device', '/srv/mine'], { devices: [outside] }),
  );
  for (let round = 0; round < 2; round += 1) {
    await container.start();
    assert.equal((await container.wait()).exitCode, 0);
  }
  const refused = host.config(['x'], { devices: [{ ...device, hostPath: '/dev/nothing' }] });
  await assert.rejects(table.create(refused), /no such file or directory/);
});

test("shared memory has the size asked for; host namespaces are the host's", async () => {
  const mounts = await output(['cat', '/proc/mounts'], { shmSizeBytes: 1 << 20 });
  assert.match(mounts, / \/dev\/shm tmpfs [^ ]*size=1024k/);
  const same = (pid: number, kind: string): boolean =>
    readlinkSync(`/proc/${pid}/ns/${kind}`) === readlinkSync(`/proc/self/ns/${kind}`);
  const container = await run(['sleep', '60'], {
    pidNamespace: 'host',
    ipcNamespace: 'host',
    utsNamespace: 'host',
    cgroupNamespace: 'host',
  });
  assert(same(container.pid, 'uts') && same(container.pid, 'cgroup'));
  assert(same(container.pid, 'pid') && same(container.pid, 'ipc') && !same(container.pid, 'mnt'));
  const one = await container.exec(exec(['sleep', '60']));
  assert(same(one.pid, 'pid'));
  assert.equal((await container.stop(5000)).exitCode, 143);
  assert.equal(await one.wait(), 137);
  assert(!existsSync(`/proc/${one.pid}`));
  const named = await run(['sleep', '60'], { domainName: 'example.org' });
  assert.equal(
    execFileSync('nsenter', ['-t', String(named.pid), '-u', 'cat', '/proc/sys/kernel/domainname'], {
      encoding: 'utf8',
    }).trim(),
    'example.org',
  );
});

test('a mount follows the host or not, as asked', async () => {
  const source = join(host.dir, 'following');
  mkdirSync(join(source, 'sub'), { recursive: true });
  const mount = (...args: string[]): void => {
    execFileSync('mount', args);
  };
  mount('--bind', source, source);
  mount('--make-shared', source);
  try {
    const bind = (propagation: 'rprivate' | 'rslave' | 'rshared', target: string) =>
      ({ type: 'bind', source, target, propagation }) as const;
    const mounts = [
      bind('rprivate', '/private'),
      bind('rslave', '/slave'),
      bind('rshared', '/shared'),
    ];
    const container = await run(['sleep', '60'], { mounts });
    mount('-t', 'tmpfs', 'tmpfs', join(source, 'sub'));
    writeFileSync(join(source, 'sub/file'), 'x');
    const sees = (path: string): boolean =>
      existsSync(`/proc/${container.pid}/root${path}/sub/file`);
    assert.deepEqual(['/private', '/slave', '/shared'].map(sees), [false, true, true]);
    const plain = [{ ...bind('rprivate', '/plain'), nonRecursive: true }];
    const other = await run(['sleep', '60'], { mounts: plain });
    assert(!existsSync(`/proc/${other.pid}/root/plain/sub/file`));
    await container.remove();
    await other.remove();
  } finally {
    execFileSync('umount', ['-R', '-l', source]);
  }
});

test('limits change while it runs and stay over a restart; all is counted', async () => {
  const container = await run(['sleep', '60'], { resources: { memoryBytes: 32 << 20 } });
  await container.update({ memoryBytes: 64 << 20, nanoCpus: 500_000_000, pids: 20 });
  let stats = await container.detailedStats();
  assert.deepEqual([stats.memoryLimitBytes, stats.pidsLimit, stats.pids], [64 << 20, 20, 1]);
  await container.update({ memoryBytes: 16 << 20 });
  stats = await container.detailedStats();
  assert.deepEqual([stats.memoryLimitBytes, stats.pidsLimit], [16 << 20, 20]);
  assert(stats.cpuNs > 0 && stats.systemCpuNs > 0 && stats.onlineCpus > 0);
  assert(stats.memoryBytes > 0);
  await container.stop(0);
  await container.start();
  stats = await container.detailedStats();
  assert.deepEqual([stats.memoryLimitBytes, stats.pidsLimit], [16 << 20, 20]);
  await container.update({ memorySwapBytes: 24 << 20 });
  await assert.rejects(container.update({ memorySwapBytes: 8 << 20 }), /below the memory limit/);
  const unlimited = await run(['sleep', '60']);
  const swapAlone = unlimited.update({ memorySwapBytes: 24 << 20 });
  await assert.rejects(swapAlone, /always set the Memory limit/);
  await unlimited.remove();
  await container.update({ pids: -1, nanoCpus: 0 });
  assert.equal((await container.detailedStats()).pidsLimit, 0);
  await assert.rejects(container.update({ cpusetCpus: '4000' }), /cpuset.cpus/);
  assert.equal(container.config.resources.cpusetCpus, undefined);
  await container.remove();
});

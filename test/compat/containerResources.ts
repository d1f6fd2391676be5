/** docker container create/run: what a container may use of the host. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { until } from '../support/until.ts';
import type { Suite } from './suite.ts';
import {
  assertControls,
  boxed,
  type Control,
  cgroupValue,
  docker,
  procFile,
  refused,
  SLEEP,
  tried,
  within,
} from './world.ts';

export const CREATE = ['container create', 'container run'];
const MIB = 1024 * 1024;
const WAIT_MS = 60_000;

const memory = (file: string, value: number, v2: string, v2Value: number): Control => ({
  controller: 'memory',
  v1: [file, String(value)],
  v2: [v2, String(v2Value)],
});

const same = (controller: string, file: string, value: string): Control => ({
  controller,
  v1: [file, value],
  v2: [file, value],
});

/** Also of `container update`. */
export const memoryIs = (mib: number): Control =>
  memory('memory.limit_in_bytes', mib * MIB, 'memory.max', mib * MIB);
export const memorySwapIs = (mib: number, ofMemory: number): Control =>
  memory('memory.memsw.limit_in_bytes', mib * MIB, 'memory.swap.max', (mib - ofMemory) * MIB);
export const reservedIs = (mib: number): Control =>
  memory('memory.soft_limit_in_bytes', mib * MIB, 'memory.low', mib * MIB);
export const sharesAre = (shares: number, weight: number): Control => ({
  controller: 'cpu',
  v1: ['cpu.shares', String(shares)],
  v2: ['cpu.weight', String(weight)],
});
export const cpuIs = (quotaUs: number, periodUs: number): Control[] => [
  { controller: 'cpu', v1: ['cpu.cfs_quota_us', String(quotaUs)], v2: ['', ''] },
  {
    controller: 'cpu',
    v1: ['cpu.cfs_period_us', String(periodUs)],
    v2: ['cpu.max', `${quotaUs} ${periodUs}`],
  },
];
export const cpusetIs = (cpus: string): Control => same('cpuset', 'cpuset.cpus', cpus);
export const memsetIs = (nodes: string): Control => same('cpuset', 'cpuset.mems', nodes);
export const pidsAre = (count: number): Control => same('pids', 'pids.max', String(count));
export const blkioIs = (weight: number): Control => ({
  controller: 'blkio',
  v1: ['blkio.bfq.weight', String(weight)],
  v2: ['', ''], // io.weight is there only with a scheduler that weighs
});

export function containerResources(suite: Suite): void {
  limits(suite);
  rare(suite);
  devices(suite);
  refusals(suite);
}

function limits(suite: Suite): void {
  const flags = [
    ...['--memory', '64m', '--memory-swap', '96m', '--memory-reservation', '20m'],
    ...['--memory-swappiness', '10', '--cpu-shares', '512', '--cpu-period', '50000'],
    ...['--cpu-quota', '20000', '--cpuset-cpus', '0', '--cpuset-mems', '0'],
    ...['--pids-limit', '33', '--blkio-weight', '300'],
  ];
  const names = flags.filter((each) => each.startsWith('--')).map((each) => each.slice(2));
  suite.works(CREATE, names, 'limits are in the control group of its processes', () =>
    boxed('limited', flags, SLEEP, async (pid) => {
      assertControls(pid, [
        ...[memoryIs(64), memorySwapIs(96, 64), reservedIs(20), sharesAre(512, 59)],
        ...[...cpuIs(20_000, 50_000), cpusetIs('0'), memsetIs('0'), pidsAre(33), blkioIs(300)],
        { controller: 'memory', v1: ['memory.swappiness', '10'], v2: ['', ''] },
      ]);
    }),
  );
  const process = ['--cpus', '0.25', '--oom-score-adj', '77', '--ulimit', 'nofile=99:199'];
  suite.works(
    CREATE,
    ['cpus', 'oom-score-adj', 'ulimit', 'shm-size'],
    'a share of a core is its quota; the process has its limits and its shared memory',
    () =>
      boxed('measured', [...process, '--shm-size', '8m'], SLEEP, async (pid) => {
        assertControls(pid, cpuIs(25_000, 100_000));
        assert.equal(procFile(pid, 'oom_score_adj').trim(), '77');
        assert.match(procFile(pid, 'limits'), /^Max open files +99 +199 /m);
        assert.match(procFile(pid, 'mountinfo'), / \/dev\/shm .*size=8192k/);
      }),
  );
}

/** No program has a file behind it; it can be given weights while its scheduler knows them. */
const WEIGHED = 'loop7';

/** As long as `work` runs, the device's scheduler is one that knows weights. */
async function weighing(work: () => Promise<void>): Promise<void> {
  const file = `/sys/block/${WEIGHED}/queue/scheduler`;
  const before = /\[(.+)\]/.exec(readFileSync(file, 'utf8'))?.[1] ?? 'none';
  writeFileSync(file, 'bfq');
  try {
    await work();
  } finally {
    writeFileSync(file, before);
  }
}

/** The kernel counts what a group had for a moment longer than the group is there. */
async function takeBack(file: string): Promise<void> {
  await until(`${file} to be 0`, WAIT_MS, () => {
    try {
      writeFileSync(file, '0');
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') return false;
      throw error;
    }
  });
}

/** What only some kernels have: set where it is, told as without effect where it is not. */
function rare(suite: Suite): void {
  const flags = [
    ...['--oom-kill-disable', '--memory', '32m', '--blkio-weight-device', `/dev/${WEIGHED}:99`],
    ...['--cpu-rt-runtime', '9000', '--cpu-rt-period', '900000'],
  ];
  const about = 'set where the kernel has it, and a warning says so where it has not';
  const real = ['cpu-rt-runtime', 'cpu-rt-period'];
  const names = [...real, 'oom-kill-disable', 'blkio-weight-device'];
  suite.also('container update', real);
  suite.works(CREATE, names, about, async () => {
    await boxed('plain', [], SLEEP, async (pid) => {
      const groups = procFile(pid, 'cgroup').trim().split('\n');
      const cpu = groups.find((line) => line.split(':')[1].split(',').includes('cpu'));
      const less = ['--cpu-rt-runtime', '8000', '--cpu-rt-period', '800000'];
      if (cpu === undefined) {
        const { stderr } = await tried('h1', 'container', 'update', ...less, 'plain');
        assert.match(stderr, /real-time cpu has no effect/);
        return;
      }
      // What a group may give away it has to be given first.
      const path = cpu.split(':')[2].split('/').slice(1, -1);
      const file = (depth: number): string =>
        `/sys/fs/cgroup/cpu/${path.slice(0, depth).join('/')}/cpu.rt_runtime_us`;
      for (let depth = 1; depth <= path.length; depth += 1) writeFileSync(file(depth), '50000');
      try {
        await docker('h1', 'container', 'update', ...less, 'plain');
        assertControls(pid, [
          same('cpu', 'cpu.rt_runtime_us', '8000'),
          same('cpu', 'cpu.rt_period_us', '800000'),
        ]);
        await docker('h1', 'container', 'update', '--cpu-rt-runtime', '0', 'plain');
        const rare = async (other: number): Promise<void> => {
          assertControls(other, [same('cpu', 'cpu.rt_runtime_us', '9000')]);
          assert.match(
            cgroupValue(other, 'memory', 'memory.oom_control', 'memory.max'),
            /oom_kill_disable 1/,
          );
          assert.match(
            cgroupValue(other, 'blkio', 'blkio.bfq.weight_device', 'io.bfq.weight'),
            /^7:7 99$/m,
          );
        };
        await weighing(() => boxed('rare', flags, SLEEP, rare));
      } finally {
        await docker('h1', 'container', 'rm', '--force', 'plain');
        for (let depth = path.length; depth >= 1; depth -= 1) await takeBack(file(depth));
      }
    });
  });
}

function devices(suite: Suite): void {
  const rates = [
    ...['--device-read-bps', '/dev/loop0:1mb', '--device-read-iops', '/dev/loop0:100'],
    ...['--device-write-bps', '/dev/loop0:2mb', '--device-write-iops', '/dev/loop0:200'],
  ];
  const rate = (way: string, unit: string, perSecond: number): Control => ({
    controller: 'blkio',
    v1: [`blkio.throttle.${way}_${unit}_device`, `7:0 ${perSecond}`],
    v2: ['io.max', `7:0 rbps=${MIB} wbps=${2 * MIB} riops=100 wiops=200`],
  });
  suite.works(
    CREATE,
    rates.filter((each) => each.startsWith('--')).map((each) => each.slice(2)),
    'the rates of a block device are in its control group',
    () =>
      boxed('metered', rates, SLEEP, async (pid) => {
        assertControls(pid, [
          ...[rate('read', 'bps', MIB), rate('read', 'iops', 100)],
          ...[rate('write', 'bps', 2 * MIB), rate('write', 'iops', 200)],
        ]);
        const absent = ['container', 'run', '--device-read-bps', '/dev/nosuch:1mb', 'box:1'];
        await refused('h1', absent, /"\/dev\/nosuch": no block device/);
      }),
  );
  suite.works(
    CREATE,
    ['device', 'device-cgroup-rule'],
    'a device of the host is there and may be used',
    async () => {
      const rule = ['--device-cgroup-rule', 'c 1:11 w'];
      const flags = ['--device', '/dev/kmsg:/dev/words:r'];
      await boxed('devices', flags, SLEEP, async (pid) => {
        assert.equal(await within(pid, 'stat', '-c', '%t:%T', '/dev/words'), '1:b');
        await refused('h1', ['exec', 'devices', 'sh', '-c', ': >> /dev/words'], /not permitted/);
        await within(pid, 'sh', '-c', ': < /dev/words');
      });
      await boxed('ruled', [...flags, ...rule], SLEEP, async () => {
        await docker('h1', 'container', 'exec', 'ruled', 'sh', '-c', ': >> /dev/words');
      });
    },
  );
}

function refusals(suite: Suite): void {
  suite.not(
    CREATE,
    ['cpu-count', 'cpu-percent', 'io-maxbandwidth', 'io-maxiops'],
    'docker’s client gives them to Windows hosts only',
  );
  suite.not(
    CREATE,
    ['kernel-memory'],
    'docker’s client takes it and no longer sends it: kernels dropped that limit',
  );
  suite.not(CREATE, ['gpus'], 'refused: no device drivers are built; name devices with --device');
  suite.differs(
    CREATE,
    ['storage-opt'],
    'only `size`, where the data root is on ext4 or XFS that is mounted with prjquota, refused ' +
      'else; root in a container without a user namespace of its own can leave the limit ' +
      '(`chattr -p`)',
  );
  suite.differs(
    CREATE,
    ['cgroup-parent'],
    'also an absolute path is below the daemon’s own group, in `parents`, so that it can tell ' +
      'what is its',
  );
  suite.works('container create', [], 'containers share the group that they name', async () => {
    const parent = ['--cgroup-parent', '/shop.slice/till', '--memory', '32m'];
    await boxed('within', parent, SLEEP, async (pid) => {
      const [memory = ''] = procFile(pid, 'cgroup')
        .split('\n')
        .filter((line) => /^\d+:(memory)?:/.test(line));
      assert.match(memory, /\/parents\/shop\.slice\/till\/[0-9a-f]{64}$/);
      const shown = await docker('h1', 'inspect', '-f', '{{.HostConfig.CgroupParent}}', 'within');
      assert.equal(shown, '/shop.slice/till');
      await docker('h1', 'pause', 'within');
      await docker('h1', 'unpause', 'within');
      assert.equal(await docker('h1', 'exec', 'within', 'echo', 'in'), 'in');
      assert.equal((await docker('h1', 'top', 'within', '-o', 'pid')).split('\n').length, 2);
    });
    const outside = ['container', 'create', '--cgroup-parent', '../x', 'box:1'];
    await refused('h1', outside, /CgroupParent: "\.\.\/x" is no path of a group/);
  });
  suite.works('container create', [], 'what is not there is refused by its path', async () => {
    const create = (...flags: string[]): string[] => ['container', 'create', ...flags, 'box:1'];
    await refused('h1', create('--gpus', 'all'), /HostConfig\.DeviceRequests/);
    await refused('h1', create('--storage-opt', 'size=1g'), /file system of .* does not keep/);
    await refused('h1', create('--cpu-count', '1'), /only supported on .* windows/);
  });
}

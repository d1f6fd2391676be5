/** What the kernel counts, read from the files of v1 and of v2 in one form. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Cgroups } from '../../runtime/sys/cgroup.ts';
import { parseList } from '../../runtime/sys/cgroupStatistics.ts';

function statisticsOf(
  version: 1 | 2,
  controllers: readonly string[],
  files: Readonly<Record<string, string>>,
): ReturnType<Cgroups['statistics']> {
  const root = mkdtempSync(join(tmpdir(), 'cgroup-statistics-'));
  try {
    mkdirSync(join(root, 'p/id'), { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(root, 'p/id', name), text);
    return new Cgroups([{ version, path: root, controllers }], 'p').statistics('id');
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('v1 counts are read by processor, device, size of page and kind of memory', () => {
  const all = ['memory', 'cpu', 'cpuacct', 'cpuset', 'blkio', 'hugetlb'];
  const { cpu, memory, block, hugePages } = statisticsOf(1, all, {
    'cpuacct.usage_percpu': '100 200 \n',
    'cpuacct.usage_all': 'cpu user system\n0 60 40\n1 150 50\n',
    'cpuset.cpus': '0-1\n',
    'cpuset.mems': '0\n',
    'memory.usage_in_bytes': '5000\n',
    'memory.max_usage_in_bytes': '6000\n',
    'memory.failcnt': '3\n',
    'memory.limit_in_bytes': '8000\n',
    'memory.memsw.usage_in_bytes': '5500\n',
    'memory.memsw.limit_in_bytes': '9223372036854771712\n',
    'memory.kmem.usage_in_bytes': '700\n',
    'memory.stat': 'cache 1200\nrss 3000\n',
    'blkio.bfq.io_service_bytes_recursive': 'Total 0\n',
    'blkio.throttle.io_service_bytes_recursive':
      '8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\nTotal 12288\n',
    'hugetlb.2MB.usage_in_bytes': '2097152\n',
    'hugetlb.2MB.limit_in_bytes': '4194304\n',
    'hugetlb.2MB.rsvd.usage_in_bytes': '0\n',
  });
  assert.deepEqual(cpu, {
    perCpuNs: [100, 200],
    perCpuUserNs: [60, 150],
    perCpuKernelNs: [40, 50],
    cpus: [0, 1],
    memoryNodes: [0],
  });
  assert.equal(memory.cacheBytes, 1200);
  assert.deepEqual(memory.memory, { usage: 5000, max: 6000, failures: 3, limit: 8000 });
  assert.deepEqual(memory.swap, { usage: 5500, max: 0, failures: 0, limit: undefined });
  assert.equal(memory.kernel.usage, 700);
  assert.equal(memory.raw.get('rss'), 3000);
  assert.deepEqual(block.bytes, [
    { major: 8, minor: 0, operation: 'Read', value: 4096 },
    { major: 8, minor: 0, operation: 'Write', value: 8192 },
    { major: 8, minor: 0, operation: 'Total', value: 12_288 },
  ]);
  assert.deepEqual(block.count, []);
  assert.deepEqual(
    [...hugePages],
    [['2MB', { usage: 2_097_152, max: 0, failures: 0, limit: 4_194_304 }]],
  );
});

test("v2 counts take v1's form: swap is counted with the memory", () => {
  const all = ['memory', 'cpu', 'cpuset', 'io', 'hugetlb'];
  const { usage, cpu, memory, block, hugePages } = statisticsOf(2, all, {
    'cpu.stat': 'usage_usec 7\nuser_usec 4\nsystem_usec 3\n',
    'cpuset.cpus': '\n',
    'cpuset.cpus.effective': '0,2-3\n',
    'memory.current': '5000\n',
    'memory.peak': '6000\n',
    'memory.max': '8000\n',
    'memory.swap.current': '100\n',
    'memory.swap.max': '2000\n',
    'memory.events': 'low 0\nmax 9\noom 1\noom_kill 1\n',
    'memory.stat': 'anon 1\nfile 1200\nkernel 300\nsock 20\n',
    'io.stat': '8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n',
    'hugetlb.1GB.current': '0\n',
    'hugetlb.1GB.max': 'max\n',
    'hugetlb.1GB.events': 'max 4\n',
  });
  assert.equal(usage.cpuNs, 7000);
  assert.deepEqual(cpu.cpus, [0, 2, 3]);
  assert.deepEqual(memory.memory, { usage: 5000, max: 6000, failures: 9, limit: 8000 });
  assert.deepEqual(memory.swap, { usage: 5100, max: 6000, failures: 0, limit: 10_000 });
  assert.deepEqual(
    [memory.cacheBytes, memory.kernel.usage, memory.kernelTcp.usage],
    [1200, 300, 20],
  );
  const count = (operation: string, value: number): object => {
    return { major: 8, minor: 0, operation, value };
  };
  assert.deepEqual(block.bytes, [count('Read', 4096), count('Write', 8192), count('Discard', 0)]);
  assert.deepEqual(block.count, [count('Read', 1), count('Write', 2), count('Discard', 0)]);
  assert.deepEqual(hugePages.get('1GB'), { usage: 0, max: 0, failures: 4, limit: undefined });
});

test('a host without controllers counts nothing', () => {
  const { memory, block, hugePages, cpu } = statisticsOf(2, [], {});
  assert.deepEqual(memory.memory, { usage: 0, max: 0, failures: 0, limit: undefined });
  assert.deepEqual([block.bytes, [...hugePages], cpu.perCpuNs], [[], [], []]);
});

test('lists of processors are read, and are of a bounded length', () => {
  assert.deepEqual(parseList('0-2,4\n'), [0, 1, 2, 4]);
  assert.deepEqual(parseList(''), []);
  assert.equal(parseList('0-99999999').length, 65_536);
});

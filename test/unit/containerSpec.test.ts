/** The pure parts between a configuration and the shim: specification, records, devices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { capabilityMask, effectiveCapabilities } from '../../runtime/container/capabilities.ts';
import { containerDevices } from '../../runtime/container/devices.ts';
import { readSpec, SpecWriter, TAG } from '../../runtime/container/encode.ts';
import {
  decodeExitRecord,
  encodeExitRecord,
  lostRecord,
} from '../../runtime/container/exitRecord.ts';
import { maskedPaths } from '../../runtime/container/profile.ts';
import { parseSignal } from '../../runtime/container/signals.ts';
import { buildSpec } from '../../runtime/container/spec.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';
import { Cgroups } from '../../runtime/sys/cgroup.ts';
import { parseMountInfo } from '../../runtime/sys/mount.ts';

const v2 = new Cgroups(
  [{ version: 2, path: '/fake', controllers: ['cpu', 'cpuset', 'memory', 'pids'] }],
  'tsswarm',
);
const paths = { dataDir: '/data/containers/x', execDir: '/exec/containers/x' };

function config(extra: Partial<ContainerConfig> = {}): ContainerConfig {
  return {
    id: 'a'.repeat(64),
    name: 'c',
    labels: {},
    image: { reference: 'r', id: 'i' },
    layers: ['/lower', '/upper'],
    args: ['run', 'me'],
    env: ['X=1'],
    workingDir: '/',
    user: '',
    hostname: 'h',
    mounts: [],
    networkNamespace: 'new',
    resources: {},
    log: {},
    ...extra,
  };
}

function texts(spec: Uint8Array, tag: number): string[] {
  return readSpec(spec)
    .filter((record) => record.tag === tag)
    .map((record) => Buffer.from(record.payload).toString().replaceAll('\0', '|'));
}

test('a specification reads back as the records that were put in', () => {
  const writer = new SpecWriter();
  writer.add(TAG.hostname, 'näme');
  writer.add(TAG.logLimits, 5n, 7, -1);
  writer.add(TAG.seccomp, Uint8Array.of(1, 2, 3));
  const [name, limits, bytes] = readSpec(writer.finish());
  assert.equal(Buffer.from(name.payload).toString(), 'näme\0');
  assert.equal(Buffer.from(limits.payload).toString('hex'), '050000000000000007000000ffffffff');
  assert.deepEqual([...bytes.payload], [1, 2, 3]);
  assert.throws(() => writer.add(TAG.hostname, 'a\0b'), /NUL byte/);
});

test('a damaged specification is refused', () => {
  const writer = new SpecWriter();
  writer.add(TAG.hostname, 'name');
  const bytes = writer.finish();
  assert.throws(() => readSpec(bytes.subarray(0, bytes.length - 1)), /not a launch/);
  const cut = Uint8Array.from(bytes);
  cut[20] = 200;
  assert.throws(() => readSpec(cut), /cut short/);
});

test('layers are given topmost first, and mounts with parents before children', () => {
  const { bytes } = buildSpec(
    config({
      mounts: [
        { type: 'tmpfs', target: '/a/b/c' },
        { type: 'bind', source: '/s', target: '/a', readOnly: true },
      ],
    }),
    paths,
    v2,
  );
  assert.deepEqual(texts(bytes, TAG.lower), ['/upper|', '/lower|']);
  assert.deepEqual(texts(bytes, TAG.upper), ['/data/containers/x/upper|/data/containers/x/work|']);
  const mounts = texts(bytes, TAG.mount).map((text) => text.slice(40));
  assert.deepEqual(mounts.slice(-2), ['/a|/s||', '/a/b/c|tmpfs|tmpfs|mode=1777|']);
  assert.deepEqual(texts(bytes, TAG.arg), ['run|', 'me|']);
});

test('sysctl names become paths, with dots in names where slashes separate', () => {
  const { bytes } = buildSpec(
    config({ sysctls: { 'net.core.somaxconn': '1', 'net/ipv4/conf/eth0.1/forwarding': '1' } }),
    paths,
    v2,
  );
  const set = texts(bytes, TAG.sysctl).map((text) => text.slice(4));
  assert(set.includes('sys/net/core/somaxconn|1|'));
  assert(set.includes('sys/net/ipv4/conf/eth0.1/forwarding|1|'));
  assert.throws(
    () =>
      buildSpec(
        config({ networkNamespace: 'host', sysctls: { 'net.core.somaxconn': '1' } }),
        paths,
        v2,
      ),
    /is the host's/,
  );
});

test("a sysctl cannot lead from the container's own settings to the host's", () => {
  for (const name of [
    'net/../kernel/core_pattern',
    'net.//.kernel.core_pattern',
    'fs/mqueue/../../kernel/core_pattern',
    'net.',
    'net',
    'net..core',
    'net/./core',
  ]) {
    const sysctls = { [name]: '1' };
    assert.throws(() => buildSpec(config({ sysctls }), paths, v2), /sysctl ".*" is no/, name);
  }
});

test('no way of writing the root makes it a mount target', () => {
  for (const target of ['/', '//', '/.', '/..', '/a/..', '/a/../../']) {
    const mounts = [{ type: 'tmpfs' as const, target }];
    assert.throws(() => buildSpec(config({ mounts }), paths, v2), /not an absolute path below/);
  }
});

test('signals are known by name, short name, number and real-time offset', () => {
  const cases: [string, number][] = [
    ['SIGTERM', 15],
    ['term', 15],
    ['9', 9],
    ['SIGUSR1', 10],
    ['SIGRTMIN+3', 37],
    ['RTMAX-1', 63],
    ['RTMIN', 34],
  ];
  for (const [text, number] of cases) assert.equal(parseSignal(text), number);
  for (const text of ['', 'SIGNOPE', '0', '65', '-1', 'RTMIN+99']) {
    assert.throws(() => parseSignal(text), /unknown signal/);
  }
});

test('an exit record reads back, with and without an error', () => {
  const record = {
    exitCode: 137,
    signal: 9,
    oomKilled: true,
    startedAtMs: 1_700_000_000_123,
    finishedAtMs: 1_700_000_001_456,
  };
  assert.deepEqual(decodeExitRecord(encodeExitRecord(record)), record);
  const lost = lostRecord('supervisor lost', 0, 5);
  assert.deepEqual(decodeExitRecord(encodeExitRecord(lost)), lost);
  const bytes = encodeExitRecord(lost);
  for (const length of [0, 3, 39, bytes.length - 1]) {
    assert.throws(() => decodeExitRecord(bytes.subarray(0, length)), /not an exit record/);
  }
});

test("capabilities are Docker's fourteen and change by name as Docker's do", () => {
  const mask = (add: string[], drop: string[]): string =>
    capabilityMask(effectiveCapabilities(add, drop)).toString(16);
  assert.equal(mask([], []), 'a80425fb');
  assert.equal(mask(['NET_ADMIN'], []), 'a80435fb');
  assert.equal(mask([], ['cap_chown']), 'a80425fa');
  assert.equal(mask(['CHOWN'], ['all']), '1');
  assert.equal(mask(['ALL'], []), '1ffffffffff');
  assert.equal(mask(['ALL'], ['CHOWN']), '1fffffffffe');
});

test('masked paths include the thermal counters of each processor that has them', () => {
  assert(maskedPaths('/not/there').includes('/proc/kcore'));
  assert.equal(maskedPaths('/not/there').length, 12);
});

test('mountinfo lines are read with escapes undone', () => {
  const text =
    '36 35 98:0 /r /mnt\\040x rw,noatime master:1 - cgroup cgroup rw,cpu,cpuacct\n' +
    'nonsense\n37 35 0:1 / /u rw - cgroup2 cgroup2 rw\n';
  assert.deepEqual(parseMountInfo(text), [
    {
      mountPoint: '/mnt x',
      type: 'cgroup',
      source: 'cgroup',
      options: ['rw', 'cpu', 'cpuacct'],
    },
    { mountPoint: '/u', type: 'cgroup2', source: 'cgroup2', options: ['rw'] },
  ]);
});

test('a device is named by an absolute path, and a whole disk is not searched for devices', () => {
  const config = { devices: [{ hostPath: '', containerPath: '/dev/x', permissions: 'r' }] };
  const refusal = (hostPath: string): string => {
    const devices = [{ ...config.devices[0], hostPath }];
    try {
      containerDevices({ devices } as Partial<ContainerConfig> as ContainerConfig);
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  assert.match(refusal('../..'), /device path "\.\.\/\.\." is not absolute/);
  assert.match(refusal('/'), /device "\/": more than 10000 files are below it: name a device/);
  assert.match(refusal(`/${'x'.repeat(5000)}`), /no such file or directory/);
  assert.equal(refusal('/dev/null'), '');
});

/** What Docker's client asks of a new container, read: every known field is taken or refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFromDocker } from '../../daemon/api/docker/containerCreate.ts';
import { Fields } from '../../daemon/api/fields.ts';
import type { StandaloneSpec } from '../../daemon/containers/types.ts';

function read(body: object): StandaloneSpec {
  return createFromDocker('', new Fields({ Image: 'web', ...body })).spec;
}

function host(config: object): StandaloneSpec {
  return read({ HostConfig: config });
}

test('an empty request means a container of the image on the default bridge', () => {
  const spec = read({});
  assert.equal(spec.networkMode, 'bridge');
  assert.deepEqual(spec.restart, { name: 'no', maximumRetries: 0 });
  assert.equal(spec.command, undefined);
  assert.deepEqual(spec.resources, {});
});

test('binds, mounts and tmpfs become mounts, each with its own meaning', () => {
  const { mounts } = host({
    Binds: ['/src:/a:ro,rslave', 'box:/b:nocopy', '/x:/c/'],
    Mounts: [
      { Type: 'volume', Source: 'v', Target: '/d', VolumeOptions: { Labels: { a: 'b' } } },
      { Type: 'bind', Source: '/y', Target: '/e', ReadOnly: true },
      { Type: 'tmpfs', Target: '/f', TmpfsOptions: { SizeBytes: 1024, Mode: 0o700 } },
    ],
    Tmpfs: { '/g': 'size=1m,mode=755,noexec' },
  });
  const facts = mounts.map((each) => [
    each.type,
    each.source,
    each.target,
    each.readOnly,
    each.createSource,
  ]);
  assert.deepEqual(facts, [
    ['bind', '/src', '/a', true, true],
    ['volume', 'box', '/b', false, false],
    ['bind', '/x', '/c', false, true],
    ['volume', 'v', '/d', false, false],
    ['bind', '/y', '/e', true, false],
    ['tmpfs', '', '/f', false, false],
    ['tmpfs', '', '/g', false, false],
  ]);
  assert.deepEqual([mounts[0].propagation, mounts[1].noCopy], ['rslave', true]);
  assert.deepEqual([mounts[6].tmpfsSizeBytes, mounts[6].tmpfsMode], [1024 * 1024, 0o755]);
});

test('ports may be bare, fixed, a range, of one address', () => {
  const { ports } = host({
    PortBindings: {
      '80/tcp': [
        { HostIp: '', HostPort: '8080' },
        { HostIp: '127.0.0.1', HostPort: '' },
      ],
      '53/udp': [{ HostIp: '0.0.0.0', HostPort: '5000-5010' }],
    },
  });
  assert.deepEqual(
    ports.map((port) => [
      port.containerPort,
      port.protocol,
      port.hostAddress,
      port.hostPortFirst,
      port.hostPortLast,
    ]),
    [
      [80, 'tcp', '', 8080, 8080],
      [80, 'tcp', '127.0.0.1', 0, 0],
      [53, 'udp', '', 5000, 5010],
    ],
  );
});

test('limits are read from any of the ways in which Docker writes them', () => {
  const { resources } = host({ Memory: 64 << 20, MemorySwap: -1, CpuQuota: 50_000, PidsLimit: 9 });
  assert.deepEqual(resources, {
    memoryBytes: 64 << 20,
    memorySwapBytes: -1,
    pids: 9,
    nanoCpus: 500_000_000,
  });
  assert.equal(host({ NanoCpus: 1_500_000_000 }).resources.nanoCpus, 1_500_000_000);
  const { nanoCpus, cpuPeriodUs } = host({ CpuQuota: 20_000, CpuPeriod: 50_000 }).resources;
  assert.deepEqual([nanoCpus, cpuPeriodUs], [400_000_000, 50_000]);
  const given = host({ PidsLimit: -1, CpuQuota: -1 }).resources;
  assert.deepEqual([given.pids, given.nanoCpus], [-1, 0], 'an update gives limits up again');
  const { deviceRates } = host({ BlkioDeviceWriteBps: [{ Path: '/dev/sda', Rate: 9 }] }).resources;
  assert.deepEqual(deviceRates, [
    { way: 'write', unit: 'bytes', device: '/dev/sda', perSecond: 9 },
  ]);
});

test('security options and namespaces are told apart', () => {
  const spec = host({
    SecurityOpt: ['no-new-privileges', 'seccomp=unconfined', 'apparmor=unconfined'],
    PidMode: 'host',
    IpcMode: 'private',
    UTSMode: 'host',
    CgroupnsMode: 'host',
    DeviceCgroupRules: ['b 8:* rw'],
    MaskedPaths: [],
    ReadonlyPaths: [],
  });
  assert.deepEqual(
    [spec.noNewPrivileges, spec.seccomp, spec.pidNamespace, spec.ipcNamespace, spec.maskPaths],
    [true, 'unconfined', 'host', 'new', false],
  );
  assert.deepEqual([spec.utsNamespace, spec.cgroupNamespace], ['host', 'host']);
  assert.deepEqual(spec.deviceRules, [{ type: 'block', major: 8, minor: -1, access: 'rw' }]);
});

test('extra hosts may have IPv6 addresses, and health checks have their durations', () => {
  const { extraHosts } = host({ ExtraHosts: ['a:1.2.3.4', 'b:fd00::1', 'c=[fd00::2]'] });
  assert.deepEqual(extraHosts, ['a:1.2.3.4', 'b:fd00::1', 'c:fd00::2']);
  const { healthCheck } = read({ Healthcheck: { Test: ['CMD', 'x'], Interval: 2e9, Retries: 4 } });
  assert.deepEqual([healthCheck?.intervalMs, healthCheck?.retries], [2000, 4]);
});

test('links and the parent of the group are read in Docker’s forms', () => {
  const spec = host({
    Links: ['/db', 'cache:near', '/db:/web/store'],
    CgroupParent: '/a.slice/b/',
  });
  assert.deepEqual(
    spec.links?.map(({ container, alias }) => `${container} ${alias}`),
    ['db db', 'cache near', 'db store'],
  );
  assert.equal(spec.cgroupParent, 'a.slice/b');
});

const REFUSED: readonly (readonly [string, object])[] = [
  ['bad format for links: a:b:c', { Links: ['a:b:c'] }],
  ['HostConfig.CgroupParent: "../x" is no path of a group', { CgroupParent: '../x' }],
  ['HostConfig.DeviceRequests is not supported', { DeviceRequests: [{ Count: -1 }] }],
  [
    'conflicting options: dns and the network mode',
    { NetworkMode: 'container:a', Dns: ['1.1.1.1'] },
  ],
  ['invalid UTS mode: own', { UTSMode: 'own' }],
  ["invalid device cgroup rule format: 'c 7'", { DeviceCgroupRules: ['c 7'] }],
  ['HostConfig.Runtime is not supported', { Runtime: 'kata' }],
  ['HostConfig.StorageOpt.dm.basesize is not', { StorageOpt: { 'dm.basesize': '1g' } }],
  ['Range of blkio weight is from', { BlkioWeightDevice: [{ Path: '/dev/x', Weight: 5 }] }],
  ['invalid PID mode: container:', { PidMode: 'container:' }],
  ['invalid IPC mode: own', { IpcMode: 'own' }],
  ['HostConfig.SecurityOpt is not supported', { SecurityOpt: ['label=colour:red'] }],
  ['seccomp: the profile is no JSON', { SecurityOpt: ['seccomp=/a/file'] }],
  ['seccomp: "X" is no action', { SecurityOpt: ['seccomp={"defaultAction":"X"}'] }],
  ['HostConfig.LogConfig.Type is not supported', { LogConfig: { Type: 'syslog' } }],
  ["unknown log opt 'syslog-address' for", { LogConfig: { Config: { 'syslog-address': 'x' } } }],
  ["unknown log opt 'tag' for local", { LogConfig: { Type: 'local', Config: { tag: 'x' } } }],
  ['logger: logging mode not supported: fast', { LogConfig: { Config: { mode: 'fast' } } }],
  [
    'logger: max-buffer-size option is only',
    { LogConfig: { Config: { 'max-buffer-size': '1m' } } },
  ],
  ['compress cannot be true', { LogConfig: { Config: { compress: 'true', 'max-file': '1' } } }],
  ['HostConfig.Mounts[0].Type is not supported', { Mounts: [{ Type: 'cluster', Target: '/a' }] }],
  ['HostConfig.Memory must be a number', { Memory: '1g' }],
  ['Minimum memory limit allowed is 6MB', { Memory: 1024 }],
  ["can't create 'AutoRemove' container", { AutoRemove: true, RestartPolicy: { Name: 'always' } }],
  ['invalid restart policy: maximum retry', { RestartPolicy: { MaximumRetryCount: 3 } }],
  ['Duplicate mount point: /a', { Binds: ['/x:/a', '/y:/a'] }],
  ["invalid volume specification: 'x'", { Binds: ['x'] }],
  ['HostConfig.PortBindings.99/sctp: sctp is not', { PortBindings: { '99/sctp': [] } }],
  ['HostConfig.PortBindings: invalid port', { PortBindings: { '0/tcp': [] } }],
];

for (const [message, config] of REFUSED) {
  test(`a request is refused: ${message}`, () => {
    assert.throws(
      () => host(config),
      (error: Error) => {
        assert.ok(error.message.startsWith(message), error.message);
        return true;
      },
    );
  });
}

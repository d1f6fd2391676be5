/**
 * Checks of specifications: what is accepted, and the line that each mistake gets.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { meetsConstraint, parseConstraint } from '../../model/constraint.ts';
import {
  DEFAULT_CLUSTER_SPEC,
  DEFAULT_MOUNT,
  DEFAULT_UPDATE_CONFIG,
} from '../../model/defaults.ts';
import type {
  ContainerSpec,
  HealthCheck,
  MountSpec,
  NetworkSpec,
  PortConfig,
} from '../../model/types.ts';
import {
  validateAddressPools,
  validateClusterSpec,
  validateNetworkSpec,
  validateNodeSpec,
  validateServiceSpec,
} from '../../model/validate.ts';
import { network, node, type ServiceSpecFields, serviceSpec } from '../support/objects.ts';

function refused(check: () => void): string {
  try {
    check();
  } catch (error) {
    assert.ok(error instanceof SwarmError, String(error));
    assert.ok(!error.message.includes('\n'));
    return error.message;
  }
  assert.fail('it was accepted');
}

function refusedService(fields: ServiceSpecFields, name = 'web'): string {
  return refused(() => validateServiceSpec(serviceSpec(name, fields)));
}

function refusedNetwork(fields: Partial<NetworkSpec>): string {
  return refused(() => validateNetworkSpec(network(fields.name ?? 'one', fields).spec));
}

function port(fields: Partial<PortConfig>): PortConfig {
  return {
    name: '',
    protocol: 'tcp',
    targetPort: 80,
    publishedPort: 8080,
    publishMode: 'ingress',
    hostAddress: '',
    ...fields,
  };
}

const HEALTHY: HealthCheck = {
  test: [],
  intervalMs: 0,
  timeoutMs: 0,
  retries: 0,
  startPeriodMs: 0,
  startIntervalMs: 0,
};

function mount(fields: Partial<MountSpec>): MountSpec {
  return {
    ...DEFAULT_MOUNT,
    type: 'bind',
    source: '/srv',
    target: '/data',
    ...fields,
  };
}

test('a plain service, network, node and cluster are accepted', () => {
  validateServiceSpec(
    serviceSpec('web-1', {
      replicas: 3,
      ports: [port({}), port({ targetPort: 81, publishedPort: 0 }), port({ protocol: 'udp' })],
      task: {
        container: { mounts: [mount({}), mount({ type: 'tmpfs', source: '', target: '/tmp' })] },
        placement: { constraints: ['node.role==worker'], spreadOver: ['node.labels.zone'] },
        networks: [{ target: 'n', aliases: ['api'], addresses: [] }],
      },
    }),
  );
  validateNetworkSpec(network('my.net', { subnet: '10.9.0.0/16', range: '10.9.8.0/24' }).spec);
  validateNodeSpec(node('h1', 1).spec);
  validateClusterSpec(DEFAULT_CLUSTER_SPEC);
  validateAddressPools(['10.20.0.0/16'], 24);
});

test('a bad constraint gets the line that names what may be written', () => {
  assert.equal(
    refusedService({ task: { placement: { constraints: ['node.rle==x'] } } }),
    'invalid constraint "node.rle==x": use node.id, node.hostname, node.ip, node.role, ' +
      'node.platform.os, node.platform.arch, node.labels.* or engine.labels.* with == or !=',
  );
  for (const bad of ['', 'node.id', 'node.id=x', 'node.id==', 'node.labels.==x', 'node.id===x']) {
    assert.throws(() => parseConstraint(bad), /invalid constraint/, bad);
  }
});

test('a constraint by address: one, or a block', () => {
  const host = node('h1', 1, { address: '10.99.0.11' });
  const meets = (text: string): boolean => meetsConstraint(parseConstraint(text), host);
  assert.ok(meets('node.ip==10.99.0.11'));
  assert.ok(meets('node.ip==10.99.0.0/24'));
  assert.ok(meets('node.ip!=10.98.0.0/16'));
  assert.ok(!meets('node.ip==10.99.0.12'));
  assert.ok(!meets('node.ip!=10.99.0.9/24'));
  for (const bad of ['node.ip==h1', 'node.ip==10.99.0.0/33', 'node.ip==10.99.0.0/2/4']) {
    assert.throws(() => parseConstraint(bad), /write an address or a block/);
  }
});

test('a constraint on a label that a node does not have', () => {
  const bare = node('h1', 1);
  assert.equal(meetsConstraint(parseConstraint('node.labels.a==b'), bare), false);
  assert.equal(meetsConstraint(parseConstraint('node.labels.a!=b'), bare), true);
});

test('a label that is named like a built-in property is absent unless set', () => {
  const bare = node('h1', 1);
  assert.equal(meetsConstraint(parseConstraint('node.labels.constructor!=x'), bare), true);
});

test('names', () => {
  assert.match(refusedService({}, ''), /a service needs a name/);
  assert.match(refusedService({}, 'a b'), /invalid service name "a b": use letters, digits/);
  assert.match(refusedService({}, '-web'), /invalid service name/);
  assert.match(refusedService({}, 'x'.repeat(64)), /too long: use at most 63/);
  assert.match(refusedNetwork({ name: 'a/b' }), /invalid network name/);
});

test('image, command, environment and paths', () => {
  assert.match(refusedService({ task: { container: { image: ' ' } } }), /needs an image/);
  assert.match(refusedService({ task: { container: { env: ['=x'] } } }), /write it as NAME=VALUE/);
  assert.match(
    refusedService({ task: { container: { workingDir: 'srv' } } }),
    /invalid workdir "srv": use an absolute path/,
  );
  assert.match(refusedService({ task: { container: { hostname: 'a_b!' } } }), /invalid hostname/);
  assert.match(refusedService({ task: { container: { hosts: ['web'] } } }), /NAME:ADDRESS/);
  assert.match(refusedService({ task: { container: { dnsServers: ['x'] } } }), /IP address/);
});

test('ports', () => {
  assert.match(refusedService({ ports: [port({ targetPort: 0 })] }), /invalid target port 0/);
  assert.match(
    refusedService({ ports: [port({ publishedPort: 65_536 })] }),
    /invalid published port 65536: use a number from 1 to 65535/,
  );
  assert.match(
    refusedService({ ports: [port({}), port({ targetPort: 81 })] }),
    /port 8080\/tcp is published twice/,
  );
  assert.match(
    refusedService({ ports: [port({})], endpointMode: 'dnsrr' }),
    /use endpoint mode vip/,
  );
  const many = Array.from({ length: 1001 }, (_, at) => port({ publishedPort: at + 1 }));
  assert.match(refusedService({ ports: many }), /a service has at most 1000/);
});

test('aliases', () => {
  const named = (alias: string): ServiceSpecFields => ({
    task: { networks: [{ target: 'n', aliases: [alias], addresses: [] }] },
  });
  assert.doesNotThrow(() => validateServiceSpec(serviceSpec('web', named('api_v1.inner-2'))));
  for (const alias of ['', 'a b', 'a\nb', 'a..b', '.a', 'x'.repeat(64), 'xy.'.repeat(99), 'é']) {
    assert.match(refusedService(named(alias)), /alias/);
  }
});

test('mounts', () => {
  const mounts = (...list: MountSpec[]): ServiceSpecFields => ({
    task: { container: { mounts: list } },
  });
  assert.match(refusedService(mounts(mount({ target: 'data' }))), /use an absolute path/);
  assert.match(refusedService(mounts(mount({ source: 'srv' }))), /a bind needs an absolute path/);
  assert.match(refusedService(mounts(mount({}), mount({}))), /\/data is used twice/);
  assert.match(refusedService(mounts(mount({ target: '/' }))), /cannot replace "\/"/);
  assert.match(refusedService(mounts(mount({ target: '/a/..' }))), /cannot replace "\/"/);
  assert.match(refusedService(mounts(mount({}), mount({ target: '/data/' }))), /is used twice/);
  assert.match(refusedService(mounts(mount({ type: 'volume' }))), /use type bind/);
  const shared = mount({ type: 'volume', source: 'data', propagation: 'shared' });
  assert.match(refusedService(mounts(shared)), /bind options need type bind/);
  validateServiceSpec(serviceSpec('web', mounts(mount({ type: 'volume', source: 'data' }))));
});

test('what a container can be given', () => {
  const refused = (container: Partial<ContainerSpec>) => refusedService({ task: { container } });
  assert.match(refused({ capabilityAdd: ['CAP_FLY'] }), /^unknown capability "CAP_FLY"/);
  assert.match(refused({ sysctls: { 'kernel.pid_max': '5' } }), /^sysctl "kernel.pid_max" is not/);
  assert.match(refused({ user: 'a b' }), /^invalid user "a b"/);
  assert.match(refused({ groups: ['a:b'] }), /^invalid group "a:b"/);
  assert.match(refused({ oomScoreAdj: 1001 }), /^invalid oom-score-adj 1001/);
  const ulimit = { name: 'nofile', soft: 10, hard: 5 };
  assert.match(refused({ ulimits: [ulimit] }), /soft limit 10 is above the hard limit 5/);
  assert.match(refused({ ulimits: [{ ...ulimit, name: 'files' }] }), /^invalid ulimit "files"/);
  const check = { ...HEALTHY, test: ['curl'] };
  assert.match(refused({ healthCheck: check }), /^invalid health check "curl"/);
  assert.match(refused({ healthCheck: { ...check, test: ['CMD'] } }), /^invalid health check CMD/);
  validateServiceSpec(
    serviceSpec('web', {
      task: {
        container: {
          capabilityAdd: ['net_admin', 'ALL'],
          sysctls: { 'net.core.somaxconn': '5', 'kernel/shmmax': '1' },
          user: '1000:staff',
          groups: ['audio', '5'],
          ulimits: [{ name: 'core', soft: -1, hard: -1 }],
          healthCheck: { ...HEALTHY, test: ['NONE'] },
        },
      },
    }),
  );
});

test('log options and generic resources', () => {
  const refused = (task: ServiceSpecFields['task']) => refusedService({ task: task ?? {} });
  assert.match(refused({ logOptions: { tag: 'x' } }), /^unknown log-opt "tag"/);
  assert.match(refused({ logOptions: { 'max-size': 'big' } }), /^invalid log-opt max-size/);
  assert.match(refused({ logOptions: { 'max-file': '0' } }), /^invalid log-opt max-file/);
  const none = { logDriver: 'none', logOptions: { 'max-file': '2' } } as const;
  assert.match(refused(none), /takes no options/);
  const gpu = { kind: 'gpu', name: '', amount: 1 };
  assert.match(refused({ genericResources: [gpu, gpu] }), /gpu is asked for twice/);
  assert.match(refused({ genericResources: [{ ...gpu, amount: 0 }] }), /gpu 0/);
});

test('how often a job runs', () => {
  const job = { kind: 'replicated-job', maxConcurrent: 1, totalCompletions: 3 } as const;
  assert.match(refusedService({ mode: { ...job, maxConcurrent: 0 } }), /max-concurrent 0/);
  assert.match(refusedService({ mode: { ...job, totalCompletions: 0 } }), /replicas 0/);
  validateServiceSpec(serviceSpec('job', { mode: job }));
});

test('resources', () => {
  const none = { nanoCpus: 0, memoryBytes: 0, pids: 0 };
  const limits = { ...none, memoryBytes: 1_000 };
  assert.match(refusedService({ task: { limits } }), /limit-memory 1000 bytes is too small/);
  const small = { ...none, memoryBytes: 8_000_000 };
  const large = { ...none, memoryBytes: 9_000_000 };
  assert.match(
    refusedService({ task: { limits: small, reservations: large } }),
    /reserve-memory is above limit-memory/,
  );
  assert.match(refusedService({ task: { limits: { ...none, nanoCpus: 1 } } }), /limit-cpu/);
});

test('modes, updates and restarts', () => {
  assert.match(refusedService({ replicas: -1 }), /invalid replicas -1/);
  assert.match(refusedService({ replicas: 1.5 }), /use a whole number/);
  const update = { ...DEFAULT_UPDATE_CONFIG, maxFailureRatio: 2 };
  assert.match(refusedService({ update }), /update-max-failure-ratio 2/);
  const rollback = { ...DEFAULT_UPDATE_CONFIG, failureAction: 'rollback' } as const;
  assert.match(refusedService({ rollback }), /rollback-failure-action "rollback": use pause or/);
  const restart = { condition: 'any', delayMs: -0.5, maxAttempts: 0, windowMs: 0 } as const;
  assert.match(refusedService({ task: { restart } }), /restart-delay -0.5ms: use a duration/);
  assert.match(
    refusedService({ mode: { kind: 'global' }, task: { placement: { maxReplicasPerNode: 1 } } }),
    /needs a replicated service/,
  );
});

test('subnets', () => {
  assert.match(refusedNetwork({ subnet: '10.9.0.1/24' }), /invalid subnet "10.9.0.1\/24": write/);
  assert.match(refusedNetwork({ subnet: '10.9.0.0/30' }), /bad size/);
  assert.match(refusedNetwork({ subnet: '10.254.3.0/24' }), /gateway bridges use/);
  assert.match(refusedNetwork({ gateway: '10.9.0.1' }), /needs a subnet/);
  const subnet = '10.9.0.0/24';
  assert.match(refusedNetwork({ subnet, gateway: '10.8.0.1' }), /use a host address of/);
  assert.match(refusedNetwork({ subnet, range: '10.8.0.0/28' }), /use a block within/);
  assert.match(refusedNetwork({ subnet6: 'fd00::/64' }), /add --ipv6/);
  assert.match(refusedNetwork({ ipv6: true, subnet6: 'fd00::/120' }), /at least \/104/);
  assert.match(refusedNetwork({ ipv6: true, subnet6: '10.1.0.0/16' }), /IPv6 block/);
  assert.match(refusedNetwork({ options: { encrypted: '' } }), /option encrypted is not built/);
});

test('address pools and cluster settings', () => {
  assert.match(
    refused(() => validateAddressPools(['x'], 24)),
    /invalid --default-addr-pool "x"/,
  );
  assert.match(
    refused(() => validateAddressPools(['10.20.0.5/16'], 24)),
    /invalid --default-addr-pool "10.20.0.5\/16": write it like 10.20.0.0\/16/,
  );
  assert.match(
    refused(() => validateAddressPools(['10.0.0.0/16'], 8)),
    /mask-length 8/,
  );
  assert.match(
    refused(() => validateAddressPools(['10.0.0.0/8', '10.9.0.0/16'], 24)),
    /overlap/,
  );
  const spec = { ...DEFAULT_CLUSTER_SPEC, certificateExpiryMs: 1_000 };
  assert.match(
    refused(() => validateClusterSpec(spec)),
    /cert-expiry is too short/,
  );
});

/**
 * Bodies of the Docker API: what is asked for a container, a service, a network or a node is
 * understood or refused by its path; a service that was understood is the same after it was told.
 */
import assert from 'node:assert/strict';
import { SwarmError } from '../../../base/errors.ts';
import { createFromDocker } from '../../../daemon/api/docker/containerCreate.ts';
import { dataSpecFromDocker } from '../../../daemon/api/docker/data.ts';
import { localNetworkFromDocker } from '../../../daemon/api/docker/localNetwork.ts';
import { networkSpecFromDocker } from '../../../daemon/api/docker/network.ts';
import { nodeSpecFromDocker, nodeSpecToDocker } from '../../../daemon/api/docker/node.ts';
import {
  serviceSpecFromDocker,
  serviceSpecToDocker,
} from '../../../daemon/api/docker/serviceSpec.ts';
import { clusterSpecFromDocker } from '../../../daemon/api/docker/swarm.ts';
import type { Fields } from '../../../daemon/api/fields.ts';
import { ApiRequest } from '../../../daemon/api/http.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const HEALTH = { Test: ['CMD', '/x'], Interval: 1e9, Timeout: 1e9, Retries: 3, StartPeriod: 0 };
const CONTAINER = {
  ...{ Image: 'web', Cmd: ['/x'], Entrypoint: ['/e'], Env: ['A=b'], WorkingDir: '/w', User: '1:2' },
  ...{ Labels: { a: 'b' }, Tty: true, OpenStdin: true, StopSignal: 'SIGINT', StopTimeout: 5 },
  ...{ ExposedPorts: { '80/tcp': {} }, Volumes: { '/v': {} }, Healthcheck: HEALTH },
  HostConfig: {
    ...{ Binds: ['/a:/b:ro', 'v:/c'], NetworkMode: 'bridge', Memory: 2 ** 26, NanoCpus: 5e8 },
    ...{ PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080-8090' }] } },
    ...{ RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 }, CapAdd: ['NET_ADMIN'] },
    ...{ Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 10, Mode: 511 } }] },
    ...{ Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 2 }], Sysctls: { 'net.core.somaxconn': '1' } },
    ...{
      Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/x', CgroupPermissions: 'r' }],
    },
    ...{ LogConfig: { Type: 'json-file', Config: { 'max-size': '10m' } }, Dns: ['1.1.1.1'] },
    ...{
      ExtraHosts: ['a:1.2.3.4'],
      SecurityOpt: ['no-new-privileges'],
      Tmpfs: { '/u': 'size=1m' },
    },
    ...{ BlkioWeightDevice: [{ Path: '/dev/vda', Weight: 10 }], CpusetCpus: '0-1', ShmSize: 1024 },
  },
  NetworkingConfig: { EndpointsConfig: { bridge: { Aliases: ['x'], IPAMConfig: {} } } },
};
const SERVICE = {
  Name: 'web',
  Labels: { a: 'b' },
  TaskTemplate: {
    ContainerSpec: {
      ...{ Image: 'web', Command: ['/e'], Args: ['x'], Env: ['A=b'], Dir: '/w', User: '1' },
      ...{ Hosts: ['1.2.3.4 a'], DNSConfig: { Nameservers: ['1.1.1.1'] }, Healthcheck: HEALTH },
      ...{ Mounts: [{ Type: 'volume', Source: 'v', Target: '/v', ReadOnly: true }], Init: true },
      Secrets: [
        { SecretName: 's', SecretID: 'i', File: { Name: 't', UID: '0', GID: '0', Mode: 292 } },
      ],
    },
    Resources: { Limits: { NanoCPUs: 5e8, MemoryBytes: 2 ** 26, Pids: 5 }, Reservations: {} },
    RestartPolicy: { Condition: 'on-failure', Delay: 5e9, MaxAttempts: 3, Window: 1e9 },
    Placement: {
      ...{ Constraints: ['node.role == manager'], MaxReplicas: 2 },
      Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
    },
    Networks: [{ Target: 'net', Aliases: ['x'] }],
    LogDriver: { Name: 'json-file', Options: { 'max-size': '1m' } },
    ForceUpdate: 1,
  },
  Mode: { Replicated: { Replicas: 3 } },
  UpdateConfig: { Parallelism: 2, Delay: 1e9, FailureAction: 'rollback', Order: 'start-first' },
  RollbackConfig: { Parallelism: 1, Monitor: 1e9, MaxFailureRatio: 0.5 },
  EndpointSpec: { Mode: 'vip', Ports: [{ Protocol: 'udp', TargetPort: 80, PublishedPort: 8080 }] },
};
const NETWORK = {
  ...{ Name: 'n', Driver: 'overlay', Internal: true, Attachable: true, Options: { encrypted: '' } },
  IPAM: { Driver: 'default', Config: [{ Subnet: '10.1.0.0/24', Gateway: '10.1.0.1' }] },
};
const NODE = { Name: 'n', Role: 'manager', Availability: 'drain', Labels: { zone: 'a' } };
const DATA = { Name: 's', Data: 'c2VjcmV0', Labels: {} };
const SWARM = {
  ...{ Orchestration: { TaskHistoryRetentionLimit: 5 }, Dispatcher: { HeartbeatPeriod: 5e9 } },
  ...{ CAConfig: { NodeCertExpiry: 7776e12 }, EncryptionConfig: { AutoLockManagers: true } },
};

function told(spec: object): Fields | Promise<Fields> {
  return bodyOf(Buffer.from(JSON.stringify(spec)));
}

/** As the server reads it. */
function bodyOf(input: Uint8Array): Promise<Fields> {
  const incoming = {
    method: 'POST',
    iterator: async function* () {
      yield Buffer.from(input);
    },
  };
  return new ApiRequest(
    ...([incoming, undefined, '/', new URLSearchParams(), {}, 44] as never as ConstructorParameters<
      typeof ApiRequest
    >),
  ).body();
}

const READERS: readonly ((body: Fields) => unknown)[] = [
  (body) => createFromDocker('name', body),
  (body) => localNetworkFromDocker(body),
  (body) => networkSpecFromDocker(body),
  (body) => dataSpecFromDocker(body),
  (body) => clusterSpecFromDocker(body),
  async (body) => {
    const spec = nodeSpecFromDocker(body);
    assert.deepEqual(nodeSpecFromDocker(await told(nodeSpecToDocker(spec))), spec);
  },
  async (body) => {
    const spec = serviceSpecFromDocker(body);
    assert.deepEqual(serviceSpecFromDocker(await told(serviceSpecToDocker(spec))), spec);
  },
];

export const target: FuzzTarget = {
  words: ['\\u0000', '\\ud800', '"HostConfig":', '{"a":', '[', 'container:', 'host', '80/tcp', '-'],
  json: true,
  generate: (random) =>
    Buffer.from(JSON.stringify(one(random, [CONTAINER, SERVICE, NETWORK, NODE, DATA, SWARM]))),
  async run(input) {
    const body = await bodyOf(input);
    for (const read of READERS) {
      try {
        await read(body);
      } catch (error) {
        if (!(error instanceof SwarmError) || error.code === 'internal') throw error;
      }
    }
  },
};

/**
 * Objects of the domain for tests: whole records with plain defaults, of which a test names only
 * the fields it is about. Never used by production code.
 */
import {
  DEFAULT_CLUSTER_SPEC,
  DEFAULT_PLACEMENT,
  DEFAULT_RESTART_POLICY,
  DEFAULT_UPDATE_CONFIG,
  EMPTY_CONTAINER,
  NO_NODE_TLS,
  NO_RESOURCES,
} from '../../model/defaults.ts';
import { isJob } from '../../model/job.ts';
import type {
  Cluster,
  ClusterSpec,
  ContainerSpec,
  Network,
  NetworkSpec,
  Node,
  NodeDescription,
  NodeSpec,
  ObjectBase,
  Service,
  ServiceSpec,
  TaskSpec,
} from '../../model/types.ts';

export function base(id: string): ObjectBase {
  return { id, version: 0, createdAtMs: 0, updatedAtMs: 0 };
}

export function cluster(spec: Partial<ClusterSpec> = {}, fields: Partial<Cluster> = {}): Cluster {
  return {
    ...base('cluster'),
    spec: { ...DEFAULT_CLUSTER_SPEC, ...spec },
    rootCaCertificate: '',
    rootCaKey: '',
    rootRotation: undefined,
    unlockKey: '',
    joinSecretWorker: '',
    joinSecretManager: '',
    addressPools: ['10.0.0.0/8'],
    subnetSize: 24,
    vxlanPort: 4789,
    removedRaftIds: [],
    removedNodes: [],
    rebalanceAtMs: 0,
    ...fields,
  };
}

export interface NodeFields extends Partial<Omit<Node, 'spec' | 'description'>> {
  readonly spec?: Partial<NodeSpec>;
  readonly description?: Partial<NodeDescription>;
}

/** A ready worker named after its id, with 4 cores and 8 GiB. */
export function node(id: string, hostIndex: number, fields: NodeFields = {}): Node {
  return {
    ...base(id),
    role: 'worker',
    state: 'ready',
    stateMessage: '',
    address: `192.168.77.${hostIndex}`,
    port: 2377,
    hostIndex,
    manager: undefined,
    downSinceMs: 0,
    availableSinceMs: 0,
    specVersion: 0,
    certificateSerial: '',
    tls: NO_NODE_TLS,
    ...fields,
    spec: { name: '', labels: {}, role: 'worker', availability: 'active', ...fields.spec },
    description: {
      hostname: id,
      os: 'linux',
      architecture: 'x86_64',
      kernel: '6.1.0',
      nanoCpus: 4e9,
      memoryBytes: 8 * 2 ** 30,
      engineVersion: '0.1.0',
      engineLabels: {},
      machineId: '',
      genericResources: [],
      ...fields.description,
    },
  };
}

export function container(fields: Partial<ContainerSpec> = {}): ContainerSpec {
  return { ...EMPTY_CONTAINER, image: 'web:1', ...fields };
}

export interface TaskSpecFields extends Partial<Omit<TaskSpec, 'container' | 'placement'>> {
  readonly container?: Partial<ContainerSpec>;
  readonly placement?: Partial<TaskSpec['placement']>;
}

export interface ServiceSpecFields extends Partial<Omit<ServiceSpec, 'task'>> {
  readonly task?: TaskSpecFields;
  readonly replicas?: number;
}

export function taskSpec(fields: TaskSpecFields = {}): TaskSpec {
  return {
    limits: NO_RESOURCES,
    reservations: NO_RESOURCES,
    restart: DEFAULT_RESTART_POLICY,
    networks: [],
    genericResources: [],
    logDriver: '',
    logOptions: {},
    forceUpdate: 0,
    ...fields,
    container: container(fields.container),
    placement: { ...DEFAULT_PLACEMENT, ...fields.placement },
  };
}

export function serviceSpec(name: string, fields: ServiceSpecFields = {}): ServiceSpec {
  const { replicas, task, ...rest } = fields;
  return {
    name,
    labels: {},
    mode: { kind: 'replicated', replicas: replicas ?? 1 },
    update: DEFAULT_UPDATE_CONFIG,
    rollback: DEFAULT_UPDATE_CONFIG,
    endpointMode: 'vip',
    ports: [],
    ...rest,
    task: taskSpec(task),
  };
}

const FIRST_RUN = { iteration: 0, lastExecutionMs: 0 };

/** Its id is `<name>-id`. */
export function service(name: string, fields: ServiceSpecFields = {}): Service {
  return {
    ...base(`${name}-id`),
    spec: serviceSpec(name, fields),
    job: fields.mode !== undefined && isJob(fields.mode) ? FIRST_RUN : undefined,
    previousSpec: undefined,
    specVersion: 0,
    update: undefined,
    virtualAddresses: [],
    ports: [],
    allocatedVersion: 0,
  };
}

/** Its id is `<name>-id`. */
export function network(name: string, spec: Partial<NetworkSpec> = {}): Network {
  return {
    ...base(`${name}-id`),
    spec: {
      name,
      labels: {},
      driver: 'overlay',
      internal: false,
      attachable: false,
      ipv6: false,
      subnet: '',
      gateway: '',
      subnet6: '',
      range: '',
      options: {},
      ...spec,
    },
    vni: 0,
    subnet: '',
    gateway: '',
    error: '',
  };
}

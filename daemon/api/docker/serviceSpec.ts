/**
 * A service's specification as Docker's JSON, both ways. What is absent in a request gets Docker's
 * default here, so that a stored specification is complete; what is known but not built (plugins,
 * driver options, ...) is refused by its path. Beyond Docker's: HostIP of a port, ProgressDeadline
 * of an update, and the label and driver option below for clients that know neither.
 */

import { parseDuration } from '../../../base/duration.ts';
import { messageOf, SwarmError } from '../../../base/errors.ts';
import {
  DEFAULT_RESTART_POLICY,
  DEFAULT_UPDATE_CONFIG,
  NO_RESOURCES,
} from '../../../model/defaults.ts';
import { isJob } from '../../../model/job.ts';
import {
  type GenericResource,
  type Labels,
  LOG_DRIVERS,
  type NetworkAttachmentSpec,
  type Placement,
  type PortConfig,
  type Resources,
  type RestartPolicy,
  type ServiceMode,
  type ServiceSpec,
  type TaskSpec,
  type UpdateConfig,
} from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { nanoseconds, readDurationMs } from './common.ts';
import { containerFromDocker, containerToDocker } from './container.ts';

/** '10s', '5m', '0': how long an update may stand still. */
const DEADLINE_LABEL = 'tsswarm.update.progress-deadline';
/** Driver option of a network attachment: addresses of slot 1, 2, ... with commas between. */
const ADDRESS_OPTION = 'tsswarm.address';
const PARTS = [
  ['update', 'UpdateConfig'],
  ['rollback', 'RollbackConfig'],
] as const;
const MODES = ['Replicated', 'Global', 'ReplicatedJob', 'GlobalJob'] as const;

// ---- model -> Docker ---------------------------------------------------------------------------

/** With `defaults` also what the request said nothing of. */
export function serviceSpecToDocker(spec: ServiceSpec, defaults = false): object {
  const shows = (part: 'update' | 'rollback'): boolean =>
    !isJob(spec.mode) && (defaults || spec.leftOut?.includes(part) !== true);
  const older = spec.networksOnService === true ? spec.task.networks : [];
  const task = older.length === 0 ? spec.task : { ...spec.task, networks: [] };
  return {
    Name: spec.name,
    Labels: spec.labels,
    TaskTemplate: taskSpecToDocker(task),
    ...(older.length === 0 ? {} : { Networks: older.map(attachmentToDocker) }),
    Mode: modeToDocker(spec.mode),
    ...(shows('update') ? { UpdateConfig: updateToDocker(spec.update, spec.labels) } : {}),
    ...(shows('rollback') ? { RollbackConfig: updateToDocker(spec.rollback, spec.labels) } : {}),
    EndpointSpec: {
      Mode: spec.endpointMode,
      ...(spec.ports.length === 0 ? {} : { Ports: spec.ports.map(portToDocker) }),
    },
  };
}

function modeToDocker(mode: ServiceMode): object {
  switch (mode.kind) {
    case 'replicated':
      return { Replicated: { Replicas: mode.replicas } };
    case 'global':
      return { Global: {} };
    case 'replicated-job': {
      const { maxConcurrent, totalCompletions } = mode;
      return {
        ReplicatedJob: { MaxConcurrent: maxConcurrent, TotalCompletions: totalCompletions },
      };
    }
    case 'global-job':
      return { GlobalJob: {} };
  }
}

export function taskSpecToDocker(task: TaskSpec): object {
  return {
    ContainerSpec: containerToDocker(task.container),
    Resources: {
      Limits: resourcesToDocker(task.limits, true),
      Reservations: {
        ...resourcesToDocker(task.reservations, false),
        ...genericToDocker(task.genericResources),
      },
    },
    RestartPolicy: {
      Condition: task.restart.condition,
      Delay: nanoseconds(task.restart.delayMs),
      MaxAttempts: task.restart.maxAttempts,
      Window: nanoseconds(task.restart.windowMs),
    },
    Placement: placementToDocker(task.placement),
    ...(task.networks.length === 0 ? {} : { Networks: task.networks.map(attachmentToDocker) }),
    ...logToDocker(task),
    ForceUpdate: task.forceUpdate,
    Runtime: 'container',
  };
}

function attachmentToDocker(item: NetworkAttachmentSpec): object {
  const { target, aliases, addresses } = item;
  const listed = addresses.length === 0 ? {} : { [ADDRESS_OPTION]: addresses.join(',') };
  const options = { ...item.driverOptions, ...listed };
  return {
    Target: target,
    ...(aliases.length === 0 ? {} : { Aliases: aliases }),
    ...(Object.keys(options).length === 0 ? {} : { DriverOpts: options }),
  };
}

function logToDocker({ logDriver, logOptions }: TaskSpec): object {
  const options = Object.keys(logOptions).length > 0;
  if (logDriver === '' && !options) return {};
  // Docker's client wants a name beside options.
  return {
    LogDriver: { Name: logDriver || 'local', ...(options ? { Options: logOptions } : {}) },
  };
}

/** { GenericResources: [...] } as Docker has it, {} when there are none. */
export function genericToDocker(resources: readonly GenericResource[]): object {
  if (resources.length === 0) return {};
  return {
    GenericResources: resources.map(({ kind, name, amount }) =>
      name === ''
        ? { DiscreteResourceSpec: { Kind: kind, Value: amount } }
        : { NamedResourceSpec: { Kind: kind, Value: name } },
    ),
  };
}

function resourcesToDocker(resources: Resources, withPids: boolean): object {
  return {
    ...(resources.nanoCpus === 0 ? {} : { NanoCPUs: resources.nanoCpus }),
    ...(resources.memoryBytes === 0 ? {} : { MemoryBytes: resources.memoryBytes }),
    ...(withPids && resources.pids > 0 ? { Pids: resources.pids } : {}),
  };
}

function placementToDocker(placement: Placement): object {
  return {
    ...(placement.constraints.length === 0 ? {} : { Constraints: placement.constraints }),
    ...(placement.spreadOver.length === 0
      ? {}
      : {
          Preferences: placement.spreadOver.map((over) => ({ Spread: { SpreadDescriptor: over } })),
        }),
    ...(placement.maxReplicasPerNode === 0 ? {} : { MaxReplicas: placement.maxReplicasPerNode }),
    ...(placement.platforms.length === 0
      ? {}
      : {
          Platforms: placement.platforms.map((item) => ({
            Architecture: item.architecture,
            OS: item.os,
          })),
        }),
  };
}

/** A deadline that a label says is not said twice: the label is what clients change. */
function updateToDocker(update: UpdateConfig, labels: Labels): object {
  return {
    Parallelism: update.parallelism,
    Delay: nanoseconds(update.delayMs),
    FailureAction: update.failureAction,
    Monitor: nanoseconds(update.monitorMs),
    MaxFailureRatio: update.maxFailureRatio,
    Order: update.order,
    ...(Object.hasOwn(labels, DEADLINE_LABEL)
      ? {}
      : { ProgressDeadline: nanoseconds(update.progressDeadlineMs) }),
  };
}

export function portToDocker(port: PortConfig): object {
  return {
    ...(port.name === '' ? {} : { Name: port.name }),
    Protocol: port.protocol,
    TargetPort: port.targetPort,
    ...(port.publishedPort === 0 ? {} : { PublishedPort: port.publishedPort }),
    PublishMode: port.publishMode,
    ...(port.hostAddress === '' ? {} : { HostIP: port.hostAddress }),
  };
}

// ---- Docker -> model ---------------------------------------------------------------------------

/** SwarmError invalid or unsupported with the path of the field. Meaning is checked by control. */
export function serviceSpecFromDocker(fields: Fields): ServiceSpec {
  const template = fields.objectOrEmpty('TaskTemplate');
  const endpoint = fields.objectOrEmpty('EndpointSpec');
  const older = template.has('Networks') ? [] : fields.objects('Networks');
  const task = taskSpecFromDocker(template);
  const labels = fields.labels('Labels');
  const mode = modeFromDocker(fields.object('Mode'));
  if (isJob(mode)) {
    for (const name of ['UpdateConfig', 'RollbackConfig']) {
      if (fields.has(name)) fields.refused(name, 'a job is not updated in steps, leave it out');
    }
  }
  const deadlineMs = deadlineFromLabel(labels, fields);
  const leftOut = isJob(mode)
    ? []
    : PARTS.filter(([, name]) => !fields.has(name)).map(([part]) => part);
  return {
    name: fields.text('Name'),
    labels,
    task: older.length === 0 ? task : { ...task, networks: older.map(attachmentFromDocker) },
    mode,
    update: updateFromDocker(fields.object('UpdateConfig'), deadlineMs),
    rollback: updateFromDocker(fields.object('RollbackConfig'), deadlineMs),
    endpointMode: endpoint.choice('Mode', ['vip', 'dnsrr'], 'vip'),
    ports: endpoint.objects('Ports').map(portFromDocker),
    ...(older.length === 0 ? {} : { networksOnService: true }),
    ...(leftOut.length === 0 ? {} : { leftOut }),
  };
}

function taskSpecFromDocker(template: Fields): TaskSpec {
  template.refuse('PluginSpec', 'NetworkAttachmentSpec');
  if (!['', 'container'].includes(template.text('Runtime'))) template.refused('Runtime');
  const container = template.object('ContainerSpec');
  if (container === undefined) {
    throw new SwarmError('invalid', `${template.at('ContainerSpec')} is missing: name an image`);
  }
  const resources = template.objectOrEmpty('Resources');
  const log = template.objectOrEmpty('LogDriver');
  resources.refuse('SwapBytes', 'MemorySwappiness');
  return {
    container: containerFromDocker(container),
    limits: resourcesFromDocker(resources.object('Limits')),
    reservations: resourcesFromDocker(resources.object('Reservations')),
    genericResources: genericFromDocker(resources.objectOrEmpty('Reservations')),
    restart: restartFromDocker(template.object('RestartPolicy')),
    placement: placementFromDocker(template.objectOrEmpty('Placement')),
    networks: template.objects('Networks').map(attachmentFromDocker),
    logDriver: logDriverFromDocker(log),
    logOptions: log.labels('Options'),
    forceUpdate: template.whole('ForceUpdate', 0),
  };
}

function resourcesFromDocker(fields: Fields | undefined): Resources {
  if (fields === undefined) return NO_RESOURCES;
  return {
    nanoCpus: fields.whole('NanoCPUs', 0),
    memoryBytes: fields.whole('MemoryBytes', 0),
    pids: fields.whole('Pids', 0),
  };
}

function restartFromDocker(fields: Fields | undefined): RestartPolicy {
  if (fields === undefined) return DEFAULT_RESTART_POLICY;
  return {
    condition: fields.choice('Condition', ['none', 'on-failure', 'any'], 'any'),
    delayMs: readDurationMs(fields, 'Delay', DEFAULT_RESTART_POLICY.delayMs),
    maxAttempts: fields.whole('MaxAttempts', 0),
    windowMs: readDurationMs(fields, 'Window', 0),
  };
}

function placementFromDocker(fields: Fields): Placement {
  return {
    constraints: fields.texts('Constraints'),
    maxReplicasPerNode: fields.whole('MaxReplicas', 0),
    spreadOver: fields.objects('Preferences').map((preference) => {
      const spread = preference.object('Spread');
      if (spread === undefined) {
        throw new SwarmError('invalid', `${preference.path}: only Spread is known`);
      }
      return spread.text('SpreadDescriptor');
    }),
    platforms: fields.objects('Platforms').map((platform) => ({
      os: platform.text('OS'),
      architecture: machineName(platform.text('Architecture')),
    })),
  };
}

/** Go's and images' names of an architecture -> uname's, which nodes carry. */
const MACHINE_NAMES: ReadonlyMap<string, string> = new Map([
  ['amd64', 'x86_64'],
  ['arm64', 'aarch64'],
]);

function machineName(architecture: string): string {
  return MACHINE_NAMES.get(architecture) ?? architecture;
}

function attachmentFromDocker(fields: Fields): NetworkAttachmentSpec {
  const { [ADDRESS_OPTION]: listed = '', ...driverOptions } = fields.labels('DriverOpts');
  const addresses = listed.split(',').map((item) => item.trim());
  return {
    target: fields.text('Target'),
    aliases: fields.texts('Aliases'),
    addresses: addresses.filter((address) => address !== ''),
    ...(Object.keys(driverOptions).length === 0 ? {} : { driverOptions }),
  };
}

function genericFromDocker(fields: Fields): readonly GenericResource[] {
  return fields.objects('GenericResources').map((item) => {
    const named = item.object('NamedResourceSpec');
    if (named !== undefined) {
      return { kind: named.text('Kind'), name: named.text('Value'), amount: 1 };
    }
    const amount = item.objectOrEmpty('DiscreteResourceSpec');
    return { kind: amount.text('Kind'), name: '', amount: amount.whole('Value', 0) };
  });
}

function logDriverFromDocker(fields: Fields): TaskSpec['logDriver'] {
  const name = fields.text('Name');
  const known = LOG_DRIVERS.find((driver) => driver === name);
  if (known === undefined && name !== '') fields.refused('Name', `use ${LOG_DRIVERS.join(', ')}`);
  // Options are the default's where no driver is named, and told so: the same goes in as comes out.
  return known ?? (fields.isEmpty('Options') ? '' : 'local');
}

function modeFromDocker(fields: Fields | undefined): ServiceMode {
  if (fields === undefined) return { kind: 'replicated', replicas: 1 };
  const given = MODES.filter((name) => fields.has(name));
  if (given.length > 1) {
    throw new SwarmError('invalid', `${fields.path}: give one of ${given.join(' and ')}`);
  }
  switch (given[0]) {
    case 'Global':
      return { kind: 'global' };
    case 'GlobalJob':
      return { kind: 'global-job' };
    case 'ReplicatedJob': {
      const job = fields.objectOrEmpty('ReplicatedJob');
      const maxConcurrent = job.whole('MaxConcurrent', 1);
      const totalCompletions = job.whole('TotalCompletions', maxConcurrent);
      return { kind: 'replicated-job', maxConcurrent, totalCompletions };
    }
    default: {
      const replicas = fields.objectOrEmpty('Replicated').whole('Replicas', 1);
      return { kind: 'replicated', replicas };
    }
  }
}

/** From a label that Docker's client can set; undefined when there is none. */
function deadlineFromLabel(labels: Labels, fields: Fields): number | undefined {
  if (!Object.hasOwn(labels, DEADLINE_LABEL)) return undefined;
  try {
    return parseDuration(labels[DEADLINE_LABEL]);
  } catch (error) {
    const path = `${fields.at('Labels')}.${DEADLINE_LABEL}`;
    throw new SwarmError('invalid', `${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** `deadlineMs`: what a label says, which counts before the field. */
function updateFromDocker(
  fields: Fields | undefined,
  deadlineMs: number | undefined,
): UpdateConfig {
  const defaults = DEFAULT_UPDATE_CONFIG;
  if (fields === undefined) {
    return deadlineMs === undefined ? defaults : { ...defaults, progressDeadlineMs: deadlineMs };
  }
  return {
    parallelism: fields.whole('Parallelism', defaults.parallelism),
    delayMs: readDurationMs(fields, 'Delay', defaults.delayMs),
    failureAction: fields.choice('FailureAction', ['pause', 'continue', 'rollback'], 'pause'),
    monitorMs: readDurationMs(fields, 'Monitor', defaults.monitorMs),
    maxFailureRatio: fields.number('MaxFailureRatio', defaults.maxFailureRatio),
    order: fields.choice('Order', ['stop-first', 'start-first'], 'stop-first'),
    progressDeadlineMs:
      deadlineMs ?? readDurationMs(fields, 'ProgressDeadline', defaults.progressDeadlineMs),
  };
}

function portFromDocker(fields: Fields): PortConfig {
  if (fields.text('Protocol') === 'sctp') fields.refused('Protocol', 'use tcp or udp');
  return {
    name: fields.text('Name'),
    protocol: fields.choice('Protocol', ['tcp', 'udp'], 'tcp'),
    targetPort: fields.whole('TargetPort', 0),
    publishedPort: fields.whole('PublishedPort', 0),
    publishMode: fields.choice('PublishMode', ['ingress', 'host'], 'ingress'),
    hostAddress: fields.text('HostIP'),
  };
}

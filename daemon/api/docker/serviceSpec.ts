/**
 * A service's specification as Docker's JSON, both ways. What is absent in a request gets Docker's
 * default here, so that a stored specification is complete; what is known but not built (jobs,
 * plugins, generic resources, driver options, ...) is refused by its path.
 */

import { SwarmError } from '../../../base/errors.ts';
import {
  DEFAULT_RESTART_POLICY,
  DEFAULT_UPDATE_CONFIG,
  NO_RESOURCES,
} from '../../../model/defaults.ts';
import type {
  NetworkAttachmentSpec,
  Placement,
  PortConfig,
  Resources,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { nanoseconds, readDurationMs } from './common.ts';
import { containerFromDocker, containerToDocker } from './container.ts';

// ---- model -> Docker ---------------------------------------------------------------------------

export function serviceSpecToDocker(spec: ServiceSpec): object {
  return {
    Name: spec.name,
    Labels: spec.labels,
    TaskTemplate: taskSpecToDocker(spec.task),
    Mode:
      spec.mode.kind === 'global'
        ? { Global: {} }
        : { Replicated: { Replicas: spec.mode.replicas } },
    UpdateConfig: updateToDocker(spec.update),
    RollbackConfig: updateToDocker(spec.rollback),
    EndpointSpec: {
      Mode: spec.endpointMode,
      ...(spec.ports.length === 0 ? {} : { Ports: spec.ports.map(portToDocker) }),
    },
  };
}

export function taskSpecToDocker(task: TaskSpec): object {
  return {
    ContainerSpec: containerToDocker(task.container),
    Resources: {
      Limits: resourcesToDocker(task.limits, true),
      Reservations: resourcesToDocker(task.reservations, false),
    },
    RestartPolicy: {
      Condition: task.restart.condition,
      Delay: nanoseconds(task.restart.delayMs),
      MaxAttempts: task.restart.maxAttempts,
      ...(task.restart.windowMs === 0 ? {} : { Window: nanoseconds(task.restart.windowMs) }),
    },
    Placement: placementToDocker(task.placement),
    ...(task.networks.length === 0 ? {} : { Networks: task.networks.map(attachmentToDocker) }),
    ...(Object.keys(task.logOptions).length === 0
      ? {}
      : { LogDriver: { Name: 'local', Options: task.logOptions } }),
    ForceUpdate: task.forceUpdate,
    Runtime: 'container',
  };
}

function attachmentToDocker(item: NetworkAttachmentSpec): object {
  return { Target: item.target, ...(item.aliases.length === 0 ? {} : { Aliases: item.aliases }) };
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

function updateToDocker(update: UpdateConfig): object {
  return {
    Parallelism: update.parallelism,
    Delay: nanoseconds(update.delayMs),
    FailureAction: update.failureAction,
    Monitor: nanoseconds(update.monitorMs),
    MaxFailureRatio: update.maxFailureRatio,
    Order: update.order,
  };
}

export function portToDocker(port: PortConfig): object {
  return {
    ...(port.name === '' ? {} : { Name: port.name }),
    Protocol: port.protocol,
    TargetPort: port.targetPort,
    ...(port.publishedPort === 0 ? {} : { PublishedPort: port.publishedPort }),
    PublishMode: port.publishMode,
  };
}

// ---- Docker -> model ---------------------------------------------------------------------------

/** SwarmError invalid or unsupported with the path of the field. Meaning is checked by control. */
export function serviceSpecFromDocker(fields: Fields): ServiceSpec {
  const template = fields.objectOrEmpty('TaskTemplate');
  const endpoint = fields.objectOrEmpty('EndpointSpec');
  const older = template.has('Networks') ? [] : fields.objects('Networks');
  const task = taskSpecFromDocker(template);
  return {
    name: fields.text('Name'),
    labels: fields.labels('Labels'),
    task: older.length === 0 ? task : { ...task, networks: older.map(attachmentFromDocker) },
    mode: modeFromDocker(fields.object('Mode')),
    update: updateFromDocker(fields.object('UpdateConfig')),
    rollback: updateFromDocker(fields.object('RollbackConfig')),
    endpointMode: endpoint.choice('Mode', ['vip', 'dnsrr'], 'vip'),
    ports: endpoint.objects('Ports').map(portFromDocker),
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
  resources.refuse('SwapBytes', 'MemorySwappiness');
  return {
    container: containerFromDocker(container),
    limits: resourcesFromDocker(resources.object('Limits')),
    reservations: resourcesFromDocker(resources.object('Reservations')),
    restart: restartFromDocker(template.object('RestartPolicy')),
    placement: placementFromDocker(template.objectOrEmpty('Placement')),
    networks: template.objects('Networks').map(attachmentFromDocker),
    logOptions: logOptionsFromDocker(template.object('LogDriver')),
    forceUpdate: template.whole('ForceUpdate', 0),
  };
}

function resourcesFromDocker(fields: Fields | undefined): Resources {
  if (fields === undefined) return NO_RESOURCES;
  fields.refuse('GenericResources');
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
  fields.refuse('DriverOpts');
  return { target: fields.text('Target'), aliases: fields.texts('Aliases') };
}

function logOptionsFromDocker(fields: Fields | undefined): TaskSpec['logOptions'] {
  if (fields === undefined) return {};
  if (!['', 'local'].includes(fields.text('Name'))) fields.refused('Name', 'use local');
  return fields.labels('Options');
}

function modeFromDocker(fields: Fields | undefined): ServiceMode {
  if (fields === undefined) return { kind: 'replicated', replicas: 1 };
  for (const job of ['ReplicatedJob', 'GlobalJob']) {
    if (fields.has(job)) fields.refused(job, 'use replicated or global');
  }
  if (fields.has('Global')) {
    if (fields.has('Replicated')) {
      throw new SwarmError('invalid', `${fields.path}: give one of Replicated and Global`);
    }
    return { kind: 'global' };
  }
  return { kind: 'replicated', replicas: fields.objectOrEmpty('Replicated').whole('Replicas', 1) };
}

function updateFromDocker(fields: Fields | undefined): UpdateConfig {
  const defaults = DEFAULT_UPDATE_CONFIG;
  if (fields === undefined) return defaults;
  return {
    parallelism: fields.whole('Parallelism', defaults.parallelism),
    delayMs: readDurationMs(fields, 'Delay', defaults.delayMs),
    failureAction: fields.choice('FailureAction', ['pause', 'continue', 'rollback'], 'pause'),
    monitorMs: readDurationMs(fields, 'Monitor', defaults.monitorMs),
    maxFailureRatio: fields.number('MaxFailureRatio', defaults.maxFailureRatio),
    order: fields.choice('Order', ['stop-first', 'start-first'], 'stop-first'),
  };
}

function portFromDocker(fields: Fields): PortConfig {
  if (fields.text('Protocol') === 'sctp') fields.refused('Protocol', 'use tcp or udp');
  if (fields.text('PublishMode') === 'host') fields.refused('PublishMode', 'use ingress');
  return {
    name: fields.text('Name'),
    protocol: fields.choice('Protocol', ['tcp', 'udp'], 'tcp'),
    targetPort: fields.whole('TargetPort', 0),
    publishedPort: fields.whole('PublishedPort', 0),
    publishMode: fields.choice('PublishMode', ['ingress', 'host'], 'ingress'),
  };
}

/**
 * What a task's container is to be, decided from its spec, the image's configuration and the node:
 * names, labels, program, environment, network kind, with templates replaced, as Docker merges
 * them. Pure; it asks nothing of the host and makes nothing.
 */
import { parseBytes } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';
import { shortId } from '../base/id.ts';
import { NODE_LOCAL_NETWORKS } from '../model/defaults.ts';
import { shownSlot, taskName } from '../model/taskName.ts';
import type { GenericResource, LogDriver, MountSpec, Task } from '../model/types.ts';
import { expand, type TemplateContext } from './template.ts';

/** The part of an image's configuration that a spec overrides. */
export interface ImageDefaults {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly stopSignal: string;
}

export interface OverlayPlan {
  readonly networkId: string;
  readonly address: string;
  readonly aliases: readonly string[];
}

/** 'attached': overlays and the gateway or default bridge, made by the host's network. */
export type NetworkPlan =
  | { readonly kind: 'new' | 'host' }
  | {
      readonly kind: 'attached';
      readonly overlays: readonly OverlayPlan[];
      readonly defaultBridge: boolean;
      /** Its ports are reached through the gateway bridge even if every network is internal. */
      readonly publishes: boolean;
    };

export interface ContainerPlan {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly hostname: string;
  readonly mounts: readonly MountSpec[];
  readonly stopSignal: string;
  readonly log: {
    readonly driver?: LogDriver;
    readonly maxSizeBytes?: number;
    readonly maxFiles?: number;
  };
}

export const LABEL_PREFIX = 'com.docker.swarm';
export const TASK_ID_LABEL = `${LABEL_PREFIX}.task.id`;
const LOG_FILES_MAX = 10_000;

export function templateContext(task: Task, node: TemplateContext['node']): TemplateContext {
  return {
    service: { id: task.serviceId, name: task.serviceName, labels: task.serviceLabels },
    node,
    task: { id: task.id, name: taskName(task), slot: shownSlot(task) ?? 0 },
  };
}

/** SwarmError invalid: an unknown template, no program to run, a bad log option. */
export function planContainer(
  task: Task,
  image: ImageDefaults,
  context: TemplateContext,
  containerId: string,
): ContainerPlan {
  const spec = task.spec.container;
  const hostname = expand(spec.hostname, 'hostname', context);
  return {
    name: taskName(task),
    labels: { ...spec.labels, ...systemLabels(task) },
    args: planArgs(task, image),
    env: mergeEnv(image.env, [
      ...spec.env.map((entry) => expand(entry, 'env', context)),
      ...resourceEnv(task.genericResources),
    ]),
    workingDir: spec.workingDir || image.workingDir || '/',
    user: spec.user || image.user,
    hostname: hostname === '' ? shortId(containerId) : hostname,
    mounts: spec.mounts.map((mount) => ({
      ...mount,
      source: expand(mount.source, 'mount source', context),
      target: expand(mount.target, 'mount target', context),
    })),
    stopSignal: spec.stopSignal || image.stopSignal,
    log: planLog(task),
  };
}

/** DOCKER_RESOURCE_GPU=name,name for named units, =amount for an amount, as Docker has it. */
function resourceEnv(resources: readonly GenericResource[]): readonly string[] {
  const values = new Map<string, string[]>();
  for (const { kind, name, amount } of resources) {
    const value = name === '' ? String(amount) : name;
    values.set(kind, [...(values.get(kind) ?? []), value]);
  }
  return [...values].map(([kind, given]) => {
    const variable = kind.toUpperCase().replace(/[^A-Z0-9]/g, '_');
    return `DOCKER_RESOURCE_${variable}=${given.join(',')}`;
  });
}

function systemLabels(task: Task): Record<string, string> {
  return {
    [`${LABEL_PREFIX}.node.id`]: task.nodeId,
    [`${LABEL_PREFIX}.service.id`]: task.serviceId,
    [`${LABEL_PREFIX}.service.name`]: task.serviceName,
    [`${LABEL_PREFIX}.task`]: '',
    [TASK_ID_LABEL]: task.id,
    [`${LABEL_PREFIX}.task.name`]: taskName(task),
  };
}

/** An entrypoint of the spec drops the image's arguments too, as Docker has it. */
function planArgs(task: Task, image: ImageDefaults): readonly string[] {
  const { command, args } = task.spec.container;
  const merged =
    command.length > 0
      ? [...command, ...args]
      : [...image.entrypoint, ...(args.length > 0 ? args : image.cmd)];
  if (merged.length > 0) return merged;
  throw new SwarmError(
    'invalid',
    `no command specified: image ${task.spec.container.image} names no program; give one`,
  );
}

/** Later entries win by name, in the place of the first; a name without '=' takes it away. */
export function mergeEnv(base: readonly string[], over: readonly string[]): readonly string[] {
  const merged = new Map<string, string>();
  for (const entry of [...base, ...over]) {
    const equals = entry.indexOf('=');
    if (equals === -1) merged.delete(entry);
    else merged.set(entry.slice(0, equals), entry);
  }
  return [...merged.values()];
}

function planLog(task: Task): ContainerPlan['log'] {
  const maxSize = task.spec.logOptions['max-size'];
  const maxFile = task.spec.logOptions['max-file'];
  const maxFiles = Number(maxFile ?? 1);
  if (!Number.isSafeInteger(maxFiles) || maxFiles < 1 || maxFiles > LOG_FILES_MAX) {
    throw new SwarmError(
      'invalid',
      `log option max-file=${maxFile}: give a number from 1 to ${LOG_FILES_MAX}`,
    );
  }
  const maxSizeBytes = maxSize === undefined ? undefined : parseBytes(maxSize);
  if (maxSizeBytes !== undefined && (!Number.isSafeInteger(maxSizeBytes) || maxSizeBytes < 1)) {
    throw new SwarmError('invalid', `log option max-size=${maxSize}: give a size like 10m`);
  }
  const driver = task.spec.logDriver;
  return {
    ...(driver === '' ? {} : { driver }),
    ...(maxSizeBytes === undefined ? {} : { maxSizeBytes }),
    ...(maxFile === undefined ? {} : { maxFiles }),
  };
}

/** Which network namespace the task's container gets. SwarmError invalid on a mixture. */
export function planNetwork(task: Task): NetworkPlan {
  const targets = task.spec.networks.map((network) => network.target);
  for (const kind of ['host', 'none'] as const) {
    if (!targets.includes(kind)) continue;
    if (targets.length === 1) return { kind: kind === 'host' ? 'host' : 'new' };
    throw new SwarmError('invalid', `network ${kind} cannot be combined with other networks`);
  }
  const local = (networkId: string): boolean => NODE_LOCAL_NETWORKS.includes(networkId);
  const overlays = task.networks.filter((network) => !local(network.networkId));
  const bare = overlays.find((network) => network.address === '');
  if (bare !== undefined) {
    throw new SwarmError('invalid', `the task has no address on network ${bare.networkId}`);
  }
  const publishes = task.ports.length > 0;
  return {
    kind: 'attached',
    overlays,
    defaultBridge: targets.includes('bridge') || (overlays.length === 0 && !publishes),
    publishes,
  };
}

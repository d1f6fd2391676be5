/**
 * What a node must be to take a task, as filters: each applies to some tasks, checks one node, and
 * says why it refuses it. The first refusal in this order counts. Explanations complete the
 * sentence "no suitable node (REASON on N nodes)".
 */
import {
  type Constraint,
  meetsConstraints,
  meetsPlatforms,
  parseConstraint,
} from '../../model/constraint.ts';
import type { Task } from '../../model/types.ts';
import { hostPorts, type NodeInfo } from './nodeSet.ts';

/** undefined = the node will do; otherwise why not. */
export type Check = (info: NodeInfo) => string | undefined;

export interface Filter {
  readonly name: string;
  /** The check for this task; undefined when the filter does not concern it. */
  prepare(task: Task): Check | undefined;
}

const ready: Filter = {
  name: 'ready',
  prepare: () => (info) => {
    const { state, spec } = info.node;
    if (state === 'down') return 'node down';
    if (state !== 'ready') return 'node not ready';
    if (spec.availability === 'drain') return 'node drained';
    return spec.availability === 'pause' ? 'node paused' : undefined;
  },
};

const resources: Filter = {
  name: 'resources',
  prepare: (task) => {
    const { nanoCpus, memoryBytes } = task.spec.reservations;
    if (nanoCpus === 0 && memoryBytes === 0) return undefined;
    return (info) => {
      if (memoryBytes > 0 && info.freeMemoryBytes < memoryBytes) return 'insufficient memory';
      if (nanoCpus > 0 && info.freeNanoCpus < nanoCpus) return 'insufficient CPU';
      return undefined;
    };
  },
};

const generic: Filter = {
  name: 'generic-resources',
  prepare: (task) => {
    const wanted = task.spec.genericResources;
    if (wanted.length === 0) return undefined;
    return (info) => {
      const given = info.genericsFor(wanted);
      return typeof given === 'string' ? `insufficient ${given}` : undefined;
    };
  },
};

const ports: Filter = {
  name: 'host-ports',
  prepare: (task) => {
    const wanted = hostPorts(task);
    if (wanted.length === 0) return undefined;
    return (info) => {
      const taken = wanted.find((port) => info.isPortTaken(port));
      return taken && `host port ${taken.publishedPort}/${taken.protocol} taken`;
    };
  },
};

const constraints: Filter = {
  name: 'constraints',
  prepare: (task) => {
    const written = task.spec.placement.constraints;
    if (written.length === 0) return undefined;
    const parsed: readonly Constraint[] = written.map(parseConstraint);
    return (info) => (meetsConstraints(parsed, info.node) ? undefined : 'constraint not met');
  },
};

const platform: Filter = {
  name: 'platform',
  prepare: (task) => {
    const { platforms } = task.spec.placement;
    if (platforms.length === 0) return undefined;
    return (info) => (meetsPlatforms(platforms, info.node) ? undefined : 'platform not supported');
  },
};

const maxReplicas: Filter = {
  name: 'max-replicas',
  prepare: (task) => {
    const { maxReplicasPerNode } = task.spec.placement;
    if (maxReplicasPerNode === 0) return undefined;
    return (info) =>
      info.tasksOf(task.serviceId) < maxReplicasPerNode
        ? undefined
        : 'max replicas per node reached';
  },
};

export const FILTERS: readonly Filter[] = [
  ready,
  resources,
  generic,
  constraints,
  platform,
  ports,
  maxReplicas,
];

export function checksFor(task: Task): readonly Check[] {
  return FILTERS.map((filter) => filter.prepare(task)).filter((check) => check !== undefined);
}

/** undefined = suitable. */
export function refusal(checks: readonly Check[], info: NodeInfo): string | undefined {
  for (const check of checks) {
    const reason = check(info);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** 'no suitable node (insufficient memory on 2 nodes, constraint not met on 1)'. */
export function explain(reasons: Iterable<string>): string {
  const counts = new Map<string, number>();
  for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  if (counts.size === 0) return 'no suitable node (the swarm has no nodes)';
  const sorted = [...counts].sort((left, right) => right[1] - left[1]);
  const parts = sorted.map(([reason, count], at) => {
    const unit = at > 0 ? '' : count === 1 ? ' node' : ' nodes';
    return `${reason} on ${count}${unit}`;
  });
  return `no suitable node (${parts.join(', ')})`;
}

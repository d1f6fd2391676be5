/**
 * Why a task has no node: every filter's word on every node, counted, with the nodes' names and the
 * figures that decided. The same filters as the scheduler's, asked once more; it places nothing.
 */
import { formatBytes } from '../../base/bytes.ts';
import type { Steps } from '../../base/slices.ts';
import { meetsConstraint, parseConstraint } from '../../model/constraint.ts';
import { shownSlot } from '../../model/taskName.ts';
import { isTerminal } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { FILTERS } from '../placement/filters.ts';
import { collide, hostPorts, type NodeInfo, nodeInfos } from '../placement/nodeSet.ts';
import type { View } from '../store/types.ts';

/** Names in one sentence; the object has all of them. */
const NAMES_SAID = 8;

export interface Refusal {
  /** The filter's name, e.g. 'constraints'. */
  readonly filter: string;
  /** e.g. 'constraint not met'. */
  readonly reason: string;
  /** Hostnames. */
  readonly nodes: readonly string[];
  /** What was wanted and what there is; '' when the reason says it all. */
  readonly detail: string;
}

export interface PlacementView {
  readonly refusals: readonly Refusal[];
  /** Hostnames that would do. */
  readonly suitable: readonly string[];
}

/** The nodes as the scheduler sees them now: looked at once for one question, when it is needed. */
export class Nodes {
  readonly #view: View;
  readonly #nowMs: number;
  #infos: ReadonlyMap<string, NodeInfo> | undefined;

  constructor(view: View, nowMs: number) {
    this.#view = view;
    this.#nowMs = nowMs;
  }

  *infos(): Steps<ReadonlyMap<string, NodeInfo>> {
    this.#infos ??= yield* nodeInfos(this.#view, this.#nowMs);
    return this.#infos;
  }
}

/** On every node, or on the one it has to run on. */
export function* lookAtPlacement(view: View, task: Task, nodes: Nodes): Steps<PlacementView> {
  const checks = FILTERS.flatMap((filter) => {
    const check = filter.prepare(task);
    return check === undefined ? [] : [{ name: filter.name, check }];
  });
  const groups = new Map<string, { filter: string; reason: string; infos: NodeInfo[] }>();
  const suitable: string[] = [];
  for (const info of (yield* nodes.infos()).values()) {
    if (task.nodeId !== '' && info.node.id !== task.nodeId) continue;
    const refused = checks
      .map(({ name, check }) => ({ filter: name, reason: check(info) }))
      .find(({ reason }) => reason !== undefined);
    if (refused?.reason === undefined) {
      suitable.push(hostname(info));
      continue;
    }
    const key = `${refused.filter}/${refused.reason}`;
    const group = groups.get(key);
    if (group === undefined) {
      groups.set(key, { filter: refused.filter, reason: refused.reason, infos: [info] });
    } else group.infos.push(info);
  }
  const refusals = [...groups.values()]
    .sort((left, right) => right.infos.length - left.infos.length)
    .map(({ filter, reason, infos }) => ({
      filter,
      reason,
      nodes: infos.map(hostname).sort(),
      detail: detailOf(view, task, filter, infos),
    }));
  return { refusals, suitable: suitable.sort() };
}

/** 'insufficient memory on 2 nodes (h1, h2): 16GiB wanted, at most 3.2GiB free'. */
export function refusalText({ reason, nodes, detail }: Refusal): string {
  const unit = nodes.length === 1 ? '1 node' : `${nodes.length} nodes`;
  return `${reason} on ${unit} (${namesText(nodes)})${detail === '' ? '' : `: ${detail}`}`;
}

export function namesText(names: readonly string[]): string {
  if (names.length <= NAMES_SAID) return names.join(', ');
  return `${names.slice(0, NAMES_SAID).join(', ')} and ${names.length - NAMES_SAID} more`;
}

function hostname({ node }: NodeInfo): string {
  return node.description.hostname || node.id;
}

function detailOf(view: View, task: Task, filter: string, infos: readonly NodeInfo[]): string {
  const { reservations, placement } = task.spec;
  switch (filter) {
    case 'resources': {
      const { memoryBytes, nanoCpus } = reservations;
      const parts: string[] = [];
      if (memoryBytes > 0) {
        const free = Math.max(0, ...infos.map(({ freeMemoryBytes }) => freeMemoryBytes));
        parts.push(
          `${formatBytes(memoryBytes)} of memory wanted, at most ${formatBytes(free)} free`,
        );
      }
      if (nanoCpus > 0) {
        const free = Math.max(0, ...infos.map(({ freeNanoCpus }) => freeNanoCpus));
        parts.push(`${cores(nanoCpus)} CPUs wanted, at most ${cores(free)} free`);
      }
      return parts.join(', ');
    }
    case 'generic-resources':
      return task.spec.genericResources
        .map(({ kind, amount }) => `${amount} ${kind} wanted`)
        .join(', ');
    case 'host-ports':
      return infos
        .slice(0, NAMES_SAID)
        .map((info) => `${hostname(info)}: ${holdersOf(view, task, info)}`)
        .join('; ');
    case 'constraints':
      return placement.constraints.filter((text) => isMissed(text, infos)).join(', ');
    case 'max-replicas':
      return `at most ${placement.maxReplicasPerNode} a node`;
    case 'platform':
      return placement.platforms
        .map(({ os, architecture }) => [os, architecture].filter((part) => part !== '').join('/'))
        .join(', ');
    case 'ready':
      return infos
        .filter(({ node }) => node.stateMessage !== '' && node.state !== 'ready')
        .map((info) => `${hostname(info)}: ${info.node.stateMessage}`)
        .slice(0, NAMES_SAID)
        .join('; ');
    default:
      return '';
  }
}

/** Whether any of the nodes fails this very constraint. */
function isMissed(text: string, infos: readonly NodeInfo[]): boolean {
  const constraint = parseConstraint(text);
  return infos.some(({ node }) => !meetsConstraint(constraint, node));
}

function cores(nanoCpus: number): string {
  return String(Number((nanoCpus / 1e9).toFixed(2)));
}

/** Who has the host's ports that the task wants: 'web.1'. */
function holdersOf(view: View, task: Task, info: NodeInfo): string {
  const wanted = hostPorts(task);
  const names = new Set<string>();
  for (const other of view.tasksOfNode(info.node.id)) {
    if (isTerminal(other.status.state)) continue;
    const isHolder = hostPorts(other).some((port) => wanted.some((each) => collide(port, each)));
    if (isHolder) names.add(`${other.serviceName}.${shownSlot(other) ?? hostname(info)}`);
  }
  return [...names].join(', ');
}

/**
 * Changes of the store as Docker's events (scope swarm: service, node, network, secret, config).
 * Tasks are not Docker events; /tsswarm/watch shows them.
 */
import type { Clock } from '../../base/clock.ts';
import type { StoreEvent, StoreReader } from '../../manager/store/types.ts';
import type { Config, Network, Node, Secret, Service } from '../../model/types.ts';
import type { Filters } from './filters.ts';
import { follow, watchFrom } from './follow.ts';

export const EVENT_FILTERS: readonly string[] = [
  'scope',
  'type',
  'event',
  'service',
  'node',
  'network',
  'label',
  'container',
  'image',
  'volume',
  'daemon',
  'plugin',
  'secret',
  'config',
];

export interface EventQuery {
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
  readonly filters: Filters;
}

export interface DockerEvent {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly scope: 'swarm';
  readonly time: number;
  readonly timeNano: number;
}

export async function* eventsOf(
  store: StoreReader,
  query: EventQuery,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<DockerEvent> {
  const watch = watchFrom(store, query.sinceMs !== undefined);
  for await (const change of follow(watch, clock, signal, query.untilMs)) {
    if (query.sinceMs !== undefined && change.atMs < query.sinceMs) continue;
    const event = dockerEvent(change);
    if (event !== undefined && matches(event, query.filters)) yield event;
  }
}

function matches(event: DockerEvent, filters: Filters): boolean {
  const { ID, Attributes } = event.Actor;
  const names = (type: string): boolean =>
    !filters.has(type) ||
    (event.Type === type &&
      filters.some(type, (value) => value === Attributes.name || ID.startsWith(value)));
  const absent = ['container', 'image', 'volume', 'daemon', 'plugin'];
  return (
    filters.is('scope', event.scope) &&
    filters.is('type', event.Type) &&
    filters.is('event', event.Action) &&
    ['service', 'node', 'network', 'secret', 'config'].every(names) &&
    !absent.some((type) => filters.has(type)) &&
    filters.labels('label', Attributes)
  );
}

const ACTIONS = { create: 'create', update: 'update', remove: 'remove' } as const;
const NANOSECONDS_PER_MS = 1_000_000;

/** undefined for a change that is not a Docker event. */
export function dockerEvent(change: StoreEvent): DockerEvent | undefined {
  if (change.table === 'task' || change.table === 'cluster') return undefined;
  if (change.table === 'network' && change.kind === 'update') return undefined;
  const attributes = attributesOf(change);
  if (attributes === undefined) return undefined;
  return {
    Type: change.table,
    Action: ACTIONS[change.kind],
    Actor: { ID: change.id, Attributes: attributes },
    scope: 'swarm',
    time: Math.floor(change.atMs / 1000),
    timeNano: change.atMs * NANOSECONDS_PER_MS,
  };
}

function attributesOf(change: StoreEvent): Record<string, string> | undefined {
  const { before, after } = change;
  const now = after ?? before;
  if (now === undefined) return {};
  switch (change.table) {
    case 'service':
      return serviceAttributes(now as Service, change.kind === 'update' ? before : undefined);
    case 'node':
      return nodeAttributes(now as Node, change.kind === 'update' ? before : undefined);
    case 'secret':
    case 'config':
      return { name: (now as Secret | Config).spec.name };
    default:
      return { name: (now as Network).spec.name, type: 'overlay' };
  }
}

function moved(name: string, before: string, after: string): Record<string, string> {
  return before === after ? {} : { [`${name}.old`]: before, [`${name}.new`]: after };
}

function replicas(service: Service): string {
  return service.spec.mode.kind === 'replicated' ? String(service.spec.mode.replicas) : '';
}

function serviceAttributes(now: Service, before: unknown): Record<string, string> | undefined {
  const base = { name: now.spec.name };
  if (before === undefined) return base;
  const old = before as Service;
  const changes = {
    ...moved('replicas', replicas(old), replicas(now)),
    ...moved('image', old.spec.task.container.image, now.spec.task.container.image),
    ...moved('updatestate', old.update?.state ?? '', now.update?.state ?? ''),
  };
  // What the allocator fills in is no event: nobody asked for it.
  const visible = Object.keys(changes).length > 0 || old.specVersion !== now.specVersion;
  return visible ? { ...base, ...changes } : undefined;
}

function nodeAttributes(now: Node, before: unknown): Record<string, string> | undefined {
  const base = { name: now.description.hostname };
  if (before === undefined) return base;
  const old = before as Node;
  const changes = {
    ...moved('state', old.state, now.state),
    ...moved('availability', old.spec.availability, now.spec.availability),
    ...moved('desiredrole', old.spec.role, now.spec.role),
    ...moved('role', old.role, now.role),
  };
  return Object.keys(changes).length > 0 || old.spec !== now.spec
    ? { ...base, ...changes }
    : undefined;
}

/**
 * Docker's events: changes of the store (scope swarm: service, node, network, secret, config) and
 * what happens to this host's own objects (scope local). Tasks are not Docker events;
 * /tsswarm/watch shows them.
 */
import type { Clock } from '../../base/clock.ts';
import type { StoreEvent, StoreReader, StoreWatch } from '../../manager/store/types.ts';
import type { Config, Network, Node, Secret, Service } from '../../model/types.ts';
import type { LocalEvent, LocalEvents } from '../containers/events.ts';
import type { Filters } from './filters.ts';
import { BATCH_EVENTS, changed, watchFrom } from './follow.ts';

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
  readonly scope: 'swarm' | 'local';
  readonly status?: string;
  readonly id?: string;
  readonly from?: string;
  readonly time: number;
  readonly timeNano: number;
}

/** Where events come from: the cluster's store on a manager, and always this host. */
export interface EventSources {
  readonly store: StoreReader | undefined;
  readonly local: LocalEvents;
}

/** Waiting for a slow reader; beyond it the oldest of this host are lost to him. */
const WAITING_MAX = 4096;

/** What is remembered from `sinceMs` on, by time; then what comes, until `untilMs` or abort. */
export async function* eventsOf(
  sources: EventSources,
  query: EventQuery,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<DockerEvent> {
  const { store, local } = sources;
  const isAsked = (event: DockerEvent): boolean => isWithin(event, query);
  const waiting: DockerEvent[] = [];
  let wake = (): void => {};
  const stop = local.listen((event) => {
    waiting.push(localToDocker(event));
    if (waiting.length > WAITING_MAX) waiting.shift();
    wake();
  });
  const watch = store === undefined ? undefined : watchFrom(store, query.sinceMs !== undefined);
  try {
    const past = query.sinceMs === undefined ? [] : local.past().map(localToDocker);
    past.push(...taken(watch));
    yield* past.sort((left, right) => left.timeNano - right.timeNano).filter(isAsked);
    while (!signal.aborted) {
      const now = [...waiting.splice(0), ...taken(watch)];
      yield* now.filter(isAsked);
      if (now.length > 0) continue;
      const leftMs = query.untilMs === undefined ? undefined : query.untilMs - clock.wallMs();
      if (leftMs !== undefined && leftMs <= 0) return;
      const turn = new AbortController();
      wake = () => turn.abort();
      await changed(watch, clock, AbortSignal.any([signal, turn.signal]), leftMs);
    }
  } finally {
    stop();
    watch?.close();
  }
}

/** All that the watch has now. */
function taken(watch: StoreWatch | undefined): DockerEvent[] {
  const out: DockerEvent[] = [];
  for (let events = watch?.take(BATCH_EVENTS) ?? []; events.length > 0; ) {
    for (const change of events) {
      const event = dockerEvent(change);
      if (event !== undefined) out.push(event);
    }
    events = watch?.take(BATCH_EVENTS) ?? [];
  }
  return out;
}

function isWithin(event: DockerEvent, { sinceMs, untilMs, filters }: EventQuery): boolean {
  const atMs = event.timeNano / NANOSECONDS_PER_MS;
  if (sinceMs !== undefined && atMs < sinceMs) return false;
  if (untilMs !== undefined && atMs > untilMs) return false;
  return matches(event, filters);
}

export function localToDocker(event: LocalEvent): DockerEvent {
  const { type, action, id, attributes, atMs, extraNs } = event;
  const isOld = type === 'container' || type === 'image';
  return {
    // Fields of older clients.
    ...(isOld ? { status: action, id, from: attributes['image'] ?? '' } : {}),
    Type: type,
    Action: action,
    Actor: { ID: id, Attributes: attributes },
    scope: 'local',
    time: Math.floor(atMs / 1000),
    timeNano: atMs * NANOSECONDS_PER_MS + extraNs,
  };
}

function matches(event: DockerEvent, filters: Filters): boolean {
  const { ID, Attributes } = event.Actor;
  const isNamed = (value: string): boolean => value === Attributes['name'] || ID.startsWith(value);
  const names = (type: string): boolean =>
    !filters.has(type) || (event.Type === type && filters.some(type, isNamed));
  // An image is meant by its own events and by those of containers made from it.
  const isOfImage =
    names('image') ||
    (event.Type === 'container' && filters.some('image', (name) => name === Attributes['image']));
  return (
    filters.is('scope', event.scope) &&
    filters.is('type', event.Type) &&
    filters.some('event', (name) => event.Action === name || event.Action.startsWith(`${name}:`)) &&
    NAMED_TYPES.every(names) &&
    isOfImage &&
    filters.labels('label', Attributes)
  );
}

const NAMED_TYPES: readonly string[] = [
  'service',
  'node',
  'network',
  'secret',
  'config',
  'container',
  'volume',
  'daemon',
  'plugin',
];

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

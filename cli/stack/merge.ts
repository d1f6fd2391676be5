/**
 * Several stack files as one, by Compose's rules: a later file's value replaces an earlier one's,
 * maps are joined, lists are appended, and lists of things with an identity (ports, volumes,
 * secrets, configs) replace by it. Commands and health tests are replaced as a whole. Pure.
 */
import type { StackFile, StackMount, StackPort, StackService } from './types.ts';

type Values = Readonly<Record<string, unknown>>;

function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What makes two items of a list the same, by the list's key. */
const IDENTITIES: Readonly<Record<string, (item: never) => string>> = {
  ports: (port: StackPort) =>
    [port.mode, port.host_ip, port.protocol, port.target, port.published].join('/'),
  volumes: (mount: StackMount) => mount.target,
  secrets: (use: { source: string }) => use.source,
  configs: (use: { source: string }) => use.source,
  env_file: (file: { path: string }) => file.path,
  generic_resources: (item: { discrete_resource_spec: { kind: string } }) =>
    item.discrete_resource_spec.kind,
};

/** Lists that are one value. */
const WHOLE = new Set(['command', 'entrypoint', 'test', 'config']);

function mergeLists(key: string, first: readonly unknown[], second: readonly unknown[]): unknown[] {
  if (WHOLE.has(key)) return [...second];
  const identity = Object.hasOwn(IDENTITIES, key)
    ? (IDENTITIES[key] as (item: unknown) => string)
    : (item: unknown): string => JSON.stringify(item);
  const items = new Map<string, unknown>();
  for (const item of [...first, ...second]) items.set(identity(item), item);
  const merged = [...items];
  // As docker's command, so that the order alone replaces no task.
  if (key === 'volumes') merged.sort(([left], [right]) => (left < right ? -1 : 1));
  return merged.map(([, item]) => item);
}

function mergeLogging(first: Values, second: Values): Values {
  const isOther =
    first.driver !== undefined && second.driver !== undefined && first.driver !== second.driver;
  return isOther ? second : mergeMaps(first, second);
}

function mergeMaps(first: Values, second: Values): Values {
  const out: Record<string, unknown> = { ...first };
  for (const [key, value] of Object.entries(second)) {
    const before = out[key];
    if (value === null && isMap(before)) continue;
    if (Array.isArray(before) && Array.isArray(value)) out[key] = mergeLists(key, before, value);
    else if (isMap(before) && isMap(value)) {
      out[key] = key === 'logging' ? mergeLogging(before, value) : mergeMaps(before, value);
    } else out[key] = value;
  }
  return out;
}

/** 'healthcheck: {disable: true}' and a test exclude each other: the later one stands. */
function settleHealth(service: StackService, later: StackService): StackService {
  const { healthcheck } = later;
  if (service.healthcheck === undefined || healthcheck === undefined) return service;
  if (healthcheck.disable === true) return { ...service, healthcheck };
  const { disable: _, ...rest } = service.healthcheck;
  return { ...service, healthcheck: rest };
}

export function mergeStackFiles(files: readonly StackFile[]): StackFile {
  return files.reduce((first, second) => {
    const merged = mergeMaps(first as unknown as Values, second as unknown as Values);
    const file = merged as unknown as StackFile;
    const services = Object.entries(file.services).map(([name, service]) => {
      const isBoth = Object.hasOwn(first.services, name) && Object.hasOwn(second.services, name);
      return [name, isBoth ? settleHealth(service, second.services[name]) : service] as const;
    });
    return { ...file, services: Object.fromEntries(services) };
  });
}

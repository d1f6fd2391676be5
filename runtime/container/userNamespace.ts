/**
 * A container's user namespace: whether its maps can be, and which host ids are whose. Pure; the
 * namespace is made by the shim.
 */
import { SwarmError } from '../../base/errors.ts';
import type { IdMap, IdMaps } from './specRecords.ts';
import type { ContainerConfig } from './types.ts';

/** As the kernel bounds a map. */
const RANGES_MAX = 340;

/**
 * Where the host's root is on disk below mapped layers: what the daemon makes in a running
 * container begins as its, and could not be at all were it not mapped.
 */
const HOST_ROOT_ON_DISK = 4_294_900_000;
/** Ids that a container can have end here. */
const ID_END = HOST_ROOT_ON_DISK;

/** How the layers are shown: as the container's ids, and the host's root beyond them. */
export function layerMapsOf({ uids, gids }: IdMaps): IdMaps {
  const hostRoot = { inside: HOST_ROOT_ON_DISK, outside: 0, count: 1 };
  const add = (ranges: readonly IdMap[]): readonly IdMap[] =>
    toContainerId(ranges, 0) === undefined ? [...ranges, hostRoot] : ranges;
  return { uids: add(uids), gids: add(gids) };
}

/** undefined: the host's. */
export function userMapsOf(config: Pick<ContainerConfig, 'userNamespace'>): IdMaps | undefined {
  const { userNamespace } = config;
  return typeof userNamespace === 'object' ? userNamespace : undefined;
}

/** SwarmError invalid for maps the kernel would not take, and for what cannot go with them. */
export function checkUserNamespace(config: ContainerConfig): void {
  const maps = userMapsOf(config);
  if (maps === undefined) return;
  checkRanges(maps.uids, 'user');
  checkRanges(maps.gids, 'group');
  const refuse = (what: string): never => {
    throw new SwarmError(
      'invalid',
      `${what} when user namespaces are enabled: run the container with --userns=host`,
    );
  };
  if (config.privileged === true) refuse('privileged mode is not possible');
  if (config.networkNamespace === 'host') refuse("cannot share the host's network namespace");
  if (config.pidNamespace === 'host') refuse("cannot share the host's PID namespace");
}

function checkRanges(ranges: readonly IdMap[], kind: string): void {
  const isWhole = (value: number): boolean => Number.isInteger(value) && value >= 0;
  for (const { inside, outside, count } of ranges) {
    const fits =
      [inside, outside, count].every(isWhole) &&
      count > 0 &&
      inside + count <= ID_END &&
      outside + count <= ID_END;
    if (!fits) {
      throw new SwarmError(
        'invalid',
        `the ${kind} id map ${inside}:${outside}:${count} is out of range`,
      );
    }
  }
  if (ranges.length >= RANGES_MAX || !ranges.some(({ inside }) => inside === 0)) {
    throw new SwarmError(
      'invalid',
      `the ${kind} id map must begin with 0 inside, and have fewer than ${RANGES_MAX} ranges`,
    );
  }
}

/** Where an id of the container's is on the host; undefined when it is not mapped. */
export function toHostId(ranges: readonly IdMap[], id: number): number | undefined {
  const range = ranges.find(({ inside, count }) => id >= inside && id < inside + count);
  return range === undefined ? undefined : range.outside + (id - range.inside);
}

/** The other way; undefined for a host id that is none of the container's. */
export function toContainerId(ranges: readonly IdMap[], id: number): number | undefined {
  const range = ranges.find(({ outside, count }) => id >= outside && id < outside + count);
  return range === undefined ? undefined : range.inside + (id - range.outside);
}

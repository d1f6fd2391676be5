/**
 * A container's user namespace: whether its maps can be, and which host ids are whose. Pure; the
 * namespace is made by the shim.
 */
import { SwarmError } from '../../base/errors.ts';
import type { IdMap, IdMaps } from './specRecords.ts';
import type { ContainerConfig } from './types.ts';

/** As the kernel bounds a map. */
const RANGES_MAX = 340;
const ID_END = 2 ** 32 - 1;

/** undefined: the host's. */
export function userMapsOf(config: Pick<ContainerConfig, 'userNamespace'>): IdMaps | undefined {
  const { userNamespace } = config;
  return userNamespace === 'host' ? undefined : userNamespace;
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
  if (ranges.length > RANGES_MAX || !ranges.some(({ inside }) => inside === 0)) {
    throw new SwarmError(
      'invalid',
      `the ${kind} id map must begin with 0 inside, and have at most ${RANGES_MAX} ranges`,
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

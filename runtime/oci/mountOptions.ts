/**
 * What the option strings of an OCI mount mean (config.md, "Mounts"; fstab's words): attributes of
 * the mount, set or cleared, also recursively; propagation; and what is left for the file system.
 */
import { SwarmError } from '../../base/errors.ts';
import { type IdMap, type IdMaps, PROPAGATION as MS } from '../container/specRecords.ts';

/** MOUNT_ATTR_* of linux/mount.h. */
export const MOUNT_ATTR = {
  readOnly: 0x01,
  noSuid: 0x02,
  noDev: 0x04,
  noExec: 0x08,
  atimeMask: 0x70,
  noAtime: 0x10,
  strictAtime: 0x20,
  noDirAtime: 0x80,
  noSymFollow: 0x200000,
} as const;

export const PROPAGATION: Readonly<Record<string, number>> = {
  unbindable: MS.unbindable,
  private: MS.private,
  slave: MS.slave,
  shared: MS.shared,
  runbindable: MS.unbindable | MS.recursive,
  rprivate: MS.private | MS.recursive,
  rslave: MS.slave | MS.recursive,
  rshared: MS.shared | MS.recursive,
};

interface Change {
  readonly set: number;
  readonly clear: number;
}
const on = (attribute: number): Change => ({ set: attribute, clear: 0 });
const off = (attribute: number): Change => ({ set: 0, clear: attribute });
/** The three ways of counting access exclude each other; relatime is the one without a bit. */
const atime = (attribute: number): Change => ({ set: attribute, clear: MOUNT_ATTR.atimeMask });

const ATTRIBUTES: Readonly<Record<string, Change>> = {
  ro: on(MOUNT_ATTR.readOnly),
  rw: off(MOUNT_ATTR.readOnly),
  nosuid: on(MOUNT_ATTR.noSuid),
  suid: off(MOUNT_ATTR.noSuid),
  nodev: on(MOUNT_ATTR.noDev),
  dev: off(MOUNT_ATTR.noDev),
  noexec: on(MOUNT_ATTR.noExec),
  exec: off(MOUNT_ATTR.noExec),
  nodiratime: on(MOUNT_ATTR.noDirAtime),
  diratime: off(MOUNT_ATTR.noDirAtime),
  nosymfollow: on(MOUNT_ATTR.noSymFollow),
  symfollow: off(MOUNT_ATTR.noSymFollow),
  relatime: atime(0),
  norelatime: { set: 0, clear: 0 },
  atime: atime(0),
  noatime: atime(MOUNT_ATTR.noAtime),
  strictatime: atime(MOUNT_ATTR.strictAtime),
  nostrictatime: atime(0),
};

/** Of the file system, not of the mount; words that the kernel itself knows. */
const FILE_SYSTEM_FLAGS = new Set(['sync', 'dirsync', 'lazytime', 'mand']);
/** Say what is so anyway, or what Linux has no more. */
const WITHOUT_MEANING = new Set([
  'defaults',
  'async',
  'nolazytime',
  'nomand',
  'loud',
  'silent',
  'acl',
  'noacl',
  'iversion',
  'noiversion',
  'remount',
]);

/** As in `features`. */
export const MOUNT_OPTIONS: readonly string[] = [
  ...Object.keys(ATTRIBUTES),
  ...Object.keys(ATTRIBUTES).map((name) => `r${name}`),
  ...Object.keys(PROPAGATION),
  ...FILE_SYSTEM_FLAGS,
  ...WITHOUT_MEANING,
  'bind',
  'rbind',
  'idmap',
  'ridmap',
  'tmpcopyup',
].toSorted();

export interface MountPlan {
  readonly bind: boolean;
  readonly recursive: boolean;
  readonly set: number;
  readonly clear: number;
  readonly setBelow: number;
  readonly clearBelow: number;
  /** In order; each with MS_REC or not. */
  readonly propagation: number;
  readonly tmpCopyUp: boolean;
  readonly idmap?: 'plain' | 'recursive';
  readonly maps?: IdMaps;
  /** 'key=value' or 'flag' for the file system. */
  readonly data: readonly string[];
}

const NO_MAPS: IdMaps = { uids: [], gids: [] };

/** SwarmError invalid for an option that cannot be read. `ids`: of the user namespace. */
export function parseMountOptions(options: readonly string[], ids = NO_MAPS): MountPlan {
  const plan = {
    bind: false,
    recursive: false,
    set: 0,
    clear: 0,
    setBelow: 0,
    clearBelow: 0,
    propagation: 0,
    tmpCopyUp: false,
    idmap: undefined as MountPlan['idmap'],
    maps: undefined as MountPlan['maps'],
    data: [] as string[],
  };
  for (const option of options.flatMap((one) => (one.startsWith('idmap=') ? [one] : split(one)))) {
    const below = option.startsWith('r') ? ATTRIBUTES[option.slice(1)] : undefined;
    const own = ATTRIBUTES[option];
    if (own !== undefined) {
      plan.set = (plan.set & ~own.clear) | own.set;
      plan.clear = (plan.clear & ~own.set) | own.clear;
    } else if (below !== undefined) {
      plan.setBelow = (plan.setBelow & ~below.clear) | below.set;
      plan.clearBelow = (plan.clearBelow & ~below.set) | below.clear;
    } else if (PROPAGATION[option] !== undefined) {
      plan.propagation = PROPAGATION[option];
    } else if (option === 'bind' || option === 'rbind') {
      plan.bind = true;
      plan.recursive = option === 'rbind';
    } else if (option === 'tmpcopyup') {
      plan.tmpCopyUp = true;
    } else if (option === 'idmap' || option === 'ridmap') {
      plan.idmap = option === 'idmap' ? 'plain' : 'recursive';
    } else if (option.startsWith('idmap=')) {
      plan.idmap = 'plain';
      plan.maps = parseIdMaps(option.slice('idmap='.length), ids);
    } else if (!WITHOUT_MEANING.has(option)) {
      plan.data.push(option);
    }
  }
  // The kernel wants the whole mask cleared where one of its values is set.
  if ((plan.set & MOUNT_ATTR.atimeMask) !== 0) plan.clear |= MOUNT_ATTR.atimeMask;
  if ((plan.setBelow & MOUNT_ATTR.atimeMask) !== 0) plan.clearBelow |= MOUNT_ATTR.atimeMask;
  return plan;
}

/** Some write several options into one string. */
function split(option: string): readonly string[] {
  return /^[a-z]+(,[a-z]+)+$/.test(option) ? option.split(',') : [option];
}

/**
 * 'uids=0-1-10#@10-0-10;gids=0-1-10': inside, outside, count, as crun reads it. With '@', outside
 * is counted from where the container's own `ids` have the inside one.
 */
function parseIdMaps(text: string, ids: IdMaps): IdMaps {
  const maps: { uids: IdMap[]; gids: IdMap[] } = { uids: [], gids: [] };
  for (const part of text.split(';')) {
    const [kind, ranges = ''] = part.split('=');
    if (kind !== 'uids' && kind !== 'gids') {
      throw new SwarmError('invalid', `mount option "idmap=${text}": expected uids= and gids=`);
    }
    for (const range of ranges.split('#')) {
      const match = /^@?\+?(\d+)-(\d+)-(\d+)$/.exec(range);
      if (match === null) {
        throw new SwarmError(
          'invalid',
          `mount option "idmap=${text}": "${range}" is not INSIDE-OUTSIDE-COUNT`,
        );
      }
      const [inside = 0, outside = 0, count = 0] = match.slice(1).map(Number);
      const start = range.startsWith('@') ? startOf(ids[kind], inside, text) : 0;
      maps[kind].push({ inside, outside: outside + start, count });
    }
  }
  return maps;
}

/** What is added to an id of the container's to get the host's. */
function startOf(ids: readonly IdMap[], id: number, text: string): number {
  const range = ids.find(({ inside, count }) => id >= inside && id < inside + count);
  if (range !== undefined) return range.outside - range.inside;
  throw new SwarmError(
    'invalid',
    `mount option "idmap=${text}": the user namespace has no mapping of ${id}`,
  );
}

/**
 * Records of the launch specification that take more than a number or a string, typed as whoever
 * makes one thinks of them: control groups, namespaces, maps of ids, mounts. For every kind of
 * configuration; what goes in is decided elsewhere.
 */
import type { CgroupGroup } from '../sys/cgroup.ts';
import { type SpecWriter, TAG } from './encode.ts';

/** Of the flags record (TAG.flags). */
export const FLAG = {
  readOnlyRoot: 1,
  noNewPrivileges: 2,
  tty: 4,
  stdin: 16,
  stdinOnce: 32,
  init: 64,
  hold: 512,
  /** Standard streams are the shim's own: nothing is copied or logged. */
  ownStreams: 4096,
  /** The shim ends once the program is made. */
  noSupervisor: 8192,
  keepKeyring: 16384,
  noPivot: 32768,
  /** User and groups are numbers. */
  numericUser: 65536,
} as const;

/** CLONE_NEW* of linux/sched.h. */
export const NAMESPACE = {
  time: 0x80,
  mount: 0x20000,
  cgroup: 0x2000000,
  uts: 0x4000000,
  ipc: 0x8000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
} as const;
export type NamespaceKind = keyof typeof NAMESPACE;

/** Of a mount's record. */
export const MOUNT = {
  /** Of what is on the host; else a new file system. */
  bind: 1,
  /** A missing target is made as a file (a bind knows by itself). */
  file: 2,
  /** No link may be in the target's path, and it may be on /proc. */
  trusted: 4,
  /** Left out if it fails. */
  optional: 8,
  /** A bind without the mounts below it. */
  plain: 16,
  /** Shown with the ids of `maps`. */
  ownMap: 128,
  /** Shown with the ids of the container's user namespace. */
  userMap: 256,
  /** Ids are mapped in the mounts below it, too. */
  mapBelow: 512,
  /** A tmpfs that begins with what its target holds. */
  copyUp: 1024,
  /** What is mounted there is changed. */
  remount: 2048,
  /** No link may be on the way to a bind's source. */
  resolved: 4096,
  /** With `userMap` and read-only: a copy, where its file system cannot be shown mapped. */
  copyable: 8192,
} as const;

/** MS_* of linux/mount.h, for propagation. */
export const PROPAGATION = {
  recursive: 0x4000,
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
} as const;

/** A range of ids as user namespaces map them. */
export interface IdMap {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

export interface IdMaps {
  readonly uids: readonly IdMap[];
  readonly gids: readonly IdMap[];
}

/** What is left out is 0, '' or none. */
export interface MountRecord {
  /** MOUNT. */
  readonly flags?: number;
  /** MOUNT_ATTR_* to set and to clear, of this mount alone. */
  readonly set?: number;
  readonly clear?: number;
  /** The same of it and of all mounts below it, afterwards. */
  readonly setBelow?: number;
  readonly clearBelow?: number;
  /** PROPAGATION. Without it a bind does as the root's propagation says. */
  readonly propagation?: number;
  readonly target: string;
  /** A bind's host path; else what the file system is to call its source. */
  readonly source?: string;
  /** '' for a bind. */
  readonly type?: string;
  /** 'key=value' or 'flag', for the file system. */
  readonly options?: readonly string[];
  /** With MOUNT.ownMap. */
  readonly maps?: IdMaps;
}

const CGROUP = { v2: 1, memory: 2, freezer: 4 } as const;
const INHERITED = 2;

/** Groups that the launcher makes, with what is written to them; or, of an exec, joins. */
export function addCgroups(writer: SpecWriter, groups: readonly CgroupGroup[]): void {
  for (const group of groups) {
    const flags =
      (group.version === 2 ? CGROUP.v2 : 0) |
      (group.memory ? CGROUP.memory : 0) |
      (group.freezer ? CGROUP.freezer : 0);
    writer.add(TAG.cgroup, flags, group.dir);
    for (const { file, value, isInherited } of group.writes) {
      writer.add(TAG.cgroupWrite, isInherited === true ? INHERITED : 0, file, value);
    }
    if (group.deviceProgram !== undefined) writer.add(TAG.deviceProgram, group.deviceProgram);
  }
}

/** Where shims go: not the daemon's groups, with which they would end. */
export function addShimCgroups(
  writer: SpecWriter,
  shims: readonly Pick<CgroupGroup, 'version' | 'dir'>[],
): void {
  for (const { version, dir } of shims) {
    writer.add(TAG.shimCgroup, version === 2 ? CGROUP.v2 : 0, dir);
  }
}

/** `path` = '' is a new one. */
export function addNamespace(writer: SpecWriter, kind: NamespaceKind, path = ''): void {
  writer.add(TAG.namespace, NAMESPACE[kind], path);
}

/** The new user namespace's. */
export function addUserMaps(writer: SpecWriter, maps: IdMaps): void {
  for (const { inside, outside, count } of maps.uids) {
    writer.add(TAG.uidMap, inside, outside, count);
  }
  for (const { inside, outside, count } of maps.gids) {
    writer.add(TAG.gidMap, inside, outside, count);
  }
}

/** The layers', or those of the mount before it. */
export function addMaps(
  writer: SpecWriter,
  tag: typeof TAG.layerMap | typeof TAG.mountMap,
  maps: IdMaps,
): void {
  const add = (kind: number, { inside, outside, count }: IdMap): void =>
    writer.add(tag, kind, inside, outside, count);
  for (const range of maps.uids) add(0, range);
  for (const range of maps.gids) add(1, range);
}

export function addMount(writer: SpecWriter, mount: MountRecord): void {
  writer.add(
    TAG.mount,
    mount.flags ?? 0,
    BigInt(mount.set ?? 0),
    BigInt(mount.clear ?? 0),
    BigInt(mount.setBelow ?? 0),
    BigInt(mount.clearBelow ?? 0),
    mount.propagation ?? 0,
    mount.target,
    mount.source ?? '',
    mount.type ?? '',
    ...(mount.options ?? []),
  );
  if (mount.maps !== undefined) addMaps(writer, TAG.mountMap, mount.maps);
}

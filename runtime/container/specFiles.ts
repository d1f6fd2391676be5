/**
 * The part of a launch specification that concerns the container's file system: layers, mounts,
 * devices, links, covered paths. Says what is to be mounted; mounts nothing.
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from '../sys/cgroup.ts';
import type { DeviceNode } from './devices.ts';
import { type SpecWriter, TAG } from './encode.ts';
import type { Lent } from './loans.ts';
import { type ContainerPaths, UPPER_DIR, WORK_DIR } from './paths.ts';
import { ATTR, DEFAULT_LINKS, DEFAULT_MOUNTS, maskedPaths, READ_ONLY_PATHS } from './profile.ts';
import { addMaps, addMount, MOUNT, PROPAGATION } from './specRecords.ts';
import type { ContainerConfig, ContainerMount } from './types.ts';
import { layerMapsOf, userMapsOf } from './userNamespace.ts';

const PRIVATE = PROPAGATION.private | PROPAGATION.recursive;

const IN_PLACE = 1;

/** Processors do not change while the daemon runs. */
let hostMasks: readonly string[] | undefined;

/** The topmost first, the writable one last. */
export function addLayers(
  writer: SpecWriter,
  config: ContainerConfig,
  paths: ContainerPaths,
): void {
  for (const layer of config.layers.toReversed()) writer.add(TAG.lower, layer);
  writer.add(TAG.upper, join(paths.dataDir, UPPER_DIR), join(paths.dataDir, WORK_DIR));
}

/** Only what has a place on the host; each without what the host mounts later. */
export function addBinds(writer: SpecWriter, mounts: readonly ContainerMount[], lent: Lent): void {
  for (const mount of parentsFirst(mounts)) {
    if (mount.type === 'bind')
      addContainerMount(writer, { ...mount, propagation: 'rprivate' }, false, lent);
  }
}

/** In the order the shim carries it out. */
export function addFileSystem(
  writer: SpecWriter,
  config: ContainerConfig,
  paths: ContainerPaths,
  hierarchies: readonly CgroupHierarchy[],
  devices: readonly DeviceNode[],
  lent: Lent,
): void {
  addLayers(writer, config, paths);
  const maps = userMapsOf(config);
  if (maps !== undefined) addMaps(writer, TAG.layerMap, layerMapsOf(maps));
  const isMapped = maps !== undefined;
  const isPrivileged = config.privileged === true;
  addDefaultMounts(writer, config, isPrivileged, lent);
  addCgroupMounts(writer, hierarchies, isPrivileged);
  for (const { path, mode, major, minor, uid, gid } of devices) {
    writer.add(TAG.device, mode, major, minor, uid, gid, path);
  }
  for (const { target, path } of DEFAULT_LINKS) writer.add(TAG.symlink, target, path);
  const files: [string, string | undefined][] = [
    ['/etc/hosts', config.hostsFile],
    ['/etc/hostname', config.hostnameFile],
    ['/etc/resolv.conf', config.resolvConfFile],
  ];
  for (const [target, source] of files) {
    if (source === undefined) continue;
    const flags = MOUNT.bind | (isMapped ? MOUNT.userMap : 0);
    addMount(writer, { flags, propagation: PRIVATE, target, source });
  }
  for (const mount of parentsFirst(config.mounts)) {
    addContainerMount(writer, mount, isMapped, lent);
  }
  if (isPrivileged || config.maskPaths === false) return;
  hostMasks ??= maskedPaths();
  for (const path of hostMasks) writer.add(TAG.mask, path);
  for (const path of READ_ONLY_PATHS) writer.add(TAG.readOnly, 0, path);
}

/** What is mounted deeper must come later, or it would be covered. */
function parentsFirst(mounts: readonly ContainerMount[]): readonly ContainerMount[] {
  const depth = (mount: ContainerMount): number =>
    mount.target.split('/').filter((part) => part !== '').length;
  return mounts.toSorted((left, right) => depth(left) - depth(right));
}

const SHARED_MEMORY = '/dev/shm';
const MESSAGE_QUEUES = '/dev/mqueue';

function addDefaultMounts(
  writer: SpecWriter,
  config: ContainerConfig,
  isPrivileged: boolean,
  lent: Lent,
): void {
  const isHostIpc = config.ipcNamespace === 'host';
  for (const mount of DEFAULT_MOUNTS) {
    const { target, type } = mount;
    // What the namespace shares, its file systems show: the host's own are bound.
    if (isHostIpc && (target === SHARED_MEMORY || target === MESSAGE_QUEUES)) {
      if (!existsSync(target)) continue;
      const flags = MOUNT.bind | MOUNT.trusted;
      addMount(writer, { flags, propagation: PRIVATE, target, source: target });
      continue;
    }
    if (target === SHARED_MEMORY && config.ipcNamespace === 'none') continue;
    if (target === SHARED_MEMORY && lent.sharedMemory !== undefined) {
      const source = lent.sharedMemory;
      addMount(writer, { flags: MOUNT.bind | MOUNT.trusted, propagation: PRIVATE, target, source });
      continue;
    }
    const flags = MOUNT.trusted | (mount.optional === true ? MOUNT.optional : 0);
    const isWritableSys = type === 'sysfs' && isPrivileged;
    const set = isWritableSys ? mount.attributes & ~ATTR.readOnly : mount.attributes;
    const size = target === SHARED_MEMORY ? config.shmSizeBytes : undefined;
    const options =
      size === undefined
        ? mount.options
        : mount.options.map((option) => (option.startsWith('size=') ? `size=${size}` : option));
    addMount(writer, { flags, set, target, source: mount.source, type, options });
  }
}

function propagationOf({ propagation = 'rprivate' }: ContainerMount): number {
  const isRecursive = propagation.startsWith('r');
  const kind = isRecursive ? propagation.slice(1) : propagation;
  return (
    PROPAGATION[kind as 'private' | 'slave' | 'shared'] | (isRecursive ? PROPAGATION.recursive : 0)
  );
}

function addContainerMount(
  writer: SpecWriter,
  mount: ContainerMount,
  isMapped: boolean,
  lent: Lent,
): void {
  const readOnly = mount.readOnly === true ? ATTR.readOnly : 0;
  const { target } = mount;
  if (mount.type === 'image') {
    addImageMount(writer, mount, isMapped);
    return;
  }
  if (mount.type === 'bind') {
    addMount(writer, {
      flags:
        MOUNT.bind |
        (mount.nonRecursive === true ? MOUNT.plain : 0) |
        (lent.sources.has(target) ? MOUNT.resolved : 0) |
        (isMapped && mount.idMapped === true ? MOUNT.userMap : 0) |
        (isMapped && mount.copyable === true ? MOUNT.copyable : 0),
      ...(mount.writableBelow === true ? { set: readOnly } : { setBelow: readOnly }),
      propagation: propagationOf(mount),
      target,
      source: lent.sources.get(target) ?? mount.source ?? '',
    });
    return;
  }
  const options = [`mode=${(mount.mode ?? 0o1777).toString(8)}`];
  if (mount.sizeBytes !== undefined) options.push(`size=${mount.sizeBytes}`);
  const noExec = mount.executable === true ? 0 : ATTR.noExec;
  const set = ATTR.noSuid | ATTR.noDev | noExec | readOnly;
  addMount(writer, { set, target, source: 'tmpfs', type: 'tmpfs', options });
}

/** All its layers as one, or the only one: overlayfs takes no single directory. */
function addImageMount(
  writer: SpecWriter,
  { target, layers = [] }: ContainerMount,
  isMapped: boolean,
): void {
  if (isMapped) {
    throw new SwarmError(
      'unsupported',
      `an image cannot be mounted at ${target} with ids of its own: use --userns=host`,
    );
  }
  const set = ATTR.readOnly;
  const [only] = layers;
  if (layers.length === 1) {
    addMount(writer, { flags: MOUNT.bind, set, propagation: PRIVATE, target, source: only });
    return;
  }
  const options = [`lowerdir=${layers.toReversed().join(':')}`];
  addMount(writer, { set, target, source: 'overlay', type: 'overlay', options });
}

/**
 * The container's own groups, read-only unless privileged, where programs look for their limits.
 */
function addCgroupMounts(
  writer: SpecWriter,
  hierarchies: readonly CgroupHierarchy[],
  isPrivileged: boolean,
): void {
  const root = '/sys/fs/cgroup';
  const flags = MOUNT.trusted | MOUNT.optional;
  const attributes = ATTR.noSuid | ATTR.noDev | ATTR.noExec;
  const readOnly = isPrivileged ? attributes : attributes | ATTR.readOnly;
  if (hierarchies.every((hierarchy) => hierarchy.version === 2)) {
    addMount(writer, { flags, set: readOnly, target: root, source: 'cgroup', type: 'cgroup2' });
    return;
  }
  addMount(writer, {
    flags,
    set: attributes,
    target: root,
    source: 'tmpfs',
    type: 'tmpfs',
    options: ['mode=755'],
  });
  for (const hierarchy of hierarchies) {
    const target = join(root, basename(hierarchy.path));
    const type = hierarchy.version === 2 ? 'cgroup2' : 'cgroup';
    const options = hierarchy.version === 2 ? [] : hierarchy.controllers;
    addMount(writer, { flags, set: readOnly, target, source: 'cgroup', type, options });
    if (hierarchy.version === 1 && hierarchy.controllers.length > 1) {
      for (const name of hierarchy.controllers) {
        writer.add(TAG.symlink, basename(hierarchy.path), join(root, name));
      }
    }
  }
  if (!isPrivileged) writer.add(TAG.readOnly, IN_PLACE, root);
}

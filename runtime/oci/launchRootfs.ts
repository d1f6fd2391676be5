/**
 * The file system of an OCI launch: root, mounts with all their options, devices and links of /dev,
 * masked and read-only paths, in the order the shim carries them out. Mounts nothing.
 */
import { existsSync, lstatSync } from 'node:fs';
import { basename, join, normalize, resolve } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { type SpecWriter, TAG } from '../container/encode.ts';
import { DEFAULT_DEVICES, DEFAULT_LINKS } from '../container/profile.ts';
import { addMount as addRecord, MOUNT } from '../container/specRecords.ts';
import type { CgroupHierarchy } from '../sys/cgroup.ts';
import type { OciConfig, OciDevice, OciMount } from './config.ts';
import { MOUNT_ATTR, type MountPlan, PROPAGATION, parseMountOptions } from './mountOptions.ts';

const IN_PLACE = 1;
/** There while SELinux is. */
const SELINUX = '/sys/fs/selinux/enforce';
const DEFAULT_DEVICE_MODE = 0o666;
const TYPE_BITS: Readonly<Record<string, number>> = {
  b: 0o060000,
  c: 0o020000,
  u: 0o020000,
  p: 0o010000,
};

export interface RootfsOptions {
  readonly bundle: string;
  /** The container's own group in every hierarchy. */
  readonly places: readonly CgroupPlace[];
}

export interface CgroupPlace {
  readonly hierarchy: CgroupHierarchy;
  readonly dir: string;
}

export function rootPath(config: OciConfig, bundle: string): string {
  return resolve(bundle, config.root.path);
}

/** SwarmError invalid names the mount. */
export function addRootfs(writer: SpecWriter, config: OciConfig, options: RootfsOptions): void {
  const root = rootPath(config, options.bundle);
  if (!existsSync(root)) {
    throw new SwarmError('not_found', `root.path: rootfs (${root}) does not exist`);
  }
  writer.add(TAG.root, root);
  const { rootfsPropagation } = config.linux;
  if (rootfsPropagation !== '') {
    const flags = PROPAGATION[rootfsPropagation];
    if (flags === undefined) {
      throw new SwarmError('invalid', `linux.rootfsPropagation: "${rootfsPropagation}"`);
    }
    writer.add(TAG.rootPropagation, flags);
  }
  const { mountLabel } = config.linux;
  if (mountLabel !== '' && !existsSync(SELINUX)) {
    throw new SwarmError(
      'unsupported',
      `linux.mountLabel: cannot apply "${mountLabel}": this host's kernel has no SELinux`,
    );
  }
  const later: string[] = [];
  for (const mount of config.mounts) addMount(writer, config, mount, options, root, later);
  addDevices(writer, config);
  if (later.includes('/dev') && config.process?.terminal === true) {
    // What the terminal is put on cannot be made there any more.
    addDevice(writer, { path: '/dev/console', type: 'c', major: 5, minor: 1, uid: 0, gid: 0 });
  }
  for (const path of later) writer.add(TAG.readOnly, IN_PLACE, path);
  for (const path of config.linux.maskedPaths) writer.add(TAG.mask, path);
  for (const path of config.linux.readonlyPaths) writer.add(TAG.readOnly, 0, path);
}

function addMount(
  writer: SpecWriter,
  config: OciConfig,
  mount: OciMount,
  options: RootfsOptions,
  root: string,
  later: string[],
): void {
  const target = normalize(`/${mount.destination}`).replace(/(.)\/+$/, '$1');
  const { uidMappings, gidMappings } = config.linux;
  const plan = parseMountOptions(mount.options, { uids: uidMappings, gids: gidMappings });
  const type = plan.bind ? 'bind' : mount.type;
  if (type === 'proc' || type === 'sysfs') checkOrdinary(root, target);
  if (type === 'cgroup' || type === 'cgroup2') {
    addCgroupMount(writer, config, target, plan, options.places, later);
    return;
  }
  // Devices are still made in it.
  const isDev = target === '/dev' && type === 'tmpfs' && (plan.set & MOUNT_ATTR.readOnly) !== 0;
  if (isDev) later.push(target);
  const set = isDev ? plan.set & ~MOUNT_ATTR.readOnly : plan.set;
  const source = type === 'bind' ? resolve(options.bundle, mount.source) : mount.source || type;
  if (type === 'bind' && !existsSync(source)) {
    throw new SwarmError('not_found', `mounts: no such file or directory: ${source}`);
  }
  writeMount(writer, config, { ...plan, set }, target, type, source, mount);
}

function writeMount(
  writer: SpecWriter,
  config: OciConfig,
  plan: MountPlan,
  target: string,
  type: string,
  source: string,
  maps: Pick<OciMount, 'uidMappings' | 'gidMappings'> = {},
): void {
  const uids = maps.uidMappings ?? plan.maps?.uids ?? [];
  const gids = maps.gidMappings ?? plan.maps?.gids ?? [];
  const hasMaps = uids.length > 0 || gids.length > 0;
  if (plan.idmap !== undefined && !hasMaps && !config.linux.namespaces.has('user')) {
    throw new SwarmError('invalid', `mounts: ${target}: idmap needs a user namespace or mappings`);
  }
  const isBind = type === 'bind';
  const isOwn = type === 'proc' || type === 'sysfs';
  const flags =
    (isBind ? MOUNT.bind : 0) |
    (isBind && !plan.recursive ? MOUNT.plain : 0) |
    (isOwn ? MOUNT.trusted : 0) |
    (hasMaps ? MOUNT.ownMap : plan.idmap !== undefined ? MOUNT.userMap : 0) |
    (plan.idmap === 'recursive' ? MOUNT.mapBelow : 0) |
    (plan.tmpCopyUp ? MOUNT.copyUp : 0);
  addRecord(writer, {
    ...plan,
    flags,
    target,
    source,
    type: isBind ? '' : type,
    options: isBind ? [] : [...plan.data, ...labelOptions(config.linux.mountLabel, type)],
    maps: hasMaps ? { uids, gids } : undefined,
  });
}

/** Whose files have labels of their own, or the kernel's. */
const UNLABELLED: ReadonlySet<string> = new Set(['proc', 'sysfs', 'mqueue', 'cgroup', 'cgroup2']);

/** What a new file system is mounted with, so that its files have the container's label. */
function labelOptions(label: string, type: string): readonly string[] {
  return label === '' || UNLABELLED.has(type) ? [] : [`context=${label}`];
}

/** /proc and /sys are relied upon: they may not be led elsewhere by the image. */
function checkOrdinary(root: string, target: string): void {
  const stat = lstatSync(join(root, target), { throwIfNoEntry: false });
  if (stat !== undefined && !stat.isDirectory()) {
    throw new SwarmError('invalid', `filesystem "${target}" must be mounted on ordinary directory`);
  }
}

/**
 * The container's own groups where programs look for them. In a cgroup namespace they are file
 * systems of their own; without one, the host's directories are bound.
 */
function addCgroupMount(
  writer: SpecWriter,
  config: OciConfig,
  target: string,
  plan: MountPlan,
  places: readonly CgroupPlace[],
  later: string[],
): void {
  const hasNamespace = config.linux.namespaces.has('cgroup');
  const mountOne = ({ hierarchy, dir }: CgroupPlace, at: string): void => {
    const isV2 = hierarchy.version === 2;
    const own = { ...plan, bind: !hasNamespace, recursive: false };
    if (!hasNamespace) {
      writeMount(writer, config, own, at, 'bind', dir);
    } else {
      const data = isV2 ? [] : hierarchy.controllers;
      writeMount(writer, config, { ...own, data }, at, isV2 ? 'cgroup2' : 'cgroup', 'cgroup');
    }
  };
  const [first] = places;
  if (first !== undefined && places.every(({ hierarchy }) => hierarchy.version === 2)) {
    mountOne(first, target);
    return;
  }
  const frame = { ...plan, set: plan.set & ~MOUNT_ATTR.readOnly, data: ['mode=755'] };
  writeMount(writer, config, frame, target, 'tmpfs', 'tmpfs');
  for (const place of places) {
    const name = basename(place.hierarchy.path);
    mountOne(place, join(target, name));
    const { controllers } = place.hierarchy;
    if (place.hierarchy.version === 2 || controllers.length < 2) continue;
    for (const controller of controllers) {
      writer.add(TAG.symlink, name, join(target, controller));
    }
  }
  if ((plan.set & MOUNT_ATTR.readOnly) !== 0) later.push(target);
}

function addDevices(writer: SpecWriter, config: OciConfig): void {
  const isBound = config.mounts.some(
    ({ destination, type, options }) =>
      normalize(destination).replace(/\/$/, '') === '/dev' &&
      (type === 'bind' || options.includes('bind') || options.includes('rbind')),
  );
  // The host's own are there then; none are made among them.
  if (isBound) return;
  const asked = config.linux.devices.filter(({ path }) => path !== '/dev/ptmx');
  const named = new Set(asked.map(({ path }) => path));
  for (const { path, major, minor } of DEFAULT_DEVICES) {
    if (named.has(path)) continue;
    addDevice(writer, { path, type: 'c', major, minor, uid: 0, gid: 0 });
  }
  for (const device of asked) addDevice(writer, device);
  for (const { target, path } of DEFAULT_LINKS) writer.add(TAG.symlink, target, path);
}

function addDevice(writer: SpecWriter, device: OciDevice): void {
  const mode = (TYPE_BITS[device.type] ?? 0) | (device.fileMode ?? DEFAULT_DEVICE_MODE);
  const { major, minor, uid, gid, path } = device;
  writer.add(TAG.device, mode, major, minor, uid, gid, path);
}

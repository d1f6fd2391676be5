/**
 * Which devices a container sees and may use: Docker's own, those it asks for by the host's paths,
 * or, privileged, all the host has. Looks at the host's device files; makes none.
 */
import { lstatSync, readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { ANY, type DeviceRule, splitDevice } from '../sys/deviceRules.ts';
import { DEFAULT_DEVICE_RULES, DEFAULT_DEVICES } from './profile.ts';
import type { ContainerConfig, ContainerDevice } from './types.ts';

export interface DeviceNode {
  readonly path: string;
  /** With the type bits. */
  readonly mode: number;
  readonly major: number;
  readonly minor: number;
  readonly uid: number;
  readonly gid: number;
}

const CHARACTER_0666 = 0o020666;
const BLOCK_TYPE = 0o060000;
const TYPE_MASK = 0o170000;
/** Other file systems below /dev, and what every container has of its own. */
const NOT_COPIED = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev']);
const EVERYTHING: readonly DeviceRule[] = [
  { type: 'char', major: ANY, minor: ANY, access: 'rwm' },
  { type: 'block', major: ANY, minor: ANY, access: 'rwm' },
];
/** /dev is never this deep; a bound on what a damaged one can cost. */
const DEPTH_MAX = 8;

/** SwarmError invalid for a device this host does not have. */
export function containerDevices(config: ContainerConfig): {
  readonly nodes: readonly DeviceNode[];
  readonly rules: readonly DeviceRule[];
} {
  const own = DEFAULT_DEVICES.map(({ path, major, minor }): DeviceNode => {
    return { path, mode: CHARACTER_0666, major, minor, uid: 0, gid: 0 };
  });
  const asked = config.devices ?? [];
  const more = config.privileged === true ? [] : (config.deviceRules ?? []);
  if (config.privileged !== true && asked.length === 0) {
    return { nodes: own, rules: [...DEFAULT_DEVICE_RULES, ...more] };
  }
  const all = new Map(own.map((node) => [node.path, node]));
  const rules: DeviceRule[] = config.privileged === true ? [...EVERYTHING] : [];
  if (rules.length === 0) rules.push(...DEFAULT_DEVICE_RULES);
  const add = (node: DeviceNode): void => {
    if (!all.has(node.path)) all.set(node.path, node);
  };
  if (config.privileged === true) {
    for (const node of nodesBelow('/dev', '/dev', 0)) add(node);
  }
  for (const device of asked) {
    for (const node of nodesOf(device)) {
      all.set(node.path, node);
      if (config.privileged !== true) rules.push(ruleFor(node, device.permissions));
    }
  }
  return { nodes: [...all.values()], rules: [...rules, ...more] };
}

function nodesOf(device: ContainerDevice): readonly DeviceNode[] {
  if (!/^[rwm]{1,3}$/.test(device.permissions)) {
    throw new SwarmError('invalid', `invalid device mode "${device.permissions}": some of rwm`);
  }
  if (!device.containerPath.startsWith('/')) {
    throw new SwarmError('invalid', `device path "${device.containerPath}" is not absolute`);
  }
  const stat = statOrNone(device.hostPath);
  const nodes =
    stat?.isDirectory() === true
      ? nodesBelow(device.hostPath, device.containerPath, 0)
      : [toNode(stat, device.containerPath)].filter((node) => node !== undefined);
  if (nodes.length > 0) return nodes;
  throw new SwarmError(
    'invalid',
    `error gathering device information while adding custom device "${device.hostPath}": ` +
      (stat === undefined ? 'no such file or directory' : 'not a device node'),
  );
}

/** undefined for what cannot be there: a name that is too long, a path through a file. */
function statOrNone(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENAMETOOLONG' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw error;
  }
}

function ruleFor(node: DeviceNode, access: string): DeviceRule {
  const type = (node.mode & TYPE_MASK) === BLOCK_TYPE ? 'block' : 'char';
  return { type, major: node.major, minor: node.minor, access };
}

function nodesBelow(hostDir: string, containerDir: string, depth: number): readonly DeviceNode[] {
  const nodes: DeviceNode[] = [];
  for (const name of listOrNone(hostDir)) {
    if (depth === 0 && (NOT_COPIED.has(name) || name === 'console')) continue;
    const [hostPath, path] = [join(hostDir, name), join(containerDir, name)];
    const stat = lstatSync(hostPath, { throwIfNoEntry: false });
    if (stat?.isDirectory() === true && depth < DEPTH_MAX) {
      nodes.push(...nodesBelow(hostPath, path, depth + 1));
    } else {
      const node = toNode(stat, path);
      if (node !== undefined) nodes.push(node);
    }
  }
  return nodes;
}

function listOrNone(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // gone meanwhile: no devices in it
  }
}

function toNode(stat: Stats | undefined, path: string): DeviceNode | undefined {
  if (stat === undefined || !(stat.isCharacterDevice() || stat.isBlockDevice())) return undefined;
  const { major, minor } = splitDevice(stat.rdev);
  // 0:0 is overlayfs's sign for a removed file.
  if (major === 0 && minor === 0) return undefined;
  return { path, mode: stat.mode, major, minor, uid: stat.uid, gid: stat.gid };
}

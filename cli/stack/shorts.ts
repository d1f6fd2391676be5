/**
 * Compose's short syntaxes as their long forms: ports, volumes, tmpfs, ulimits, files of secrets
 * and configs, networks, dependencies, env files. Pure; relative host paths are made absolute
 * against the directory it is given.
 */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { parseBytes } from '../../base/bytes.ts';
import { messageOf } from '../../base/errors.ts';
import { parsePublish } from '../service/parse.ts';
import * as read from './read.ts';
import { type Notes, type Reader, wrong } from './read.ts';
import type {
  DependencyCondition,
  StackAttachment,
  StackFileUse,
  StackMount,
  StackPort,
  StackUlimit,
} from './types.ts';

const PORT_MAX = 65_535;

/** A number in 1-65535, or a range of them. */
function portRange(value: unknown, path: string, notes: Notes): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(read.text(value, path, notes));
  const from = Number(match?.[1]);
  const to = Number(match?.[2] ?? from);
  if (match === null || from < 1 || to > PORT_MAX || to < from) {
    throw wrong(path, `"${String(value)}" is no port in 1-${PORT_MAX}`);
  }
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

function longPort(value: unknown, path: string, notes: Notes): StackPort[] {
  let port: StackPort = { mode: 'ingress', target: 0, protocol: 'tcp' };
  for (const [key, item] of read.entries(value, path)) {
    const at = `${path}.${key}`;
    if (item === null) continue;
    if (key === 'target') port = { ...port, target: portRange(item, at, notes)[0] };
    else if (key === 'published') {
      if (String(item) !== '0') port = { ...port, published: portRange(item, at, notes)[0] };
    } else if (key === 'protocol') port = { ...port, protocol: read.text(item, at, notes) };
    else if (key === 'mode') {
      port = { ...port, mode: read.choice('ingress', 'host')(item, at, notes) };
    } else if (key === 'name') port = { ...port, name: read.text(item, at, notes) };
    else if (key === 'host_ip') port = { ...port, host_ip: read.text(item, at, notes) };
    else if (key === 'app_protocol') continue;
    else if (!key.startsWith('x-')) notes.push(`${at}: this key is not known`);
  }
  if (port.target === 0) throw wrong(`${path}.target`, 'it is missing');
  return [port];
}

function shortPort(text: string, path: string): StackPort[] {
  try {
    return parsePublish(text).map((port) => ({
      mode: 'ingress',
      target: port.TargetPort,
      ...(port.PublishedPort === undefined ? {} : { published: port.PublishedPort }),
      protocol: port.Protocol,
      ...(port.HostIP === undefined ? {} : { host_ip: port.HostIP }),
    }));
  } catch (error) {
    throw wrong(path, messageOf(error));
  }
}

export const ports: Reader<StackPort[]> = (value, path, notes) => {
  if (!Array.isArray(value)) throw wrong(path, 'ports are a list');
  return value.flatMap((item: unknown, at) =>
    typeof item === 'object' && item !== null
      ? longPort(item, `${path}[${at}]`, notes)
      : shortPort(read.text(item, `${path}[${at}]`, notes), `${path}[${at}]`),
  );
};

const PROPAGATIONS = ['rprivate', 'private', 'rshared', 'shared', 'rslave', 'slave'];

function isPath(source: string): boolean {
  return /^[./~]/.test(source);
}

function hostPath(source: string, directory: string): string {
  if (source === '~' || source.startsWith('~/')) return homedir() + source.slice(1);
  return isPath(source) ? resolve(directory, source) : source;
}

/** 'data:/data:ro', './x:/x', '/anonymous'. */
function shortVolume(text: string, path: string, notes: Notes, directory: string): StackMount {
  const [first, second, options, ...more] = text.split(':');
  if (more.length > 0 || first === '')
    throw wrong(path, `"${text}": write SOURCE:TARGET[:OPTIONS]`);
  if (second === undefined) {
    if (!first.startsWith('/'))
      throw wrong(path, `"${text}": a path in the container begins with /`);
    return { type: 'volume', target: first };
  }
  if (!second.startsWith('/'))
    throw wrong(path, `"${text}": a path in the container begins with /`);
  const type = isPath(first) ? 'bind' : 'volume';
  let mount: StackMount = { type, source: hostPath(first, directory), target: second };
  for (const word of (options ?? '').split(',').filter((item) => item !== '')) {
    if (word === 'ro') mount = { ...mount, read_only: true };
    else if (word === 'nocopy' && type === 'volume') mount = { ...mount, volume: { nocopy: true } };
    else if (PROPAGATIONS.includes(word) && type === 'bind') {
      mount = { ...mount, bind: { propagation: word } };
    } else if (word === 'z' || word === 'Z') {
      notes.push(`${path}: "${word}" relabels for SELinux, which is not done: leave it out`);
    } else if (!['rw', 'cached', 'delegated', 'consistent'].includes(word)) {
      throw wrong(path, `"${text}": the option "${word}" is not known`);
    }
  }
  return mount;
}

const longVolume = read.object<StackMount & { consistency?: string }>(
  {
    type: read.choice('volume', 'bind', 'tmpfs'),
    source: read.text,
    target: read.text,
    read_only: read.flag,
    consistency: read.text,
    bind: read.object(
      { propagation: read.choice(...PROPAGATIONS), create_host_path: read.flag },
      {
        selinux: 'relabelling for SELinux is not done: leave it out',
        recursive: 'mounts below a bind are always bound with it: leave it out',
      },
    ),
    volume: read.object({ nocopy: read.flag, subpath: read.text }),
    tmpfs: read.object({ size: read.bytes, mode: read.mode }),
  },
  {
    image: 'images are not mounted: put what is needed into a volume or the image itself',
    cluster: 'cluster volumes (CSI) are not supported: name a volume of a driver',
  },
);

export function volumes(directory: string): Reader<StackMount[]> {
  return (value, path, notes) => {
    if (!Array.isArray(value)) throw wrong(path, 'volumes are a list');
    return value.map((item: unknown, index): StackMount => {
      const at = `${path}[${index}]`;
      if (typeof item === 'string') return shortVolume(item, at, notes, directory);
      const { consistency: _, ...mount } = longVolume(item, at, notes);
      if (mount.type === undefined) throw wrong(`${at}.type`, 'it is missing');
      if (mount.target === undefined) throw wrong(`${at}.target`, 'it is missing');
      if (mount.type !== 'bind') return mount;
      if (mount.source === undefined) throw wrong(`${at}.source`, 'a bind needs one');
      return { ...mount, source: resolve(directory, hostPath(mount.source, directory)) };
    });
  };
}

/** '/run' or '/tmp:size=64m,mode=1777' -> a mount. */
export function tmpfsMount(text: string, path: string): StackMount {
  const [target, options = ''] = text.split(':', 2);
  const tmpfs: { size?: number; mode?: number } = {};
  let readOnly = false;
  for (const word of options.split(',').filter((item) => item !== '')) {
    const [name, value = ''] = word.split('=', 2);
    if (name === 'size') tmpfs.size = parseBytes(value);
    else if (name === 'mode') tmpfs.mode = Number.parseInt(value, 8);
    else if (name === 'ro') readOnly = true;
    else if (!['rw', 'noexec', 'nosuid', 'nodev'].includes(name)) {
      throw wrong(path, `"${text}": the option "${name}" is not supported: use size and mode`);
    }
  }
  return {
    type: 'tmpfs',
    target,
    ...(readOnly ? { read_only: true } : {}),
    ...(Object.keys(tmpfs).length === 0 ? {} : { tmpfs }),
  };
}

export const ulimit: Reader<StackUlimit> = (value, path, notes) => {
  if (typeof value === 'object') {
    const both = read.object<StackUlimit>({ soft: read.whole, hard: read.whole });
    const limit = both(value, path, notes);
    if (limit.soft === undefined || limit.hard === undefined) {
      throw wrong(path, 'both soft and hard are needed');
    }
    return limit;
  }
  const both = read.whole(value, path, notes);
  return { soft: both, hard: both };
};

const longFileUse = read.object<StackFileUse>({
  source: read.text,
  target: read.text,
  uid: read.text,
  gid: read.text,
  mode: read.mode,
});

/** Secrets or configs of a service: names, or objects. */
export const fileUses: Reader<StackFileUse[]> = (value, path, notes) => {
  if (!Array.isArray(value)) throw wrong(path, 'it must be a list');
  return value.map((item: unknown, index): StackFileUse => {
    const at = `${path}[${index}]`;
    if (typeof item === 'string') return { source: item };
    const use = longFileUse(item, at, notes);
    if (use.source === undefined) throw wrong(`${at}.source`, 'it is missing');
    return use;
  });
};

const attachment = read.object<StackAttachment>(
  {
    aliases: read.list(read.text),
    driver_opts: read.map(read.text),
    ipv4_address: read.text,
    ipv6_address: read.text,
  },
  {
    priority: 'the order of networks is fixed: leave it out',
    link_local_ips: 'link-local addresses are not supported: leave it out',
    mac_address: 'a task has a hardware address of its own: leave it out',
    gw_priority: 'the way out is chosen by the swarm: leave it out',
    interface_name: 'interfaces are named by the swarm: leave it out',
  },
);

export const networks: Reader<Record<string, StackAttachment | null>> = (value, path, notes) => {
  if (Array.isArray(value)) {
    return Object.fromEntries(
      read
        .list(read.text)(value, path, notes)
        .map((key) => [key, null]),
    );
  }
  return Object.fromEntries(
    read
      .entries(value, path)
      .map(([key, item]) => [
        key,
        item === null ? null : attachment(item, `${path}.${key}`, notes),
      ]),
  );
};

type Dependencies = Record<string, { condition: DependencyCondition }>;

export const dependencies: Reader<Dependencies> = (value, path, notes) => {
  const started = { condition: 'service_started' as const };
  if (Array.isArray(value)) {
    const names = read.list(read.text)(value, path, notes);
    return Object.fromEntries(names.map((key) => [key, started]));
  }
  const one = read.object<{ condition: DependencyCondition; required?: boolean }>(
    {
      condition: read.choice(
        'service_started',
        'service_healthy',
        'service_completed_successfully',
      ),
      required: read.flag,
    },
    { restart: 'services are not restarted with what they depend on: leave it out' },
  );
  const out: Dependencies = {};
  for (const [key, item] of read.entries(value, path)) {
    const { condition } = item === null ? started : one(item, `${path}.${key}`, notes);
    out[key] = { condition: condition ?? 'service_started' };
  }
  return out;
};

type EnvFile = { path: string; required?: boolean };

export const envFiles: Reader<EnvFile[]> = (value, path, notes) => {
  const one = read.object<EnvFile>(
    { path: read.text, required: read.flag },
    { format: 'every line is NAME=value: leave it out' },
  );
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  return items.map((item, at) => {
    if (typeof item === 'string') return { path: item };
    const file = one(item, `${path}[${at}]`, notes);
    if (file.path === undefined) throw wrong(`${path}[${at}].path`, 'it is missing');
    return file;
  });
};

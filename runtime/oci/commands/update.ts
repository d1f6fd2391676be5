/** update: other limits for a running container. What is not named stays as it is. */
import { readFileSync } from 'node:fs';
import { SwarmError } from '../../../base/errors.ts';
import type { Arguments, Flag } from '../arguments.ts';
import { firstWord, type OciCommand } from '../command.ts';
import { parseJson } from '../configRead.ts';
import type { OciContext } from '../context.ts';
import { Fields } from '../fields.ts';
import { readResources } from '../resourceRead.ts';
import type { StoredContainer } from '../store.ts';

const STANDARD_INPUT = 0;
const FLAGS: readonly Flag[] = [
  {
    name: 'resources',
    short: 'r',
    value: true,
    help: "path to the file containing the resources to update or '-' to read from standard input",
  },
  { name: 'blkio-weight', value: true, help: 'per cgroup weight, from 10 to 1000' },
  { name: 'cpu-period', value: true, help: 'CPU CFS period in us. 0 to use system default' },
  { name: 'cpu-quota', value: true, help: 'CPU CFS hardcap limit in us of a period' },
  { name: 'cpu-burst', value: true, help: 'CPU CFS burst limit in us' },
  { name: 'cpu-share', value: true, help: 'CPU shares (relative weight vs. other containers)' },
  { name: 'cpu-rt-period', value: true, help: 'CPU realtime period in us' },
  { name: 'cpu-rt-runtime', value: true, help: 'CPU realtime hardcap limit in us' },
  { name: 'cpu-idle', value: true, help: '1: only what nobody else wants' },
  { name: 'cpuset-cpus', value: true, help: 'CPU(s) to use' },
  { name: 'cpuset-mems', value: true, help: 'Memory node(s) to use' },
  { name: 'memory', value: true, help: 'Memory limit (in bytes)' },
  { name: 'memory-reservation', value: true, help: 'Memory reservation or soft_limit (in bytes)' },
  { name: 'memory-swap', value: true, help: "memory + swap (in bytes); '-1' for unlimited swap" },
  { name: 'pids-limit', value: true, help: 'Maximum number of pids allowed in the container' },
  { name: 'l3-cache-schema', value: true, help: 'Intel RDT/CAT: not supported' },
  { name: 'mem-bw-schema', value: true, help: 'Intel RDT/MBA: not supported' },
];

export const update: OciCommand = {
  name: 'update',
  summary: 'update container resource constraints',
  words: '<container-id>',
  description:
    'Note: if data is to be read from a file or the standard input, all\n' +
    'other options are ignored.',
  flags: FLAGS,
  least: 1,
  most: 1,
  run: (context, args) => {
    for (const name of ['l3-cache-schema', 'mem-bw-schema']) {
      if (args.has(name)) throw new SwarmError('unsupported', `--${name} is not supported`);
    }
    const container = context.store.load(firstWord(args));
    if (container.status === 'stopped') throw new SwarmError('conflict', 'container not running');
    const value = args.has('resources') ? fromFile(args.text('resources') ?? '') : fromFlags(args);
    const wanted = readResources(new Fields(value, 'resources'));
    for (const note of container.cgroups.update(wanted)) context.log.warn(note);
    remember(context, container, value);
    return 0;
  },
};

function fromFile(path: string): unknown {
  const text = readFileSync(path === '-' ? STANDARD_INPUT : path, 'utf8');
  return parseJson(text, path);
}

const UNITS: Readonly<Record<string, number>> = { b: 0, k: 10, m: 20, g: 30, t: 40, p: 50 };

/** '50M' -> bytes; -1 stays. */
function bytesOf(name: string, text: string): number {
  const match = /^(-?\d+(?:\.\d+)?) ?([bkmgtp]?)i?b?$/i.exec(text);
  if (match === null) throw new SwarmError('invalid', `invalid value for ${name}: "${text}"`);
  const shift = UNITS[(match[2] ?? '').toLowerCase()] ?? 0;
  return Math.floor(Number(match[1]) * 2 ** shift);
}

function fromFlags(args: Arguments): Record<string, unknown> {
  const number = (name: string): number | undefined => {
    const text = args.text(name);
    if (text === undefined) return undefined;
    if (/^-?\d+$/.test(text)) return Number(text);
    throw new SwarmError('invalid', `invalid value for ${name}: "${text}" is no whole number`);
  };
  const bytes = (name: string): number | undefined => {
    const text = args.text(name);
    return text === undefined ? undefined : bytesOf(name, text);
  };
  const pids = number('pids-limit');
  return {
    memory: {
      limit: bytes('memory'),
      reservation: bytes('memory-reservation'),
      swap: bytes('memory-swap'),
    },
    cpu: {
      shares: number('cpu-share'),
      quota: number('cpu-quota'),
      burst: number('cpu-burst'),
      period: number('cpu-period'),
      realtimeRuntime: number('cpu-rt-runtime'),
      realtimePeriod: number('cpu-rt-period'),
      idle: number('cpu-idle'),
      cpus: args.text('cpuset-cpus'),
      mems: args.text('cpuset-mems'),
    },
    blockIO: { weight: number('blkio-weight') },
    ...(pids !== undefined && { pids: { limit: pids } }),
  };
}

/** The next update starts from what this one left. */
function remember(context: OciContext, container: StoredContainer, value: unknown): void {
  const config = structuredClone(container.kept.config) as { linux?: Record<string, unknown> };
  config.linux ??= {};
  config.linux.resources = merged(config.linux.resources, value);
  context.store.write({ ...container.kept, config });
}

/** `over` where it says something. */
function merged(under: unknown, over: unknown): unknown {
  const isObject = (one: unknown): one is Record<string, unknown> =>
    typeof one === 'object' && one !== null && !Array.isArray(one);
  if (!isObject(over)) return over ?? under;
  const result: Record<string, unknown> = isObject(under) ? { ...under } : {};
  for (const [key, value] of Object.entries(over)) {
    if (value !== undefined && value !== null) result[key] = merged(result[key], value);
  }
  return result;
}

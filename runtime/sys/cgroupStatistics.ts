/**
 * All that the kernel counts of a container's groups, in the division that runc's `events --stats`
 * and its readers know, the same from v1, hybrid and v2. What this host does not count is 0 or not
 * listed; changes nothing.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupHierarchy } from './cgroup.ts';
import { readKeys, readLimit, readNumber, textOrEmpty } from './cgroupFiles.ts';
import { type CgroupUsage, readUsage } from './cgroupUsage.ts';

export interface Amount {
  readonly usage: number;
  /** The most there ever was. */
  readonly max: number;
  /** How often the limit was hit. */
  readonly failures: number;
  /** undefined: none. */
  readonly limit: number | undefined;
}

export interface BlockCount {
  readonly major: number;
  readonly minor: number;
  /** 'Read', 'Write', ... */
  readonly operation: string;
  readonly value: number;
}

export interface CgroupStatistics {
  readonly usage: CgroupUsage;
  readonly cpu: {
    readonly perCpuNs: readonly number[];
    readonly perCpuUserNs: readonly number[];
    readonly perCpuKernelNs: readonly number[];
    readonly cpus: readonly number[];
    readonly memoryNodes: readonly number[];
  };
  readonly memory: {
    readonly cacheBytes: number;
    readonly memory: Amount;
    /** With the memory, as v1 counts. */
    readonly swap: Amount;
    readonly kernel: Amount;
    readonly kernelTcp: Amount;
    /** memory.stat as it is. */
    readonly raw: ReadonlyMap<string, number>;
  };
  readonly block: { readonly bytes: readonly BlockCount[]; readonly count: readonly BlockCount[] };
  /** By size, e.g. '2MB'. */
  readonly hugePages: ReadonlyMap<string, Amount>;
}

type Group = { readonly hierarchy: CgroupHierarchy; readonly dir: string };
const NOTHING: Amount = { usage: 0, max: 0, failures: 0, limit: undefined };

/** `groups`: the container's group in every hierarchy. */
export function readStatistics(groups: readonly Group[]): CgroupStatistics {
  const of = (...controllers: string[]): Group | undefined =>
    groups.find(({ hierarchy }) =>
      controllers.some((controller) => hierarchy.controllers.includes(controller)),
    );
  const huge = of('hugetlb');
  return {
    usage: readUsage(groups),
    cpu: { ...perCpu(of('cpuacct')), ...sets(of('cpuset')) },
    memory: memoryOf(of('memory')),
    block: blockOf(of('blkio', 'io')),
    hugePages: huge === undefined ? new Map() : hugePagesOf(huge),
  };
}

/** Only v1 counts by processor. */
function perCpu(group: Group | undefined): {
  readonly perCpuNs: readonly number[];
  readonly perCpuUserNs: readonly number[];
  readonly perCpuKernelNs: readonly number[];
} {
  if (group === undefined) return { perCpuNs: [], perCpuUserNs: [], perCpuKernelNs: [] };
  const rows = textOrEmpty(join(group.dir, 'cpuacct.usage_all'))
    .split('\n')
    .slice(1)
    .filter(Boolean)
    .map((line) => line.split(' ').map(Number));
  return {
    perCpuNs: textOrEmpty(join(group.dir, 'cpuacct.usage_percpu'))
      .split(/\s+/)
      .filter(Boolean)
      .map(Number),
    perCpuUserNs: rows.map(([, user]) => user),
    perCpuKernelNs: rows.map(([, , kernel]) => kernel),
  };
}

function sets(group: Group | undefined): {
  readonly cpus: readonly number[];
  readonly memoryNodes: readonly number[];
} {
  const list = (name: string): readonly number[] => {
    if (group === undefined) return [];
    const own = textOrEmpty(join(group.dir, name));
    return parseList(own.trim() === '' ? textOrEmpty(join(group.dir, `${name}.effective`)) : own);
  };
  return { cpus: list('cpuset.cpus'), memoryNodes: list('cpuset.mems') };
}

/** More than any kernel has of processors or memory nodes. */
const LIST_MAX = 65_536;

/** '0-2,4' -> [0, 1, 2, 4]. */
export function parseList(text: string): readonly number[] {
  const numbers: number[] = [];
  for (const part of text.trim().split(',').filter(Boolean)) {
    const [first, last = first] = part.split('-').map(Number);
    for (let number = first; number <= last && numbers.length < LIST_MAX; number += 1) {
      numbers.push(number);
    }
  }
  return numbers;
}

function memoryOf(group: Group | undefined): CgroupStatistics['memory'] {
  if (group === undefined) {
    const none = { memory: NOTHING, swap: NOTHING, kernel: NOTHING, kernelTcp: NOTHING };
    return { cacheBytes: 0, ...none, raw: new Map() };
  }
  const { dir, hierarchy } = group;
  const raw = readKeys(join(dir, 'memory.stat'));
  if (hierarchy.version === 1) {
    const amount = (part: string): Amount => amountV1(dir, `memory.${part}`);
    return {
      cacheBytes: raw.get('cache') ?? 0,
      memory: amount(''),
      swap: amount('memsw.'),
      kernel: amount('kmem.'),
      kernelTcp: amount('kmem.tcp.'),
      raw,
    };
  }
  const events = readKeys(join(dir, 'memory.events'));
  const memory: Amount = {
    usage: readNumber(join(dir, 'memory.current')),
    max: readNumber(join(dir, 'memory.peak')),
    failures: events.get('max') ?? 0,
    limit: readLimit(join(dir, 'memory.max')),
  };
  const swapLimit = readLimit(join(dir, 'memory.swap.max'));
  return {
    cacheBytes: raw.get('file') ?? 0,
    memory,
    swap: {
      usage: memory.usage + readNumber(join(dir, 'memory.swap.current')),
      max: memory.max + readNumber(join(dir, 'memory.swap.peak')),
      failures: readKeys(join(dir, 'memory.swap.events')).get('max') ?? 0,
      limit:
        memory.limit === undefined || swapLimit === undefined
          ? undefined
          : memory.limit + swapLimit,
    },
    kernel: { ...NOTHING, usage: raw.get('kernel') ?? 0 },
    kernelTcp: { ...NOTHING, usage: raw.get('sock') ?? 0 },
    raw,
  };
}

/** `prefix`: with its dot, e.g. 'hugetlb.2MB.'. */
function amountV1(dir: string, prefix: string): Amount {
  return {
    usage: readNumber(join(dir, `${prefix}usage_in_bytes`)),
    max: readNumber(join(dir, `${prefix}max_usage_in_bytes`)),
    failures: readNumber(join(dir, `${prefix}failcnt`)),
    limit: readLimit(join(dir, `${prefix}limit_in_bytes`)),
  };
}

/** Which of these counts depends on the devices' schedulers. */
const BLOCK_V1 = ['blkio.bfq.', 'blkio.throttle.'];

function blockOf(group: Group | undefined): CgroupStatistics['block'] {
  if (group === undefined) return { bytes: [], count: [] };
  if (group.hierarchy.version === 2) {
    const text = textOrEmpty(join(group.dir, 'io.stat'));
    return {
      bytes: blockV2(text, { rbytes: 'Read', wbytes: 'Write', dbytes: 'Discard' }),
      count: blockV2(text, { rios: 'Read', wios: 'Write', dios: 'Discard' }),
    };
  }
  const read = (name: string): readonly BlockCount[] => {
    for (const prefix of BLOCK_V1) {
      const counts = blockV1(textOrEmpty(join(group.dir, `${prefix}${name}`)));
      if (counts.length > 0) return counts;
    }
    return [];
  };
  return { bytes: read('io_service_bytes_recursive'), count: read('io_serviced_recursive') };
}

/** Lines of "major:minor operation value". */
function blockV1(text: string): readonly BlockCount[] {
  return [...text.matchAll(/^(\d+):(\d+) (\w+) (\d+)$/gm)].map(
    ([, major, minor, operation, value]) => {
      return { major: Number(major), minor: Number(minor), operation, value: Number(value) };
    },
  );
}

/** Lines of "major:minor rbytes=n wbytes=n ...". */
function blockV2(
  text: string,
  operations: Readonly<Record<string, string>>,
): readonly BlockCount[] {
  const counts: BlockCount[] = [];
  for (const line of text.split('\n')) {
    const [device, ...figures] = line.split(' ');
    const [major, minor] = device.split(':').map(Number);
    for (const figure of figures) {
      const [key, value] = figure.split('=');
      const operation = operations[key];
      if (operation !== undefined) counts.push({ major, minor, operation, value: Number(value) });
    }
  }
  return counts;
}

function hugePagesOf({ dir, hierarchy }: Group): ReadonlyMap<string, Amount> {
  const sizes = new Map<string, Amount>();
  for (const name of readdirSync(dir)) {
    const size = /^hugetlb\.(\w+)\.(usage_in_bytes|current)$/.exec(name)?.[1];
    if (size === undefined) continue;
    const prefix = `hugetlb.${size}.`;
    sizes.set(
      size,
      hierarchy.version === 1
        ? amountV1(dir, prefix)
        : {
            usage: readNumber(join(dir, `${prefix}current`)),
            max: 0,
            failures: readKeys(join(dir, `${prefix}events`)).get('max') ?? 0,
            limit: readLimit(join(dir, `${prefix}max`)),
          },
    );
  }
  return sizes;
}

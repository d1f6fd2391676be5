/**
 * From linux.resources to the values of control group files, for one hierarchy (v1 or v2), with
 * the specification's meaning of each number. Reads what must be known of the parent; writes
 * nothing.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from '../sys/cgroup.ts';
import { readText } from '../sys/cgroupFiles.ts';
import { type CgroupWrite, cpuWeight } from '../sys/cgroupLimits.ts';
import { deviceProgram } from '../sys/deviceRules.ts';
import type { OciConfig } from './config.ts';
import { allowedRules, deviceLines } from './deviceRules.ts';
import type { OciResources } from './resourceTypes.ts';

const CPU_PERIOD_US = 100_000;
const BLKIO_MIN = 10;
const BLKIO_MAX = 1000;
const WEIGHT_MAX = 10_000;

interface Writes {
  readonly writes: readonly CgroupWrite[];
  readonly deviceProgram?: Uint8Array;
}

/** `dir`: ours in `hierarchy`. SwarmError invalid for what cannot be. */
export function resourceWrites(
  hierarchy: CgroupHierarchy,
  dir: string,
  config: OciConfig,
  devicesByV1: boolean,
): Writes {
  const { resources } = config.linux;
  if (hierarchy.version === 1) {
    return { writes: [...v1Writes(hierarchy, dir, resources), ...v1Devices(hierarchy, config)] };
  }
  const writes = v2Writes(hierarchy, resources);
  if (devicesByV1) {
    if (Object.keys(resources.unified).length > 0 && writes.every(isOfHugetlb)) {
      throw new SwarmError(
        'invalid',
        'invalid configuration: linux.resources.unified needs cgroup v2',
      );
    }
    return { writes };
  }
  return { writes, deviceProgram: deviceProgram(allowedRules(config)) };
}

function isOfHugetlb({ file }: CgroupWrite): boolean {
  return file.startsWith('hugetlb.');
}

function v1Devices(hierarchy: CgroupHierarchy, config: OciConfig): readonly CgroupWrite[] {
  return hierarchy.controllers.includes('devices') ? deviceLines(config) : [];
}

class Writer {
  readonly writes: CgroupWrite[] = [];

  add(file: string, value: string | number | undefined, optional = false): void {
    if (value !== undefined) this.writes.push({ file, value: String(value), optional });
  }
}

/** Only the limits, for `update` too. */
export function v1Writes(
  hierarchy: CgroupHierarchy,
  dir: string,
  resources: OciResources,
): readonly CgroupWrite[] {
  const out = new Writer();
  const has = (controller: string): boolean => hierarchy.controllers.includes(controller);
  if (has('cpuset')) {
    const parent = dirname(dir);
    const own = (file: string): string | undefined =>
      existsSync(join(dir, file)) ? undefined : readText(join(parent, file));
    out.add('cpuset.cpus', resources.cpu?.cpus || own('cpuset.cpus'));
    out.add('cpuset.mems', resources.cpu?.mems || own('cpuset.mems'));
  }
  if (has('memory')) v1Memory(out, dir, resources);
  if (has('cpu')) v1Cpu(out, resources);
  if (has('pids')) out.add('pids.max', pidsMax(resources));
  if (has('blkio')) v1Blocks(out, resources);
  if (has('hugetlb')) {
    for (const { pageSize, limit } of resources.hugepageLimits) {
      out.add(`hugetlb.${pageSize}.limit_in_bytes`, limit);
    }
  }
  if (has('net_cls')) out.add('net_cls.classid', resources.network?.classID);
  if (has('net_prio')) {
    for (const { name, priority } of resources.network?.priorities ?? []) {
      out.add('net_prio.ifpriomap', `${name} ${priority}`);
    }
  }
  return out.writes;
}

/** 0 counts as not given, as other runtimes have it. */
function given(value: number | undefined): number | undefined {
  return value === 0 ? undefined : value;
}

function v1Memory(out: Writer, dir: string, { memory }: OciResources): void {
  if (memory === undefined) return;
  const limit = given(memory.limit);
  // No limit of memory means none of memory and swap, unless one is given.
  const swap = given(memory.swap) ?? (limit === -1 ? -1 : undefined);
  const hasSwap = existsSync(join(dirname(dir), 'memory.memsw.limit_in_bytes'));
  if (swap !== undefined && swap !== -1 && limit !== undefined && swap < limit) {
    throw new SwarmError('invalid', 'linux.resources.memory.swap is below limit');
  }
  out.add('memory.limit_in_bytes', limit);
  if (hasSwap || (swap !== undefined && swap !== -1)) {
    out.add('memory.memsw.limit_in_bytes', swap);
  }
  out.add('memory.soft_limit_in_bytes', given(memory.reservation));
  if (memory.swappiness !== undefined) out.add('memory.swappiness', memory.swappiness);
  if (memory.disableOOMKiller === true) out.add('memory.oom_control', 1);
}

function v1Cpu(out: Writer, { cpu }: OciResources): void {
  if (cpu === undefined) return;
  out.add('cpu.shares', given(cpu.shares));
  out.add('cpu.rt_period_us', given(cpu.realtimePeriod));
  out.add('cpu.rt_runtime_us', given(cpu.realtimeRuntime));
  out.add('cpu.cfs_period_us', given(cpu.period));
  out.add('cpu.cfs_quota_us', given(cpu.quota));
  out.add('cpu.cfs_burst_us', cpu.burst);
  out.add('cpu.idle', cpu.idle);
}

function v1Blocks(out: Writer, { blockIO }: OciResources): void {
  if (blockIO === undefined) return;
  if (given(blockIO.weight) !== undefined) {
    out.add('blkio.weight', blockIO.weight, true);
    out.add('blkio.bfq.weight', blockIO.weight, true);
  }
  for (const { major, minor, weight } of blockIO.weightDevice) {
    if (weight === undefined) continue;
    out.add('blkio.weight_device', `${major}:${minor} ${weight}`, true);
    out.add('blkio.bfq.weight_device', `${major}:${minor} ${weight}`, true);
  }
  const files = {
    throttleReadBpsDevice: 'blkio.throttle.read_bps_device',
    throttleWriteBpsDevice: 'blkio.throttle.write_bps_device',
    throttleReadIOPSDevice: 'blkio.throttle.read_iops_device',
    throttleWriteIOPSDevice: 'blkio.throttle.write_iops_device',
  } as const;
  for (const [name, file] of Object.entries(files)) {
    for (const { major, minor, rate } of blockIO.throttles[name as keyof typeof files]) {
      out.add(file, `${major}:${minor} ${rate}`);
    }
  }
}

function pidsMax({ pids }: OciResources): string | undefined {
  if (pids === undefined || pids.limit === 0) return undefined;
  return pids.limit < 0 ? 'max' : String(pids.limit);
}

export function v2Writes(
  hierarchy: CgroupHierarchy,
  resources: OciResources,
): readonly CgroupWrite[] {
  const out = new Writer();
  const has = (controller: string): boolean => hierarchy.controllers.includes(controller);
  if (has('cpuset')) {
    out.add('cpuset.cpus', resources.cpu?.cpus || undefined);
    out.add('cpuset.mems', resources.cpu?.mems || undefined);
  }
  if (has('memory')) v2Memory(out, resources);
  if (has('cpu')) v2Cpu(out, resources);
  if (has('pids')) out.add('pids.max', pidsMax(resources));
  if (has('io')) v2Blocks(out, resources);
  if (has('hugetlb')) {
    for (const { pageSize, limit } of resources.hugepageLimits) {
      out.add(`hugetlb.${pageSize}.max`, limit);
      out.add(`hugetlb.${pageSize}.rsvd.max`, limit, true);
    }
  }
  if (has('rdma')) {
    for (const [device, { hcaHandles, hcaObjects }] of resources.rdma) {
      const handles = hcaHandles === undefined ? '' : ` hca_handle=${hcaHandles}`;
      const objects = hcaObjects === undefined ? '' : ` hca_object=${hcaObjects}`;
      out.add('rdma.max', `${device}${handles}${objects}`);
    }
  }
  for (const [key, value] of Object.entries(resources.unified)) {
    if (!/^[a-z0-9_]+\.[A-Za-z0-9_.]+$/.test(key)) {
      throw new SwarmError(
        'invalid',
        `linux.resources.unified: the specified key has not the form CONTROLLER.VALUE \`${key}\``,
      );
    }
    const [controller] = key.split('.');
    if (controller !== 'cgroup' && !has(controller ?? '')) {
      throw new SwarmError(
        'invalid',
        `invalid configuration: the requested cgroup controller \`${controller}\` is not ` +
          'available in cgroup v2 here',
      );
    }
    out.add(key, value);
  }
  return out.writes;
}

function v2Memory(out: Writer, { memory }: OciResources): void {
  if (memory === undefined) return;
  const value = (bytes: number): string => (bytes === -1 ? 'max' : String(bytes));
  const [limit, swap] = [given(memory.limit), memory.swap];
  if (swap !== undefined && swap > 0) {
    if (limit === undefined || limit === -1) {
      throw new SwarmError('invalid', 'linux.resources.memory.swap needs a limit of memory');
    }
    if (swap < limit) {
      throw new SwarmError('invalid', 'linux.resources.memory.swap is below limit');
    }
    out.add('memory.swap.max', swap - limit, swap === limit);
  } else if (swap === -1 || limit === -1) {
    out.add('memory.swap.max', 'max', true);
  }
  if (limit !== undefined) out.add('memory.max', value(limit));
  const low = given(memory.reservation);
  if (low !== undefined) out.add('memory.low', value(low));
}

function v2Cpu(out: Writer, { cpu }: OciResources): void {
  if (cpu === undefined) return;
  const shares = given(cpu.shares);
  if (shares !== undefined) out.add('cpu.weight', cpuWeight(shares));
  out.add('cpu.idle', cpu.idle);
  const [quota, period] = [given(cpu.quota), given(cpu.period)];
  if (quota !== undefined || period !== undefined) {
    const text = quota === undefined || quota < 0 ? 'max' : String(quota);
    out.add('cpu.max', `${text} ${period ?? CPU_PERIOD_US}`);
  }
  out.add('cpu.max.burst', cpu.burst);
}

function v2Blocks(out: Writer, { blockIO }: OciResources): void {
  if (blockIO === undefined) return;
  const weight = given(blockIO.weight);
  if (weight !== undefined) {
    out.add('io.bfq.weight', weight, true);
    const span = (weight - BLKIO_MIN) * (WEIGHT_MAX - 1);
    out.add('io.weight', 1 + Math.floor(span / (BLKIO_MAX - BLKIO_MIN)), true);
  }
  for (const entry of blockIO.weightDevice) {
    if (entry.weight === undefined) continue;
    out.add('io.bfq.weight', `${entry.major}:${entry.minor} ${entry.weight}`, true);
  }
  const keys = {
    throttleReadBpsDevice: 'rbps',
    throttleWriteBpsDevice: 'wbps',
    throttleReadIOPSDevice: 'riops',
    throttleWriteIOPSDevice: 'wiops',
  } as const;
  for (const [name, key] of Object.entries(keys)) {
    for (const { major, minor, rate } of blockIO.throttles[name as keyof typeof keys]) {
      out.add('io.max', `${major}:${minor} ${key}=${rate}`);
    }
  }
}

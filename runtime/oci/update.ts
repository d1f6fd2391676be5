/**
 * Writes changed limits to a running container's groups. Where the kernel takes two values only in
 * one order (memory and memory+swap, period and quota), the other order is tried when the first
 * fails.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from '../sys/cgroup.ts';
import { readText } from '../sys/cgroupFiles.ts';
import type { CgroupWrite } from '../sys/cgroupLimits.ts';
import { v1Writes, v2Writes } from './resources.ts';
import type { OciResources } from './resourceTypes.ts';
import type { StoredContainer } from './store.ts';

/** Which must not be passed by which. */
const PAIRS = [
  ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'],
  ['cpu.cfs_period_us', 'cpu.cfs_quota_us'],
  ['cpu.rt_period_us', 'cpu.rt_runtime_us'],
] as const;

/** SwarmError invalid for what the kernel does not take. */
export function applyResources(container: StoredContainer, wanted: OciResources): void {
  for (const { hierarchy, dir } of container.cgroups.dirs()) {
    if (!existsSync(dir)) continue;
    const writes = writesFor(hierarchy, dir, wanted, container);
    const late: CgroupWrite[] = [];
    for (const write of writes) {
      const isPaired = PAIRS.some((pair) => (pair as readonly string[]).includes(write.file));
      if (isPaired && !tryWrite(dir, write)) late.push(write);
      else if (!isPaired) writeLimit(dir, write);
    }
    for (const write of late) writeLimit(dir, write);
  }
}

function writesFor(
  hierarchy: CgroupHierarchy,
  dir: string,
  wanted: OciResources,
  { config }: StoredContainer,
): readonly CgroupWrite[] {
  if (hierarchy.version === 1) return v1Writes(hierarchy, dir, wanted);
  // v2 counts swap apart and writes quota and period at once: what is not named is as it was.
  const before = config.linux.resources;
  const { memory, cpu } = wanted;
  return v2Writes(hierarchy, {
    ...wanted,
    ...(memory !== undefined && {
      memory: { ...memory, limit: memory.limit ?? before.memory?.limit },
    }),
    ...(cpu !== undefined && {
      cpu: {
        ...cpu,
        ...((cpu.quota !== undefined || cpu.period !== undefined) && {
          quota: cpu.quota ?? before.cpu?.quota,
          period: cpu.period ?? before.cpu?.period,
        }),
      },
    }),
  });
}

function tryWrite(dir: string, { file, value }: CgroupWrite): boolean {
  try {
    writeFileSync(join(dir, file), value);
    return true;
  } catch {
    return false; // tried again after its partner, where the failure counts
  }
}

function writeLimit(dir: string, { file, value, optional }: CgroupWrite): void {
  try {
    writeFileSync(join(dir, file), value);
  } catch (error) {
    const usage = join(dir, 'memory.usage_in_bytes');
    const used = existsSync(usage) ? `; now used: ${readText(usage)}` : '';
    if (optional) return;
    throw new SwarmError(
      'invalid',
      `cannot set ${file} to ${value}: ${messageOf(error)}${file.startsWith('memory') ? used : ''}`,
      { cause: error },
    );
  }
}

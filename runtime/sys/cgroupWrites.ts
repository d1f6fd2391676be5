/**
 * What is written to a group of one hierarchy so that it has certain resources: which file takes
 * which value, in an order in which the kernel takes them one after the other, whether the group is
 * new or in use. A new group's are written by the launcher, those of one in use here.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from './cgroup.ts';
import { readText } from './cgroupFiles.ts';
import { type GroupView, type Task, wholeText } from './cgroupLimits.ts';
import { v1Writes } from './cgroupV1.ts';
import { v2Writes } from './cgroupV2.ts';
import type { Resources } from './resources.ts';

export interface CgroupWrite {
  readonly file: string;
  /** '' with `isInherited`: what the same file says in the group above when it is written. */
  readonly value: string;
  readonly isInherited?: true;
}

export function resourceWrites(
  hierarchy: CgroupHierarchy,
  resources: Resources,
  view: GroupView,
  { refuse, note }: Pick<Task, 'refuse' | 'note'>,
): readonly CgroupWrite[] {
  const writes: CgroupWrite[] = [];
  const task: Task = {
    resources,
    view,
    has: (controller) => hierarchy.controllers.includes(controller),
    write: (file, value) => {
      if (value === undefined) return;
      writes.push({ file, value: typeof value === 'number' ? wholeText(value) : value });
    },
    inherit: (file) => writes.push({ file, value: '', isInherited: true }),
    refuse,
    note,
  };
  if (hierarchy.version === 1) v1Writes(task);
  else v2Writes(task);
  return writes;
}

/** Of the group at `dir`, or, while it is not made, as far as the group above it can tell. */
export function viewGroup(dir: string, isThere = existsSync(dir)): GroupView {
  const above = dirname(dir);
  return {
    has: (file) => existsSync(join(isThere ? dir : above, file)),
    read: (file) => (isThere ? textOrNone(join(dir, file)) : undefined),
    inherited: (file) => readText(join(above, file)),
  };
}

function textOrNone(path: string): string | undefined {
  try {
    return readText(path);
  } catch {
    return undefined; // not on this kernel
  }
}

/**
 * Writes to a group in use. What the kernel does not take is SwarmError invalid with its reason,
 * and what had been written before it is taken back.
 */
export function applyWrites(dir: string, writes: readonly CgroupWrite[]): void {
  const before: CgroupWrite[] = [];
  for (const { file, value } of writes) {
    const old = textOrNone(join(dir, file));
    try {
      writeFileSync(join(dir, file), value);
    } catch (error) {
      for (const one of before.reverse()) writeQuietly(dir, one);
      throw new SwarmError('invalid', `cannot set ${file} to ${value}: ${reasonOf(dir, error)}`, {
        cause: error,
      });
    }
    // A list is not written as it is read.
    if (old !== undefined && /^[\w -]+$/.test(old)) before.push({ file, value: old });
  }
}

function reasonOf(dir: string, error: unknown): string {
  const inUse = textOrNone(join(dir, 'memory.usage_in_bytes'));
  if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || inUse === undefined) {
    return messageOf(error);
  }
  const peak = textOrNone(join(dir, 'memory.max_usage_in_bytes'));
  return `${inUse} bytes are in use and cannot be freed (at most it was ${peak})`;
}

function writeQuietly(dir: string, { file, value }: CgroupWrite): void {
  try {
    writeFileSync(join(dir, file), value);
  } catch {
    // the failure that led here is the one to be told
  }
}

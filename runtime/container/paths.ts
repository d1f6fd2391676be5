/** Where a container's files are. Names only; makes nothing. */
import { join } from 'node:path';
import { NAMED_PARENTS } from '../sys/cgroup.ts';
import type { ContainerConfig } from './types.ts';

export interface ContainerPaths {
  /** Configuration, writable layer, logs. */
  readonly dataDir: string;
  /** Socket, pid, exit record. */
  readonly execDir: string;
}

export const LOG_DIR = 'logs';
export const UPPER_DIR = 'upper';
export const WORK_DIR = 'work';

export function containerPaths(dataRoot: string, execRoot: string, id: string): ContainerPaths {
  return {
    dataDir: join(dataRoot, 'containers', id),
    execDir: join(execRoot, 'containers', id),
  };
}

/** Of its control groups, relative to the daemon's. */
export function groupPath({ id, cgroupParent }: ContainerConfig): string {
  return cgroupParent === undefined ? id : join(NAMED_PARENTS, cgroupParent, id);
}

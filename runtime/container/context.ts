/** What all containers of a table share; made by the table, changed by nobody. */
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Cgroups } from '../sys/cgroup.ts';
import type { Joined } from './loans.ts';
import type { Nursery } from './nursery.ts';
import type { SharedMemory } from './sharedMemory.ts';
import type { Container } from './types.ts';

export interface ContainerContext {
  readonly clock: Clock;
  readonly log: Log;
  readonly cgroups: Cgroups;
  /** The shim's sealed executable. */
  readonly shimFd: number;
  readonly nullFd: number;
  readonly nursery: Nursery;
  readonly sharedMemory: SharedMemory;
  find(containerId: string): Joined | undefined;
  onStart(container: Container): void;
  onExit(container: Container): void;
  onRemoved(container: Container): void;
}

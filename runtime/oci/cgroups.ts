/**
 * The control groups of one OCI container: in every hierarchy that is mounted, at its
 * `cgroupsPath`. What limits mean and how groups are made is runtime/sys/cgroup.ts's; here is where
 * they are, and waiting until the kernel has done what it was asked.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { DEFAULT_DEVICE_RULES } from '../container/profile.ts';
import {
  type CgroupHierarchy,
  type CgroupPlan,
  Cgroups,
  findHierarchies,
  type MadeGroups,
} from '../sys/cgroup.ts';
import { allowed } from '../sys/deviceRules.ts';
import { readMounts } from '../sys/mount.ts';
import type { DeviceAccess, Resources } from '../sys/resources.ts';
import type { OciConfig } from './config.ts';

const DEFAULT_PARENT = 'tsswarm-oci';
const POLL_MS = 5;
/** For the kernel to stop, end or let go what it was asked to. */
const WAIT_MS = 10_000;
const SIGKILL = 9;

/** Every hierarchy, the v2 one first. */
export function allHierarchies(): readonly CgroupHierarchy[] {
  return findHierarchies(readMounts(), undefined, true);
}

/** Where container `id` belongs, below each hierarchy. */
export function cgroupPath(config: OciConfig, id: string): string {
  const wanted = config.linux.cgroupsPath;
  if (wanted.split('/').includes('..')) {
    throw new SwarmError('invalid', `linux.cgroupsPath: "${wanted}" leads elsewhere`);
  }
  if (wanted.startsWith('/')) return wanted;
  return `/${DEFAULT_PARENT}/${wanted === '' ? id : wanted}`;
}

/** With the devices that every container may use. */
function withDefaults(resources: Resources): Resources {
  const own: readonly DeviceAccess[] = DEFAULT_DEVICE_RULES.map(allowed);
  return { ...resources, devices: [...(resources.devices ?? []), ...own] };
}

export class OciCgroups {
  readonly path: string;
  readonly #all: Cgroups;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#all = new Cgroups(allHierarchies(), DEFAULT_PARENT);
    this.path = path;
    this.#clock = clock;
  }

  get hierarchies(): readonly CgroupHierarchy[] {
    return this.#all.hierarchies;
  }

  /** Ours in each hierarchy, whether it is there or not. */
  dirs(): readonly { readonly hierarchy: CgroupHierarchy; readonly dir: string }[] {
    return this.hierarchies.map((hierarchy) => ({
      hierarchy,
      dir: join(hierarchy.path, this.path),
    }));
  }

  /** Makes them with those above: which were not there, and what there is to say about it. */
  make(resources: Resources): MadeGroups {
    return this.#all.make(this.path, resources);
  }

  plan(resources: Resources): CgroupPlan {
    return this.#all.plan(this.path, withDefaults(resources), { isStrict: true });
  }

  update(resources: Resources): readonly string[] {
    const named = (resources.devices ?? []).length > 0;
    return this.#all.update(this.path, named ? withDefaults(resources) : resources, true);
  }

  delegate(uid: number): void {
    this.#all.delegate(this.path, uid);
  }

  get exists(): boolean {
    return this.dirs().some(({ dir }) => existsSync(dir));
  }

  pids(): readonly number[] {
    return [...this.#all.pids(this.path)].sort((left, right) => left - right);
  }

  isFrozen(): boolean {
    return this.exists && this.#all.isFrozen(this.path);
  }

  oomKills(): number {
    return this.exists ? this.#all.oomKills(this.path) : 0;
  }

  /** Returns once every process has stopped, or may go on. */
  async freeze(frozen: boolean): Promise<void> {
    if (!this.#all.setFrozen(this.path, frozen)) {
      throw new SwarmError('unsupported', 'this host has no cgroup freezer');
    }
    await this.#until(() => this.isFrozen() === frozen, frozen ? 'pause it' : 'resume it');
  }

  /** To every process, also of groups that the container made. */
  signal(signal: number): void {
    if (signal === SIGKILL) {
      this.#all.kill(this.path);
      return;
    }
    for (const pid of this.pids()) signalQuietly(pid, signal);
  }

  /**
   * Takes process `pid` back from a frozen v1 group that others put it in: there it would not die.
   */
  takeBack(pid: number): void {
    const freezer = this.dirs().find(
      ({ hierarchy }) => hierarchy.version === 1 && hierarchy.controllers.includes('freezer'),
    );
    if (freezer === undefined) return;
    try {
      writeFileSync(join(freezer.dir, 'cgroup.procs'), String(pid));
    } catch {
      // it has ended meanwhile
    }
  }

  /** Kills until nothing is left. */
  async killAll(): Promise<void> {
    await this.#until(() => {
      if (this.pids().length === 0) return true;
      this.signal(SIGKILL);
      return false;
    }, 'end every process of the container');
  }

  /** With what the container made in them; then what `make` made above, if nobody else uses it. */
  async remove(made: readonly string[]): Promise<void> {
    await this.#until(() => this.#all.remove(this.path), 'remove the control groups');
    this.#all.removeMade(made);
    this.#all.removeMade(this.hierarchies.map(({ path }) => join(path, DEFAULT_PARENT)));
  }

  async #until(isDone: () => boolean, what: string): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + WAIT_MS;
    while (!isDone()) {
      if (this.#clock.nowMs() > deadlineMs) {
        throw new SwarmError('timeout', `cannot ${what}: it takes too long`);
      }
      await this.#clock.sleep(POLL_MS);
    }
  }
}

function signalQuietly(pid: number, signal: number): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone meanwhile
  }
}

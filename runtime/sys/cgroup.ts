/**
 * The host's control groups: which hierarchies there are (v1, hybrid, v2), our own subtree in each,
 * and what limits mean there. Works out what to write; the shim writes it. Containers live in
 * `<parent>/<id>` and shims in `<parent>/shims`, at the top and never below the daemon's own group.
 * On a hybrid host limits are v1's, while kill and freeze go through the v2 mount.
 *
 * A container's group is named by a path: relative ones (an id is one) lie in the parent, absolute
 * ones start at the mount, as OCI's cgroupsPath does.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { readKey, readText, readWords } from './cgroupFiles.ts';
import { checkResources, normalise, refuseMissing, type Task } from './cgroupLimits.ts';
import { type CgroupStatistics, readStatistics } from './cgroupStatistics.ts';
import {
  delegateGroup,
  groupPids,
  listGroups,
  makeGroups,
  passDown,
  removeGroup,
  removeOne,
} from './cgroupTree.ts';
import { type CgroupUsage, readUsage } from './cgroupUsage.ts';
import { applyWrites, type CgroupWrite, resourceWrites, viewGroup } from './cgroupWrites.ts';
import { replaceDeviceProgram } from './deviceProgram.ts';
import { deviceChanges, deviceLines, deviceProgram } from './deviceRules.ts';
import type { MountEntry } from './mount.ts';
import type { DeviceAccess, Resources } from './resources.ts';

export interface CgroupHierarchy {
  readonly version: 1 | 2;
  /** Where it is mounted. */
  readonly path: string;
  /** v1: of the mount, e.g. ['cpu', 'cpuacct'] or ['name=systemd']; v2: those it has to give. */
  readonly controllers: readonly string[];
}

export interface CgroupGroup {
  readonly version: 1 | 2;
  readonly dir: string;
  readonly memory: boolean;
  readonly freezer: boolean;
  readonly writes: readonly CgroupWrite[];
  /** v2: a BPF program for devices. */
  readonly deviceProgram?: Uint8Array;
}

export interface CgroupPlan {
  readonly groups: readonly CgroupGroup[];
  /** Limits that were changed or left out, one readable line each. */
  readonly notes: readonly string[];
}

export interface MadeGroups {
  /** Directories that were not there before, each after the one it is in. */
  readonly made: readonly string[];
  readonly notes: readonly string[];
}

export interface CgroupStats {
  readonly memoryBytes: number;
  readonly cpuNs: number;
  readonly pids: number;
}

export type CgroupMode = 'v1' | 'hybrid' | 'v2';

const V1_USED = [
  ...['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'blkio', 'pids', 'name=systemd'],
  ...['hugetlb', 'net_cls', 'net_prio', 'perf_event', 'rdma', 'misc'],
];
/** Every container's limits are made of these. */
const V2_USED = ['cpu', 'cpuset', 'memory', 'pids', 'io'];
/** Passed on where that works. */
const V2_MORE = ['hugetlb', 'rdma', 'misc'];
const SHIMS = 'shims';
/** Below it are groups that users name for several containers. */
export const NAMED_PARENTS = 'parents';
const CONTAINER_ID = /^[0-9a-f]{64}$/;

/**
 * The hierarchies among `mounts` that containers are put in. `keepFreezer`: v1's also where there
 * is a v2 mount, for groups that others freeze through it.
 */
export function findHierarchies(
  mounts: readonly MountEntry[],
  readControllers = (path: string) => readWords(join(path, 'cgroup.controllers')),
  keepFreezer = false,
): readonly CgroupHierarchy[] {
  const found: CgroupHierarchy[] = [];
  for (const mount of mounts) {
    if (found.some((hierarchy) => hierarchy.path === mount.mountPoint)) continue;
    if (mount.type === 'cgroup2') {
      const controllers = readControllers(mount.mountPoint);
      found.unshift({ version: 2, path: mount.mountPoint, controllers });
    } else if (mount.type === 'cgroup') {
      const controllers = mount.options.filter(
        (option) => V1_USED.includes(option) || option === 'freezer',
      );
      if (controllers.length > 0) {
        found.push({ version: 1, path: mount.mountPoint, controllers });
      }
    }
  }
  const hasV2 = found.some((hierarchy) => hierarchy.version === 2);
  // The v2 mount freezes and kills better, so a freezer hierarchy is used only without one.
  if (!hasV2 || keepFreezer) return found;
  return found.filter((hierarchy) => hierarchy.controllers.join() !== 'freezer');
}

export class Cgroups {
  readonly hierarchies: readonly CgroupHierarchy[];
  readonly #parent: string;

  /** `parent` is relative to every hierarchy's mount, e.g. 'tsswarm' or 'tsswarm-lab/h1'. */
  constructor(hierarchies: readonly CgroupHierarchy[], parent: string) {
    if (hierarchies.length === 0) {
      throw new SwarmError('unsupported', 'no cgroup file system is mounted on this host');
    }
    this.hierarchies = hierarchies;
    this.#parent = parent;
  }

  get mode(): CgroupMode {
    const versions = new Set(this.hierarchies.map((hierarchy) => hierarchy.version));
    if (versions.size === 2) return 'hybrid';
    return versions.has(2) ? 'v2' : 'v1';
  }

  /** The shims' group in each hierarchy, the v2 one first: it is joined by forking. */
  get shims(): readonly { readonly version: 1 | 2; readonly dir: string }[] {
    return this.hierarchies.map(({ version, path }) => ({
      version,
      dir: join(path, this.#parent, SHIMS),
    }));
  }

  /** Makes `<parent>` and `<parent>/shims` everywhere and passes controllers down to them. */
  prepare(): void {
    for (const hierarchy of this.hierarchies) {
      makeGroups(hierarchy, [...this.#parent.split('/'), SHIMS], this.#passed({}));
    }
  }

  /** Makes the groups above the one at `path` and passes controllers down to it. */
  makeAbove(path: string): void {
    for (const { hierarchy, dir } of this.#dirs(path)) {
      const parts = dir.slice(hierarchy.path.length).split('/').filter(Boolean);
      makeGroups(hierarchy, parts.slice(0, -1), this.#passed({}));
      if (hierarchy.version === 2) {
        passDown(dirname(dir), this.#passed({}), hierarchy.controllers);
      }
    }
  }

  /**
   * Makes the group at `path` and those above it. SwarmError conflict for one that is frozen: what
   * starts there would not run.
   */
  make(path: string, resources: Resources = {}): MadeGroups {
    const notes: string[] = [];
    const dirs = this.#dirs(path);
    for (const { hierarchy, dir } of dirs) {
      if (!existsSync(dir)) continue;
      if (isGroupFrozen(hierarchy, dir)) {
        throw new SwarmError('conflict', `container's cgroup unexpectedly frozen: thaw ${dir}`);
      }
      const { length } = groupPids(dir);
      if (length > 0 && notes.length === 0) {
        notes.push(`container's cgroup is not empty: ${length} process(es) found in ${dir}`);
      }
    }
    const passed = this.#passed(resources);
    const made = dirs.flatMap(({ hierarchy, dir }) => {
      const parts = dir.slice(hierarchy.path.length).split('/').filter(Boolean);
      return makeGroups(hierarchy, parts, passed);
    });
    return { made, notes };
  }

  /** The v2 controllers that go down to containers; on a hybrid host only what is asked of them. */
  #passed({ hugepageLimits = [], rdma, unified = {} }: Resources): readonly string[] {
    if (this.mode === 'v2') return [...V2_USED, ...V2_MORE];
    const named = Object.keys(unified).map((file) => file.split('.')[0]);
    if (hugepageLimits.length > 0) named.push('hugetlb');
    if ((rdma?.size ?? 0) > 0) named.push('rdma');
    return [...V2_USED, ...V2_MORE.filter((controller) => named.includes(controller))];
  }

  /**
   * What the launcher makes and writes for the container at `path`. What this host cannot limit is
   * noted, or, `isStrict`, SwarmError unsupported. Devices: what the list does not allow is denied.
   * `isNew`: no such group is there by then, so that none is looked for.
   */
  plan(
    path: string,
    resources: Resources,
    { isStrict = false, isNew = false }: { isStrict?: boolean; isNew?: boolean } = {},
  ): CgroupPlan {
    const { task, notes } = this.#check(resources, isStrict);
    const { devices = [] } = resources;
    const devicesByV1 = this.#has('devices');
    const groups = this.#dirs(path).map(({ hierarchy, dir }): CgroupGroup => {
      const has = (controller: string): boolean => hierarchy.controllers.includes(controller);
      const view = isNew ? viewGroup(dir, false) : viewGroup(dir);
      const writes = resourceWrites(hierarchy, task.resources, view, task);
      const base = {
        version: hierarchy.version,
        dir,
        memory: has('memory'),
        freezer: hierarchy.version === 1 && has('freezer'),
      };
      if (has('devices')) return { ...base, writes: [...writes, ...deviceLines(devices)] };
      return hierarchy.version === 1 || devicesByV1
        ? { ...base, writes }
        : { ...base, writes, deviceProgram: deviceProgram(devices) };
    });
    return { groups, notes };
  }

  /** What can be told before looking at any group. */
  #check(
    given: Resources,
    isStrict: boolean,
  ): { readonly task: Pick<Task, 'resources' | 'refuse' | 'note'>; readonly notes: string[] } {
    const notes: string[] = [];
    const note = (text: string): void => {
      if (!notes.includes(text)) notes.push(text);
    };
    const refuse = (what: string, why: string): void => {
      if (isStrict) throw new SwarmError('unsupported', `cannot set ${what}: ${why}`);
      note(`${what} has no effect: ${why}`);
    };
    checkResources(given);
    const resources = normalise(given, note);
    const unified = Object.keys(given.unified ?? {});
    if (unified.length > 0 && this.mode === 'v1') {
      throw new SwarmError(
        'invalid',
        `invalid configuration: unified "${unified[0]}" needs cgroup v2, which this host has not`,
      );
    }
    refuseMissing(resources, (controller) => this.#has(controller), refuse);
    return { task: { resources, refuse, note }, notes };
  }

  #dirs(path: string): { readonly hierarchy: CgroupHierarchy; readonly dir: string }[] {
    const parts = path.split('/').filter(Boolean);
    if (parts.length === 0 || parts.some((part) => part === '.' || part === '..')) {
      throw new SwarmError('invalid', `"${path}" is no path of a control group`);
    }
    const below = join(path.startsWith('/') ? '' : this.#parent, ...parts);
    return this.hierarchies.map((hierarchy) => ({
      hierarchy,
      dir: `${hierarchy.path}/${below}`,
    }));
  }

  /** Those that are there. SwarmError not_found when none is. */
  #present(path: string): { readonly hierarchy: CgroupHierarchy; readonly dir: string }[] {
    const dirs = this.#dirs(path).filter(({ dir }) => existsSync(dir));
    if (dirs.length > 0) return dirs;
    throw new SwarmError('not_found', `container ${path} is not running`);
  }

  /**
   * Changes limits of the container at `path`, which runs: those that `resources` names, of devices
   * all rules. SwarmError invalid when the kernel takes one of them not.
   */
  update(path: string, resources: Resources, isStrict = false): readonly string[] {
    const { task, notes } = this.#check(resources, isStrict);
    // Everything that can be wrong with it is found before anything is changed.
    const planned = this.#present(path).map(({ hierarchy, dir }) => ({
      dir,
      writes: [
        ...resourceWrites(hierarchy, task.resources, viewGroup(dir), task),
        ...deviceWrites(hierarchy, resources.devices ?? [], dir),
      ],
      isV2: hierarchy.version === 2,
    }));
    const devices = resources.devices ?? [];
    const program =
      devices.length === 0 || this.#has('devices') ? undefined : deviceProgram(devices);
    for (const { dir, writes } of planned) applyWrites(dir, writes);
    for (const { dir, isV2 } of planned) {
      if (isV2 && program !== undefined) replaceDeviceProgram(dir, program);
    }
    return notes;
  }

  /** All that is counted of the container. SwarmError not_found without a group. */
  usage(path: string): CgroupUsage {
    return readUsage(this.#present(path));
  }

  #has(controller: string): boolean {
    return this.hierarchies.some((hierarchy) => hierarchy.controllers.includes(controller));
  }

  /** The same and everything else: for each device, processor and size of page. */
  statistics(path: string): CgroupStatistics {
    return readStatistics(this.#present(path));
  }

  /** Usage now; zeros for what this host does not count. SwarmError not_found without a group. */
  stats(path: string): CgroupStats {
    const stats = { memoryBytes: 0, cpuNs: 0, pids: 0 };
    for (const { hierarchy, dir } of this.#present(path)) {
      const has = (controller: string): boolean => hierarchy.controllers.includes(controller);
      const v1 = hierarchy.version === 1;
      if (has('memory')) {
        const used = Number(readText(join(dir, v1 ? 'memory.usage_in_bytes' : 'memory.current')));
        const key = v1 ? 'total_inactive_file' : 'inactive_file';
        stats.memoryBytes = Math.max(0, used - readKey(join(dir, 'memory.stat'), key));
      }
      if (v1 && has('cpuacct')) stats.cpuNs = Number(readText(join(dir, 'cpuacct.usage')));
      if (!v1 && has('cpu')) stats.cpuNs = readKey(join(dir, 'cpu.stat'), 'usage_usec') * 1000;
      if (has('pids')) stats.pids = Number(readText(join(dir, 'pids.current')));
    }
    return stats;
  }

  /** SIGKILL to every process of the container; for when its shim is gone. */
  kill(path: string): void {
    for (const { hierarchy, dir } of this.#dirs(path)) {
      if (!existsSync(dir)) continue;
      if (hierarchy.version === 2 && existsSync(join(dir, 'cgroup.kill'))) {
        writeFileSync(join(dir, 'cgroup.kill'), '1');
        return;
      }
    }
    for (const pid of this.pids(path)) signalQuietly(pid);
    for (const { dir } of this.#dirs(path)) {
      // A frozen process dies only when thawed.
      const file = join(dir, 'freezer.state');
      if (existsSync(file)) writeFileSync(file, 'THAWED');
    }
  }

  /** Asks the kernel to stop every process, or to let them go on; false without a freezer. */
  setFrozen(path: string, frozen: boolean): boolean {
    const dirs = this.#present(path);
    const unified = dirs.find(({ hierarchy }) => hierarchy.version === 2);
    if (unified !== undefined) {
      writeFileSync(join(unified.dir, 'cgroup.freeze'), frozen ? '1' : '0');
      return true;
    }
    const freezer = dirs.find(({ hierarchy }) => hierarchy.controllers.includes('freezer'));
    if (freezer === undefined) return false;
    writeFileSync(join(freezer.dir, 'freezer.state'), frozen ? 'FROZEN' : 'THAWED');
    return true;
  }

  /** Whether every process of the container has stopped. */
  isFrozen(path: string): boolean {
    for (const { hierarchy, dir } of this.#dirs(path)) {
      if (hierarchy.version === 2) return readKey(join(dir, 'cgroup.events'), 'frozen') === 1;
      const file = join(dir, 'freezer.state');
      if (existsSync(file)) return readText(file) === 'FROZEN';
    }
    return true; // no freezer: it could not be asked for either
  }

  /** How many processes the kernel has killed there for want of memory. */
  oomKills(path: string): number {
    const group = this.#present(path).find(({ hierarchy }) =>
      hierarchy.controllers.includes('memory'),
    );
    if (group === undefined) return 0;
    const file = group.hierarchy.version === 1 ? 'memory.oom_control' : 'memory.events';
    return readKey(join(group.dir, file), 'oom_kill');
  }

  /** The processes in the container's groups and those it made in them. */
  pids(path: string): readonly number[] {
    return [...new Set(this.#dirs(path).flatMap(({ dir }) => groupPids(dir)))];
  }

  /** Gives the v2 group to a user of the host, who may then divide it. */
  delegate(path: string, uid: number): void {
    for (const { hierarchy, dir } of this.#present(path)) {
      if (hierarchy.version === 2) delegateGroup(dir, uid);
    }
  }

  /** Removes the container's groups; false while a process is still in one. */
  remove(path: string): boolean {
    return this.#dirs(path).every(({ dir }) => removeGroup(dir));
  }

  /** Removes the groups above the one at `path` that users named, unless one of `used` is below. */
  removeAbove(path: string, used: readonly string[]): void {
    let above = dirname(path);
    while (above.startsWith(`${NAMED_PARENTS}/`)) {
      const isUsed = used.some((other) => other.startsWith(`${above}/`));
      if (isUsed || !this.#dirs(above).every(({ dir }) => removeOne(dir))) return;
      above = dirname(above);
    }
  }

  /** Removes all groups that users named and that none of `used` is below. */
  removeUnused(used: readonly string[]): void {
    for (const hierarchy of this.hierarchies) {
      removeNamed(join(hierarchy.path, this.#parent), NAMED_PARENTS, used);
    }
  }

  /** Removes what `make` made, as far as nobody else uses it. */
  removeMade(made: readonly string[]): void {
    for (const dir of [...made].reverse()) removeOne(dir);
  }

  /** The paths of all containers that have a group: their ids, some below a named parent. */
  list(): readonly string[] {
    const paths = new Set<string>();
    for (const hierarchy of this.hierarchies) {
      const parent = join(hierarchy.path, this.#parent);
      for (const entry of listGroups(parent)) {
        if (entry !== SHIMS && entry !== NAMED_PARENTS) paths.add(entry);
      }
      for (const path of listNamed(parent, NAMED_PARENTS)) paths.add(path);
    }
    return [...paths];
  }

  /** Removes the whole subtree, for uninstalling and tests; false while something runs in it. */
  removeParent(): boolean {
    return this.hierarchies.every((hierarchy) => {
      const parent = join(hierarchy.path, this.#parent);
      if (!removeGroup(join(parent, NAMED_PARENTS))) return false;
      if (!removeOne(join(parent, SHIMS)) || !removeOne(parent)) return false;
      // Above it, only what nobody else uses: 'tsswarm-lab' goes with the last of its hosts.
      for (let dir = dirname(parent); dir !== hierarchy.path; dir = dirname(dir)) {
        if (!removeOne(dir)) break;
      }
      return true;
    });
  }
}

function listNamed(parent: string, path: string): readonly string[] {
  return listGroups(join(parent, path)).flatMap((entry) => {
    const below = `${path}/${entry}`;
    return CONTAINER_ID.test(entry) ? [below] : listNamed(parent, below);
  });
}

function removeNamed(parent: string, path: string, used: readonly string[]): void {
  for (const entry of listGroups(join(parent, path))) {
    const below = `${path}/${entry}`;
    if (CONTAINER_ID.test(entry)) continue;
    removeNamed(parent, below, used);
    if (!used.some((other) => other.startsWith(`${below}/`))) removeOne(join(parent, below));
  }
}

function isGroupFrozen({ version }: CgroupHierarchy, dir: string): boolean {
  if (version === 2) return readText(join(dir, 'cgroup.freeze')) === '1';
  const state = join(dir, 'freezer.state');
  return existsSync(state) && readText(state) !== 'THAWED';
}

function signalQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone meanwhile, which is what was wanted
  }
}

/** To a v1 group in use; none where no devices are named. */
function deviceWrites(
  { controllers }: CgroupHierarchy,
  devices: readonly DeviceAccess[],
  dir: string,
): readonly CgroupWrite[] {
  if (devices.length === 0 || !controllers.includes('devices')) return [];
  return deviceChanges(devices, readText(join(dir, 'devices.list')));
}

/**
 * The host's control groups: which hierarchies there are (v1, hybrid, v2), our own subtree in each,
 * and what limits mean there. Works out what to write; the shim writes it. Containers live in
 * `<parent>/<id>` and shims in `<parent>/shims`, at the top and never below the daemon's own group.
 * On a hybrid host limits are v1's, while kill and freeze go through the v2 mount.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { readKey, readText, readWords } from './cgroupFiles.ts';
import {
  applyWrites,
  type CgroupLimits,
  type CgroupWrite,
  limitWrites,
  normalise,
  noteMissing,
} from './cgroupLimits.ts';
import { type CgroupUsage, readUsage } from './cgroupUsage.ts';
import { type DeviceRule, deviceAllowLine, deviceProgram } from './deviceRules.ts';
import type { MountEntry } from './mount.ts';

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
  /** The shims' group in each hierarchy, the v2 one first: it is joined by forking. */
  readonly shims: readonly { readonly version: 1 | 2; readonly dir: string }[];
  /** Limits that were changed or left out, one readable line each. */
  readonly notes: readonly string[];
}

export interface CgroupStats {
  readonly memoryBytes: number;
  readonly cpuNs: number;
  readonly pids: number;
}

export type CgroupMode = 'v1' | 'hybrid' | 'v2';

const V1_USED = ['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'blkio', 'pids', 'name=systemd'];
const V2_USED = ['cpu', 'cpuset', 'memory', 'pids', 'io'];
const SHIMS = 'shims';

/** The hierarchies among `mounts` that containers are put in. */
export function findHierarchies(
  mounts: readonly MountEntry[],
  readControllers = (path: string) => readWords(join(path, 'cgroup.controllers')),
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
  return found.filter((hierarchy) => !(hasV2 && hierarchy.controllers.join() === 'freezer'));
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

  /** Makes `<parent>` and `<parent>/shims` everywhere and passes controllers down to them. */
  prepare(): void {
    for (const hierarchy of this.hierarchies) {
      let dir = hierarchy.path;
      for (const part of [...this.#parent.split('/'), SHIMS]) {
        if (hierarchy.version === 2) enableControllers(dir, hierarchy.controllers);
        const parent = dir;
        dir = join(dir, part);
        mkdirSync(dir, { recursive: true, mode: 0o755 });
        if (hierarchy.controllers.includes('cpuset') && hierarchy.version === 1) {
          copyCpuset(parent, dir);
        }
      }
    }
  }

  /** What the shim makes and writes for container `id`. */
  plan(id: string, limits: CgroupLimits, devices: readonly DeviceRule[]): CgroupPlan {
    const notes: string[] = [];
    const wanted = normalise(limits, notes);
    noteMissing(wanted, (controller) => this.#has(controller), notes);
    const devicesByV1 = this.hierarchies.some(
      (hierarchy) => hierarchy.version === 1 && hierarchy.controllers.includes('devices'),
    );
    const groups = this.hierarchies.map((hierarchy): CgroupGroup => {
      const base = {
        version: hierarchy.version,
        dir: join(hierarchy.path, this.#parent, id),
        memory: hierarchy.controllers.includes('memory'),
        freezer: hierarchy.version === 1 && hierarchy.controllers.includes('freezer'),
      };
      const writes = limitWrites(hierarchy, join(hierarchy.path, this.#parent), wanted);
      if (hierarchy.controllers.includes('devices') && hierarchy.version === 1) {
        return { ...base, writes: [...writes, ...deviceWrites(devices)] };
      }
      return hierarchy.version === 1 || devicesByV1
        ? { ...base, writes }
        : { ...base, writes, deviceProgram: deviceProgram(devices) };
    });
    const shims = this.hierarchies.map((hierarchy) => ({
      version: hierarchy.version,
      dir: join(hierarchy.path, this.#parent, SHIMS),
    }));
    return { groups, shims, notes };
  }

  #dirs(id: string): { readonly hierarchy: CgroupHierarchy; readonly dir: string }[] {
    return this.hierarchies.map((hierarchy) => ({
      hierarchy,
      dir: join(hierarchy.path, this.#parent, id),
    }));
  }

  /**
   * Changes limits of container `id`, which runs: `limits` as they are to be then. SwarmError
   * invalid when the kernel takes one of them not.
   */
  update(id: string, limits: CgroupLimits): readonly string[] {
    const notes: string[] = [];
    const wanted = normalise(limits, notes);
    noteMissing(wanted, (controller) => this.#has(controller), notes);
    for (const { hierarchy, dir } of this.#dirs(id)) {
      if (!existsSync(dir)) throw new SwarmError('not_found', `container ${id} is not running`);
      applyWrites(dir, limitWrites(hierarchy, join(hierarchy.path, this.#parent), wanted));
    }
    return notes;
  }

  /** All that is counted of container `id`. SwarmError not_found without a group. */
  usage(id: string): CgroupUsage {
    const dirs = this.#dirs(id).filter(({ dir }) => existsSync(dir));
    if (dirs.length === 0) throw new SwarmError('not_found', `container ${id} is not running`);
    return readUsage(dirs);
  }

  #has(controller: string): boolean {
    return this.hierarchies.some((hierarchy) => hierarchy.controllers.includes(controller));
  }

  /** Usage now; zeros for what this host does not count. SwarmError not_found without a group. */
  stats(id: string): CgroupStats {
    const stats = { memoryBytes: 0, cpuNs: 0, pids: 0 };
    const dirs = this.#dirs(id).filter(({ dir }) => existsSync(dir));
    if (dirs.length === 0) throw new SwarmError('not_found', `container ${id} is not running`);
    for (const { hierarchy, dir } of dirs) {
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

  /** SIGKILL to every process of container `id`; for when its shim is gone. */
  kill(id: string): void {
    for (const { hierarchy, dir } of this.#dirs(id)) {
      if (!existsSync(dir)) continue;
      if (hierarchy.version === 2 && existsSync(join(dir, 'cgroup.kill'))) {
        writeFileSync(join(dir, 'cgroup.kill'), '1');
        return;
      }
    }
    for (const pid of this.pids(id)) signalQuietly(pid);
    for (const { dir } of this.#dirs(id)) {
      // A frozen process dies only when thawed.
      const file = join(dir, 'freezer.state');
      if (existsSync(file)) writeFileSync(file, 'THAWED');
    }
  }

  /** Whether every process of container `id` has stopped. */
  isFrozen(id: string): boolean {
    for (const { hierarchy, dir } of this.#dirs(id)) {
      if (hierarchy.version === 2) return readKey(join(dir, 'cgroup.events'), 'frozen') === 1;
      const file = join(dir, 'freezer.state');
      if (existsSync(file)) return readText(file) === 'FROZEN';
    }
    return true; // no freezer: it could not be asked for either
  }

  /** The processes in container `id`'s groups. */
  pids(id: string): readonly number[] {
    const pids = new Set<number>();
    for (const { dir } of this.#dirs(id)) {
      for (const word of readWords(join(dir, 'cgroup.procs'))) pids.add(Number(word));
    }
    return [...pids];
  }

  /** Removes container `id`'s groups; false while a process is still in one. */
  remove(id: string): boolean {
    return this.#dirs(id).every(({ dir }) => removeGroup(dir));
  }

  /** The ids of all containers that have a group. */
  list(): readonly string[] {
    const ids = new Set<string>();
    for (const hierarchy of this.hierarchies) {
      for (const entry of listDirectories(join(hierarchy.path, this.#parent))) {
        if (entry !== SHIMS) ids.add(entry);
      }
    }
    return [...ids];
  }

  /** Removes the whole subtree, for uninstalling and tests; false while something runs in it. */
  removeParent(): boolean {
    return this.hierarchies.every((hierarchy) => {
      const parent = join(hierarchy.path, this.#parent);
      if (!removeGroup(join(parent, SHIMS)) || !removeGroup(parent)) return false;
      // Above it, only what nobody else uses: 'tsswarm-lab' goes with the last of its hosts.
      for (let dir = dirname(parent); dir !== hierarchy.path; dir = dirname(dir)) {
        if (!removeGroup(dir)) break;
      }
      return true;
    });
  }
}

/** Passes every controller in use from `dir` to its children. */
function enableControllers(dir: string, available: readonly string[]): void {
  const file = join(dir, 'cgroup.subtree_control');
  const enabled = readWords(file);
  for (const controller of V2_USED) {
    if (!available.includes(controller) || enabled.includes(controller)) continue;
    try {
      writeFileSync(file, `+${controller}`);
    } catch (error) {
      throw new SwarmError(
        'unsupported',
        `cannot pass the ${controller} controller to cgroups below ${dir}: processes in it or ` +
          'a container around this host are in the way',
        { cause: error },
      );
    }
  }
}

/** A v1 cpuset takes no process before it has cpus and memory nodes. */
function copyCpuset(from: string, to: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readText(join(to, file)) !== '') continue;
    writeFileSync(join(to, file), readText(join(from, file)));
  }
}

function deviceWrites(devices: readonly DeviceRule[]): readonly CgroupWrite[] {
  return [
    { file: 'devices.deny', value: 'a', optional: false },
    ...devices.map((rule) => ({
      file: 'devices.allow',
      value: deviceAllowLine(rule),
      optional: false,
    })),
  ];
}

function removeGroup(dir: string): boolean {
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return true;
    if (code === 'EBUSY' || code === 'ENOTEMPTY') return false;
    throw error;
  }
}

function listDirectories(dir: string): readonly string[] {
  try {
    const entries = readdirSync(dir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch {
    return []; // no such group: nothing in it
  }
}

function signalQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone meanwhile, which is what was wanted
  }
}

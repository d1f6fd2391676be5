/**
 * The control groups of one OCI container: in every hierarchy that is mounted, at its
 * `cgroupsPath`, at the top. Makes the parents and works out what the shim makes and writes; asks,
 * freezes, kills and removes what is there. What limits mean is in resources.ts.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { CgroupGroup, CgroupHierarchy } from '../sys/cgroup.ts';
import { readKey, readText, readWords } from '../sys/cgroupFiles.ts';
import { readMounts } from '../sys/mount.ts';
import type { OciConfig } from './config.ts';
import { resourceWrites } from './resources.ts';

/** Options of a v1 mount that name no controller. */
const V1_OPTIONS =
  /^(rw|ro|xattr|noprefix|all|none|clone_children|cpuset_v2_mode|favordynmods|release_agent=.*)$/;
const DEFAULT_PARENT = '/tsswarm-oci';
const POLL_MS = 5;
const FREEZE_TRIES = 400;
const REMOVE_TRIES = 400;

/** Every hierarchy, the v2 one first. */
export function allHierarchies(): readonly CgroupHierarchy[] {
  const found: CgroupHierarchy[] = [];
  for (const { mountPoint, type, options } of readMounts()) {
    if (found.some(({ path }) => path === mountPoint)) continue;
    if (type === 'cgroup2') {
      const controllers = readWords(join(mountPoint, 'cgroup.controllers'));
      found.unshift({ version: 2, path: mountPoint, controllers });
    } else if (type === 'cgroup') {
      const controllers = options.filter((option) => !V1_OPTIONS.test(option));
      // The same hierarchy may be mounted twice; its first place counts.
      if (found.some((other) => other.controllers.join() === controllers.join())) continue;
      found.push({ version: 1, path: mountPoint, controllers });
    }
  }
  return found;
}

/** Where container `id` belongs, as a path below each hierarchy that starts with '/'. */
export function cgroupPath(config: OciConfig, id: string): string {
  const wanted = config.linux.cgroupsPath;
  if (wanted === '') return `${DEFAULT_PARENT}/${id}`;
  const parts = wanted.split('/');
  if (parts.includes('..')) {
    throw new SwarmError('invalid', `linux.cgroupsPath: "${wanted}" leads elsewhere`);
  }
  const clean = parts.filter((part) => part !== '' && part !== '.').join('/');
  return wanted.startsWith('/') ? `/${clean}` : `${DEFAULT_PARENT}/${clean}`;
}

export class OciCgroups {
  readonly hierarchies: readonly CgroupHierarchy[];
  readonly path: string;
  readonly #clock: Clock;

  constructor(path: string, clock: Clock, hierarchies = allHierarchies()) {
    if (hierarchies.length === 0) {
      throw new SwarmError('unsupported', 'no cgroup file system is mounted on this host');
    }
    this.hierarchies = hierarchies;
    this.path = path;
    this.#clock = clock;
  }

  /** Ours in each hierarchy, whether it is there or not. */
  dirs(): readonly { readonly hierarchy: CgroupHierarchy; readonly dir: string }[] {
    return this.hierarchies.map((hierarchy) => ({
      hierarchy,
      dir: join(hierarchy.path, this.path),
    }));
  }

  /** The directory in the hierarchy that has `controller`. */
  dirOf(controller: string): string | undefined {
    return this.dirs().find(({ hierarchy }) => hierarchy.controllers.includes(controller))?.dir;
  }

  /** Makes the groups above ours and passes controllers down to them. */
  prepare(): void {
    for (const hierarchy of this.hierarchies) {
      let dir = hierarchy.path;
      for (const part of dirname(this.path).split('/').filter(Boolean)) {
        if (hierarchy.version === 2) enableControllers(dir, hierarchy.controllers);
        const parent = dir;
        dir = join(dir, part);
        mkdirSync(dir, { recursive: true, mode: 0o755 });
        if (hierarchy.version === 1 && hierarchy.controllers.includes('cpuset')) {
          copyCpuset(parent, dir);
        }
      }
      if (hierarchy.version === 2) enableControllers(dir, hierarchy.controllers);
    }
  }

  /** What the shim makes and writes. */
  plan(config: OciConfig): readonly CgroupGroup[] {
    const devices = devicesByV1(this.hierarchies);
    return this.dirs().map(({ hierarchy, dir }): CgroupGroup => {
      const found = resourceWrites(hierarchy, dir, config, devices);
      return {
        version: hierarchy.version,
        dir,
        memory: hierarchy.controllers.includes('memory'),
        freezer: hierarchy.version === 1 && hierarchy.controllers.includes('freezer'),
        ...found,
      };
    });
  }

  pids(): readonly number[] {
    const pids = new Set<number>();
    for (const { dir } of this.dirs()) for (const pid of pidsBelow(dir)) pids.add(pid);
    return [...pids].sort((left, right) => left - right);
  }

  isFrozen(): boolean {
    return this.dirs().some(({ hierarchy, dir }) => {
      if (hierarchy.version === 2) {
        const file = join(dir, 'cgroup.freeze');
        return existsSync(file) && readText(file) === '1';
      }
      const file = join(dir, 'freezer.state');
      return existsSync(file) && readText(file) !== 'THAWED';
    });
  }

  /** Through the v2 mount where there is one; returns once every process has stopped. */
  async freeze(frozen: boolean): Promise<void> {
    const found = this.dirs().filter(({ dir }) => existsSync(dir));
    const v2 = found.find(({ hierarchy }) => hierarchy.version === 2);
    if (v2 !== undefined) {
      writeFileSync(join(v2.dir, 'cgroup.freeze'), frozen ? '1' : '0');
      const events = join(v2.dir, 'cgroup.events');
      await this.#until(() => readKey(events, 'frozen') === (frozen ? 1 : 0) || !frozen, 'freeze');
      return;
    }
    const v1 = found.find(({ hierarchy }) => hierarchy.controllers.includes('freezer'));
    if (v1 === undefined) {
      throw new SwarmError('unsupported', 'this host has no cgroup freezer');
    }
    const file = join(v1.dir, 'freezer.state');
    await this.#until(() => {
      writeFileSync(file, frozen ? 'FROZEN' : 'THAWED');
      return readText(file) === (frozen ? 'FROZEN' : 'THAWED');
    }, 'freeze');
  }

  /** `signal` to every process, also of groups below ours. */
  signal(signal: number): void {
    const v2 = this.dirs().find(({ hierarchy }) => hierarchy.version === 2)?.dir;
    const isKill = signal === 9;
    if (isKill && v2 !== undefined && existsSync(join(v2, 'cgroup.kill'))) {
      writeFileSync(join(v2, 'cgroup.kill'), '1');
    }
    for (const pid of this.pids()) signalQuietly(pid, signal);
    if (!isKill) return;
    // A frozen process dies only when thawed.
    for (const { dir } of this.dirs()) thawBelow(dir);
  }

  /** Removes ours, with what the container made below it. SwarmError conflict while in use. */
  async remove(): Promise<void> {
    for (const { dir } of this.dirs()) {
      await this.#until(() => removeBelow(dir), `remove the control group ${dir}`);
    }
    for (const hierarchy of this.hierarchies) removeDefaultParent(hierarchy.path);
  }

  /** Kills until nothing is left. */
  async killAll(): Promise<void> {
    await this.#until(() => {
      if (this.pids().length === 0) return true;
      this.signal(9);
      return this.pids().length === 0;
    }, 'end every process of the container');
  }

  async #until(isDone: () => boolean, what: string): Promise<void> {
    const tries = Math.max(FREEZE_TRIES, REMOVE_TRIES);
    for (let at = 0; at < tries; at += 1) {
      if (isDone()) return;
      await this.#clock.sleep(POLL_MS);
    }
    throw new SwarmError('conflict', `cannot ${what}: it takes too long`);
  }
}

export function devicesByV1(hierarchies: readonly CgroupHierarchy[]): boolean {
  return hierarchies.some(
    ({ version, controllers }) => version === 1 && controllers.includes('devices'),
  );
}

/** As far as the host allows it: a missing controller shows where a limit is written. */
function enableControllers(dir: string, available: readonly string[]): void {
  const file = join(dir, 'cgroup.subtree_control');
  const enabled = readWords(file);
  for (const controller of available) {
    if (enabled.includes(controller)) continue;
    try {
      writeFileSync(file, `+${controller}`);
    } catch {
      // e.g. processes in `dir`: what cannot be limited below shows as a missing file
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

function childrenOf(dir: string): readonly string[] {
  try {
    const entries = readdirSync(dir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(dir, name));
  } catch {
    return []; // gone meanwhile
  }
}

function pidsBelow(dir: string): readonly number[] {
  const own = readWords(join(dir, 'cgroup.procs')).map(Number);
  return [...own, ...childrenOf(dir).flatMap(pidsBelow)];
}

function thawBelow(dir: string): void {
  const file = join(dir, 'freezer.state');
  try {
    if (existsSync(file)) writeFileSync(file, 'THAWED');
  } catch {
    // gone meanwhile: nothing frozen in it
  }
  for (const child of childrenOf(dir)) thawBelow(child);
}

function removeBelow(dir: string): boolean {
  for (const child of childrenOf(dir)) if (!removeBelow(child)) return false;
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

function removeDefaultParent(root: string): void {
  try {
    rmdirSync(join(root, DEFAULT_PARENT));
  } catch {
    // another container is in it, or it is not there
  }
}

function signalQuietly(pid: number, signal: number): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone meanwhile
  }
}

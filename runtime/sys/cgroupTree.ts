/**
 * Directories of control groups: making the groups above a container's so that it gets what it
 * needs of them, and removing what was made. Moves no process.
 */
import {
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from './cgroup.ts';
import { readText, readWords } from './cgroupFiles.ts';

/** Few limits need these. */
const OPTIONAL = new Set(['hugetlb', 'rdma', 'misc']);
/** A container may have made any number; one takes up to 0.1 ms, and the main thread waits. */
const REMOVED_TOGETHER = 256;
/** Likewise; reading one takes a few hundredths. */
const LISTED_TOGETHER = 1024;
/** Others would have to remove the same parent as often between two steps. */
const MAKE_TRIES = 100;

/**
 * Makes `parts`, one group in the other, below the hierarchy's mount; those that were not there,
 * from the top. `controllers` are passed down to each on v2.
 */
export function makeGroups(
  hierarchy: CgroupHierarchy,
  parts: readonly string[],
  controllers: readonly string[],
): readonly string[] {
  const made = new Set<string>();
  for (let tries = 1; ; tries += 1) {
    try {
      makeOnce(hierarchy, parts, controllers, made);
      return [...made];
    } catch (error) {
      // Who used a group above last has just removed it: all of it is made again.
      if (isGone(error) && tries < MAKE_TRIES) continue;
      for (const dir of [...made].toReversed()) removeOne(dir);
      throw error;
    }
  }
}

/** The second is what an open file of a removed group says. */
function isGone(error: unknown): boolean {
  const { code, cause } = error as NodeJS.ErrnoException;
  const first = cause === undefined ? code : (cause as NodeJS.ErrnoException).code;
  return first === 'ENOENT' || first === 'ENODEV';
}

function makeOnce(
  hierarchy: CgroupHierarchy,
  parts: readonly string[],
  controllers: readonly string[],
  made: Set<string>,
): void {
  const dirs = parts.map((_, at) => join(hierarchy.path, ...parts.slice(0, at + 1)));
  // All of them first: nobody takes a group away that has one in it.
  for (const dir of dirs) {
    const there = statSync(dir, { throwIfNoEntry: false });
    if (there?.isDirectory() === false) {
      throw new SwarmError('invalid', `the kernel has a file ${dir}: give the group another name`);
    }
    if (there !== undefined) continue;
    mkdirUnlessThere(dir);
    made.add(dir);
  }
  for (const [at, dir] of dirs.entries()) {
    const parent = at === 0 ? hierarchy.path : dirs[at - 1];
    if (hierarchy.version === 2) passDown(parent, controllers, hierarchy.controllers);
    else if (hierarchy.controllers.includes('cpuset')) copyCpuset(parent, dir);
  }
}

function mkdirUnlessThere(dir: string): void {
  try {
    mkdirSync(dir, { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Passes `wanted` controllers from `dir` to its children. */
export function passDown(
  dir: string,
  wanted: readonly string[],
  available: readonly string[],
): void {
  const file = join(dir, 'cgroup.subtree_control');
  const enabled = readWords(file);
  for (const controller of wanted) {
    if (!available.includes(controller) || enabled.includes(controller)) continue;
    try {
      writeFileSync(file, `+${controller}`);
    } catch (error) {
      if (OPTIONAL.has(controller)) continue; // a limit that needs it is refused by its file
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

/** Removes the group and those in it; false while a process is in one, or more are left. */
export function removeGroup(dir: string): boolean {
  if (removeOne(dir)) return true;
  let left = REMOVED_TOGETHER;
  const isEmpty = visitBelow(dir, (below) => {
    left -= 1;
    return left >= 0 && removeOne(below);
  });
  return isEmpty && removeOne(dir);
}

/**
 * Visits the groups below `dir`, the innermost first, until `visit` says false; whether it never
 * did. A container that may divide its group may go deeper than a path is long: each is visited by
 * a short one, which holds during the visit.
 */
function visitBelow(dir: string, visit: (path: string) => boolean): boolean {
  let here = openGroup(dir);
  if (here === undefined) return true;
  const go = (name: string): boolean => {
    const next = openGroup(`${pathOf(here)}/${name}`);
    if (next === undefined) return false;
    closeSync(here as number);
    here = next;
    return true;
  };
  /** The way from `dir` to here, and of each group on it those that are yet to be visited. */
  const way: string[] = [];
  const waiting = [listGroups(pathOf(here))];
  try {
    for (;;) {
      const name = waiting.at(-1)?.pop();
      if (name !== undefined) {
        if (!go(name)) continue; // gone meanwhile
        way.push(name);
        waiting.push(listGroups(pathOf(here)));
      } else {
        waiting.pop();
        const visited = way.pop();
        if (visited === undefined || !go('..')) return true;
        if (!visit(`${pathOf(here)}/${visited}`)) return false;
      }
    }
  } finally {
    closeSync(here);
  }
}

function pathOf(fd: number | undefined): string {
  return `/proc/self/fd/${fd}`;
}

/** Undefined when it is gone. */
function openGroup(dir: string): number | undefined {
  try {
    return openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Only the group itself; false while anything is in it. */
export function removeOne(dir: string): boolean {
  // Its launcher has removed it, mostly: looking is cheaper than an error.
  if (!existsSync(dir)) return true;
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // The last: a file of the kernel's has the name, so there is no such group.
    if (code === 'ENOENT' || code === 'ENOTDIR') return true;
    if (code === 'EBUSY' || code === 'ENOTEMPTY') return false;
    throw error;
  }
}

/** The names of the groups in `dir`. */
export function listGroups(dir: string): string[] {
  try {
    const entries = readdirSync(dir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch {
    return []; // no such group: nothing in it
  }
}

/** The processes in the group and in those below it, of which more may be left when it has many. */
export function groupPids(dir: string): readonly number[] {
  const pids = readPids(dir);
  let left = LISTED_TOGETHER;
  visitBelow(dir, (below) => {
    pids.push(...readPids(below));
    left -= 1;
    return left > 0;
  });
  return pids;
}

function readPids(dir: string): number[] {
  return readWords(join(dir, 'cgroup.procs')).map(Number);
}

const DELEGATED = ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads'];

/** Gives a v2 group to a user, as far as the kernel says that is safe (cgroups(7)). */
export function delegateGroup(dir: string, uid: number): void {
  const listed = readWords('/sys/kernel/cgroup/delegate');
  chownSync(dir, uid, -1);
  for (const file of listed.length > 0 ? listed : DELEGATED) {
    if (existsSync(join(dir, file))) chownSync(join(dir, file), uid, -1);
  }
}

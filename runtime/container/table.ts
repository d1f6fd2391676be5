/**
 * The containers of this host. Opening the table finds again what an earlier daemon left: running
 * containers are adopted as they run, ended ones get their record, left-overs are removed. Closing
 * it stops nothing. What is left of a container whose configuration is lost is killed and removed.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { loadDefaultProfile } from '../sys/apparmor.ts';
import { type CgroupHierarchy, Cgroups, findHierarchies } from '../sys/cgroup.ts';
import { check, close, O_CLOEXEC, open as openFd } from '../sys/libc.ts';
import { readMounts } from '../sys/mount.ts';
import { checkProjects, limitDirectories } from '../sys/projectQuota.ts';
import { ManagedContainer } from './container.ts';
import type { ContainerContext } from './context.ts';
import { CONFIG_FILE, makeDirectories, removeLeft, writeConfig } from './files.ts';
import { REMOVED_PREFIX } from './life.ts';
import { Nursery } from './nursery.ts';
import { containerPaths, groupPath, LOG_DIR, UPPER_DIR, WORK_DIR } from './paths.ts';
import { SharedMemory } from './sharedMemory.ts';
import { loadShim } from './shimFile.ts';
import { buildSpec } from './spec.ts';
import type { IdMaps } from './specRecords.ts';
import type { Container, ContainerConfig, ContainerTable } from './types.ts';

const CONTAINERS = 'containers';
const O_RDWR = 2;
const KILL_TRIES = 1000;
const KILL_POLL_MS = 5;
/** How many containers are looked at together when the table is opened. */
const ADOPT_TOGETHER = 32;

export interface ContainerTableOptions {
  /** Configurations, writable layers, logs: `<dataRoot>/containers/<id>`. */
  readonly dataRoot: string;
  /** Sockets, pids, exit records; empty after a boot: `<execRoot>/containers/<id>`. */
  readonly execRoot: string;
  /** Our subtree in every cgroup hierarchy, e.g. 'tsswarm' or 'tsswarm-lab/h1'. */
  readonly cgroupParent: string;
  /** The cgroup hierarchies to use; by default those that are mounted on this host. */
  readonly hierarchies?: readonly CgroupHierarchy[];
  /** The shim's executable; by default the one that was built with this file. */
  readonly shimPath?: string;
  /** Ids of containers that say nothing of theirs; absent: the host's. */
  readonly userNamespace?: IdMaps;
  /** Ids for one that asks for its own where the host's are usual. SwarmError: there are none. */
  readonly findUserNamespace?: () => IdMaps;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Told each time a container has been started: its shim is there and answers. */
  readonly onStart?: (container: Container) => void;
  /** Told once for each container that ends while the table is open. */
  readonly onExit?: (container: Container) => void;
  readonly onCreate?: (container: Container) => void;
  readonly onRemove?: (container: Container) => void;
}

/** SwarmError unsupported when this host runs no containers, internal when the shim is missing. */
export async function openContainerTable(options: ContainerTableOptions): Promise<ContainerTable> {
  const cgroups = new Cgroups(
    options.hierarchies ?? findHierarchies(readMounts()),
    options.cgroupParent,
  );
  cgroups.prepare();
  for (const root of [options.dataRoot, options.execRoot]) {
    mkdirSync(join(root, CONTAINERS), { recursive: true, mode: 0o711 });
  }
  await loadDefaultProfile(options.log);
  const shimFd = await loadShim(options.shimPath);
  const nullFd = check(openFd('/dev/null', O_RDWR | O_CLOEXEC, 0), 'cannot open /dev/null');
  const table = new Table(options, cgroups, shimFd, nullFd);
  try {
    await table.adoptAll();
  } catch (error) {
    await table.close();
    throw error;
  }
  return table;
}

class Table implements ContainerTable {
  readonly #options: ContainerTableOptions;
  readonly #cgroups: Cgroups;
  readonly #context: ContainerContext;
  readonly #containers = new Map<string, ManagedContainer>();
  #isAdopting = true;
  #isClosed = false;

  constructor(options: ContainerTableOptions, cgroups: Cgroups, shimFd: number, nullFd: number) {
    this.#options = options;
    this.#cgroups = cgroups;
    this.#context = {
      clock: options.clock,
      log: options.log,
      cgroups,
      shimFd,
      nullFd,
      nursery: new Nursery({ shimFd, nullFd, cgroups, clock: options.clock }),
      sharedMemory: new SharedMemory(options.execRoot),
      find: (id) => this.#containers.get(id),
      onStart: (container) => options.onStart?.(container),
      onExit: (container) => {
        if (!this.#isAdopting && !this.#isClosed) options.onExit?.(container);
      },
      onRemoved: (container) => {
        this.#containers.delete(container.config.id);
        this.#removeNamedGroups(groupPath(container.config));
        options.onRemove?.(container);
      },
    };
  }

  async create(given: ContainerConfig): Promise<Container> {
    // What it is now it stays, whatever later daemons are told.
    const config = {
      ...given,
      userNamespace: this.#userNamespaceOf(given),
    };
    if (this.#isClosed) throw new SwarmError('unavailable', 'the daemon is stopping');
    if (this.#containers.has(config.id)) {
      throw new SwarmError('conflict', `container ${config.id} exists already`);
    }
    try {
      return this.#make(config);
    } catch (error) {
      this.#removeNamedGroups(groupPath(config));
      throw error;
    }
  }

  #make(config: ContainerConfig): Container {
    const paths = containerPaths(this.#options.dataRoot, this.#options.execRoot, config.id);
    // Everything that can be wrong with it is found now, not when it is started.
    const spec = buildSpec(config, paths, this.#cgroups);
    const dir = join(this.#options.dataRoot, CONTAINERS);
    if (config.writableBytes !== undefined) checkProjects(dir);
    try {
      makeDirectories(paths, [UPPER_DIR, WORK_DIR, LOG_DIR]);
      if (config.writableBytes !== undefined) {
        limitDirectories(
          [UPPER_DIR, WORK_DIR].map((name) => join(paths.dataDir, name)),
          config.writableBytes,
        );
      }
      // Renamed into place last: a directory without a configuration was never a container.
      writeConfig(paths.dataDir, config);
    } catch (error) {
      rmSync(paths.dataDir, { recursive: true, force: true });
      rmSync(paths.execDir, { recursive: true, force: true });
      throw new SwarmError('internal', `cannot create the container: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const container = new ManagedContainer(config, paths, this.#context, spec);
    this.#containers.set(config.id, container);
    this.#options.onCreate?.(container);
    return container;
  }

  /** Those above the one at `path` that no container names any more. */
  #removeNamedGroups(path: string): void {
    if (!path.includes('/')) return; // right below the daemon's
    this.#tryGroups(() => this.#cgroups.removeAbove(path, this.#groupPaths()));
  }

  /** They hold nothing: whatever else is being done counts. */
  #tryGroups(remove: () => void): void {
    try {
      remove();
    } catch (error) {
      this.#options.log.warn('cannot remove a control group', { error: messageOf(error) });
    }
  }

  #groupPaths(): readonly string[] {
    return [...this.#containers.values()].map(({ config }) => groupPath(config));
  }

  #userNamespaceOf({ userNamespace }: ContainerConfig): 'host' | IdMaps {
    const { userNamespace: usual, findUserNamespace } = this.#options;
    if (userNamespace === undefined) return usual ?? 'host';
    if (userNamespace !== 'own') return userNamespace;
    const own = usual ?? findUserNamespace?.();
    if (own !== undefined) return own;
    throw new SwarmError('unsupported', 'there are no ids for a user namespace on this host');
  }

  get(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  list(): readonly Container[] {
    return [...this.#containers.values()];
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const container of this.#containers.values()) container.close();
    this.#context.nursery.close();
    close(this.#context.shimFd);
    close(this.#context.nullFd);
  }

  async adoptAll(): Promise<void> {
    const dir = join(this.#options.dataRoot, CONTAINERS);
    const names = await readdir(dir);
    for (let at = 0; at < names.length; at += ADOPT_TOGETHER) {
      await Promise.all(names.slice(at, at + ADOPT_TOGETHER).map((name) => this.#adopt(dir, name)));
    }
    await this.#removeOrphans();
    this.#isAdopting = false;
  }

  async #adopt(dir: string, name: string): Promise<void> {
    const { execDir } = containerPaths(this.#options.dataRoot, this.#options.execRoot, name);
    const config = name.startsWith(REMOVED_PREFIX)
      ? undefined
      : readConfig(join(dir, name), existsSync(execDir), this.#options.log);
    if (config === undefined) {
      await removeLeft(join(dir, name), this.#options.log);
      return;
    }
    const paths = containerPaths(this.#options.dataRoot, this.#options.execRoot, name);
    const container = new ManagedContainer(config, paths, this.#context);
    this.#containers.set(config.id, container);
    try {
      await container.adopt();
    } catch (error) {
      this.#options.log.error('cannot find out what became of a container', {
        container: name,
        error: messageOf(error),
      });
    }
  }

  /** Groups, run-time directories and shared memory that no configuration belongs to. */
  async #removeOrphans(): Promise<void> {
    const { sharedMemory } = this.#context;
    for (const id of sharedMemory.ids()) {
      if (this.#containers.get(id)?.state !== 'running') sharedMemory.drop(id);
    }
    const execDir = join(this.#options.execRoot, CONTAINERS);
    for (const name of await readdir(execDir)) {
      if (this.#containers.has(name)) continue;
      await this.#killOrphan(name);
      await removeLeft(join(execDir, name), this.#options.log);
    }
    for (const path of this.#cgroups.list()) {
      if (!this.#containers.has(basename(path))) await this.#killOrphan(path);
    }
    // Of containers that were being made or removed when a daemon was killed.
    this.#tryGroups(() => this.#cgroups.removeUnused(this.#groupPaths()));
  }

  async #killOrphan(path: string): Promise<void> {
    for (let tries = 0; tries < KILL_TRIES && !this.#cgroups.remove(path); tries += 1) {
      this.#cgroups.kill(path);
      await this.#options.clock.sleep(KILL_POLL_MS);
    }
    this.#removeNamedGroups(path);
  }
}

/**
 * The configuration in `dir`; undefined when there is none. A damaged one was left by a power
 * failure if the host was rebooted since; otherwise it is SwarmError corrupt.
 */
function readConfig(dir: string, isThisBoot: boolean, log: Log): ContainerConfig | undefined {
  const file = join(dir, CONFIG_FILE);
  if (!existsSync(file)) return undefined;
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ContainerConfig;
  } catch (error) {
    if (!isThisBoot) {
      log.warn('removed a container whose configuration did not survive the reboot', { file });
      return undefined;
    }
    throw new SwarmError('corrupt', `${file} is damaged: remove ${dir} and start again`, {
      cause: error,
    });
  }
}

/**
 * A task's mounts as its container gets them. Bind sources are checked to exist, as Docker does for
 * services, and made only where that is asked for; volumes are made when they are not there, filled
 * with what the image has at the target, and held as long as the container is. What was made for
 * one container without a name goes with it.
 */
import { access, mkdir } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import { SwarmError } from '../base/errors.ts';
import { DEFAULT_MOUNT } from '../model/defaults.ts';
import type { MountSpec } from '../model/types.ts';
import type { Container, ContainerMount } from '../runtime/container/types.ts';
import type { VolumeStore } from '../runtime/volume/types.ts';

/** What of an image its container's mounts come from. */
export interface MountImage {
  /** Paths that get a volume of their own unless something else is mounted there. */
  readonly volumes: readonly string[];
  /** Unpacked layer directories, lowest first. */
  readonly layers: readonly string[];
}

export class TaskVolumes {
  readonly #store: VolumeStore;

  constructor(store: VolumeStore) {
    this.#store = store;
  }

  /** Containers of an earlier process hold their volumes again. */
  adopt(containers: Iterable<Container>): void {
    const byPath = new Map(this.#store.list().map(({ name, mountpoint }) => [mountpoint, name]));
    for (const { config } of containers) {
      for (const { source } of config.mounts) {
        const name = source === undefined ? undefined : byPath.get(source);
        if (name !== undefined) this.#store.hold(name, config.id);
      }
    }
  }

  /**
   * SwarmError invalid or unsupported with Docker's wording where it has one. Undone on failure.
   */
  async mounts(
    containerId: string,
    wanted: readonly MountSpec[],
    image: MountImage,
  ): Promise<readonly ContainerMount[]> {
    const covered = new Set(wanted.map(({ target }) => normalize(`${target}/`)));
    const own = image.volumes
      .filter((path) => !covered.has(normalize(`${path}/`)))
      .map((target): MountSpec => ({ ...DEFAULT_MOUNT, type: 'volume', source: '', target }));
    const all = [...wanted, ...own];
    const settled = await Promise.allSettled(
      all.map((mount) => this.#resolve(containerId, mount, image.layers)),
    );
    const failed = settled.find((one) => one.status === 'rejected');
    if (failed !== undefined) {
      await this.release(containerId);
      throw failed.reason;
    }
    return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  }

  /** The container is gone. */
  async release(containerId: string): Promise<void> {
    for (const { name, anonymous } of this.#store.list()) {
      const users = this.#store.users(name);
      if (!users.includes(containerId)) continue;
      this.#store.release(name, containerId);
      if (anonymous && users.length === 1) await this.#store.remove(name);
    }
  }

  async #resolve(
    containerId: string,
    mount: MountSpec,
    layers: readonly string[],
  ): Promise<ContainerMount> {
    const { target, readOnly } = mount;
    switch (mount.type) {
      case 'tmpfs':
        return {
          type: 'tmpfs',
          target,
          readOnly,
          ...(mount.tmpfsSizeBytes > 0 ? { sizeBytes: mount.tmpfsSizeBytes } : {}),
          ...(mount.tmpfsMode > 0 ? { mode: mount.tmpfsMode } : {}),
        };
      case 'bind':
        await checkBindSource(mount);
        return {
          type: 'bind',
          source: mount.source,
          target,
          readOnly,
          ...(mount.propagation === '' ? {} : { propagation: mount.propagation }),
          ...(mount.nonRecursive ? { nonRecursive: true } : {}),
        };
      case 'volume':
        return this.#resolveVolume(containerId, mount, layers);
    }
  }

  async #resolveVolume(
    containerId: string,
    mount: MountSpec,
    layers: readonly string[],
  ): Promise<ContainerMount> {
    const { target, readOnly, volume } = mount;
    const { name, mountpoint } = await this.#store.create({
      name: mount.source,
      driver: volume?.driver ?? '',
      labels: volume?.labels ?? {},
      options: volume?.driverOptions ?? {},
    });
    this.#store.hold(name, containerId);
    await this.#store.mount(name);
    if (volume?.noCopy !== true) await this.#store.fill(name, { layers, path: target });
    return { type: 'bind', source: mountpoint, target, readOnly, idMapped: true };
  }
}

async function checkBindSource({ source, createSource }: MountSpec): Promise<void> {
  const bad = `invalid mount config for type "bind": bind source path`;
  if (!isAbsolute(source)) throw new SwarmError('invalid', `${bad} must be absolute: ${source}`);
  if (createSource) await mkdir(source, { recursive: true });
  try {
    await access(source);
  } catch (cause) {
    throw new SwarmError('invalid', `${bad} does not exist: ${source}`, { cause });
  }
}

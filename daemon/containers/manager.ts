/**
 * All containers of this host as users name them: those they made (standalone.ts), found again
 * after a restart of the daemon or the host, and those of tasks. Makes new ones; what is done to
 * one is its own.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Container } from '../../runtime/container/types.ts';
import { noSuchImage } from '../../runtime/image/removal.ts';
import type { Image } from '../../runtime/image/types.ts';
import {
  detachContainer,
  forgetFiles,
  namespaceOf,
  networksOf,
  shareNetwork,
} from './attachment.ts';
import { type CommitRequest, commitContainer } from './commit.ts';
import {
  type Connectable,
  connectContainer,
  disconnectContainer,
  dropUnkept,
} from './connections.ts';
import type { HostContext } from './context.ts';
import { LocalEvents } from './events.ts';
import { Execs } from './execs.ts';
import type { Managed } from './managed.ts';
import { containerMounts, releaseVolumes, resolveMounts } from './mounts.ts';
import { CONTAINER_NAME, makeName } from './names.ts';
import { NetworkBook } from './networks.ts';
import { exposedPorts, planStandalone } from './plan.ts';
import { RecordFiles } from './records.ts';
import { dependsOn, shared } from './sharing.ts';
import { StandaloneContainer } from './standalone.ts';
import { TaskContainer } from './taskContainer.ts';
import type {
  AttachableNetworks,
  ContainerRecord,
  CreateRequest,
  EndpointSpec,
  MountPoint,
} from './types.ts';

export type ManagerOptions = Omit<
  HostContext,
  'networks' | 'events' | 'execs' | 'records' | 'exposedOf' | 'linkedTo' | 'forget' | 'attachable'
> & { readonly dataRoot: string };

export class LocalContainers {
  readonly networks: NetworkBook;
  readonly events: LocalEvents;
  readonly execs: Execs;
  readonly #context: HostContext;
  readonly #standalone = new Map<string, StandaloneContainer>();
  readonly #names = new Map<string, string>();
  readonly #holds = new Map<string, () => void>();
  readonly #tasks = new WeakMap<Container, TaskContainer>();

  readonly #swarm: { networks: AttachableNetworks | undefined } = { networks: undefined };

  private constructor(options: ManagerOptions) {
    const { dataRoot, clock, ids, log, network } = options;
    this.events = new LocalEvents(clock);
    this.execs = new Execs(ids, this.events);
    this.networks = new NetworkBook({ dataRoot, network, clock, ids, log, events: this.events });
    const swarm = this.#swarm;
    this.#context = {
      ...options,
      networks: this.networks,
      events: this.events,
      execs: this.execs,
      records: new RecordFiles<ContainerRecord>(join(dataRoot, 'standalone'), log),
      get attachable() {
        return swarm.networks;
      },
      exposedOf: (id) => this.#exposedOf(id),
      linkedTo: (id) => this.#linkedTo(id),
      forget: ({ id }) => this.#forget(id),
    };
    options.images.onEvent(({ action, id, name }) => {
      this.events.emit('image', action, id, { name });
    });
  }

  /** Something became of a container; what users made tells its own events. */
  taskEvent(action: string, { config, exit }: Container): void {
    if (config.standalone === true) return;
    this.events.emit('container', action, config.id, {
      ...config.labels,
      image: config.image.reference,
      name: config.name,
      ...(action === 'die' ? { exitCode: String(exit?.exitCode ?? 0) } : {}),
    });
  }

  /** The cluster's networks can be had from now on. */
  useAttachable(networks: AttachableNetworks): void {
    this.#swarm.networks = networks;
  }

  /** With nothing taken up again. */
  static make(options: ManagerOptions): LocalContainers {
    return new LocalContainers(options);
  }

  /** Containers that a user left running run on; those a policy brings back are started. */
  static async open(options: ManagerOptions): Promise<LocalContainers> {
    const all = LocalContainers.make(options);
    await all.networks.restore();
    await all.#adopt();
    return all;
  }

  async #adopt(): Promise<void> {
    const { containers, records, log, volumes, images } = this.#context;
    for (const record of records.load()) {
      const container = containers.get(record.id);
      if (container === undefined) {
        await this.#finishRemoval(record);
        continue;
      }
      for (const { type, name } of record.mounts) {
        if (type === 'volume') volumes.hold(name, record.id);
        if (type === 'image') images.hold(name, record.id);
      }
      const exposed = exposedPorts(record.spec, images.find(record.imageId));
      this.#keep(new StandaloneContainer(this.#context, record, container, exposed));
    }
    for (const container of containers.list()) {
      const { id, standalone } = container.config;
      if (standalone !== true || this.#standalone.has(id)) continue;
      if (records.isDamaged(id)) {
        // Its files are a user's.
        log.error('a container whose record is damaged is left alone', { container: id });
        continue;
      }
      log.warn('a container without a record is removed', { container: id });
      await container.remove();
    }
    const taken = new Map<string, Promise<void>>();
    // Each on its own: one that cannot start keeps no other from it. But who shares something of
    // another's comes after that one, which was made before it.
    const inOrder = [...this.#standalone.values()].toSorted(
      (left, right) => left.record.createdAtMs - right.record.createdAtMs,
    );
    for (const container of inOrder) {
      const before = Promise.all(dependsOn(container.record.spec).map((id) => taken.get(id)));
      const adopted = before
        .then(() => container.adopt())
        .then(() => dropUnkept(this.#context, container));
      taken.set(
        container.id,
        adopted.catch((error: unknown) => {
          log.warn('a container could not be taken up again', {
            container: container.id,
            error: messageOf(error),
          });
        }),
      );
    }
  }

  /** The daemon died while the container was made or removed: what else it had goes as well. */
  async #finishRemoval(record: ContainerRecord): Promise<void> {
    const { records, log } = this.#context;
    try {
      await detachContainer(this.#context, record);
      forgetFiles(this.#context, record);
      await releaseVolumes(this.#context, record.id, record.mounts, record.spec.autoRemove);
      records.remove(record.id);
    } catch (error) {
      // Its record stays, so that the next daemon tries again.
      log.error('what a removed container left could not be removed', {
        container: record.id,
        error: messageOf(error),
      });
    }
  }

  #keep(container: StandaloneContainer): void {
    const { id, name, record } = container;
    this.#standalone.set(id, container);
    this.#names.set(name, id);
    try {
      this.#holds.set(id, this.#context.images.hold(record.imageId, id));
    } catch (error) {
      // The image went away under a container of an earlier process: its layers are in use, not it.
      this.#context.log.warn('image of a container is gone', {
        container: name,
        error: messageOf(error),
      });
    }
  }

  #exposedOf(id: string): readonly string[] {
    const record = this.#standalone.get(id)?.record;
    const image = this.#context.containers.get(id)?.config.image.id ?? '';
    return exposedPorts(record?.spec, this.#context.images.find(image));
  }

  #linkedTo(id: string): readonly ContainerRecord[] {
    return [...this.#standalone.values()]
      .map(({ record }) => record)
      .filter(({ spec }) => spec.links?.some(({ container }) => container === id));
  }

  #forget(id: string): void {
    const container = this.#standalone.get(id);
    if (container === undefined) return;
    this.#standalone.delete(id);
    if (this.#names.get(container.name) === id) this.#names.delete(container.name);
    this.#holds.get(id)?.();
    this.#holds.delete(id);
  }

  /** Newest first, as Docker lists them. */
  list(): readonly Managed[] {
    const all = this.#context.containers.list().map((container) => this.#managed(container));
    return all.filter((each) => each !== undefined).toReversed();
  }

  #managed(container: Container): Managed | undefined {
    const { id, standalone } = container.config;
    // One that is being made or removed at this moment is not shown.
    if (standalone === true) return this.#standalone.get(id);
    let task = this.#tasks.get(container);
    if (task === undefined) {
      task = new TaskContainer(this.#context, container);
      this.#tasks.set(container, task);
    }
    return task;
  }

  /** By id, name, or a prefix of the id that fits no other. SwarmError not_found, invalid. */
  find(key: string): Managed {
    const name = key.replace(/^\//, '');
    const exact = this.#standalone.get(name) ?? this.#standalone.get(this.#names.get(name) ?? '');
    if (exact !== undefined) return exact;
    const all = this.list();
    const found = all.find((each) => each.id === name) ?? all.find((each) => each.name === name);
    if (found !== undefined) return found;
    const fitting = /^[0-9a-f]+$/.test(name) ? all.filter(({ id }) => id.startsWith(name)) : [];
    if (fitting.length === 1) return fitting[0];
    if (fitting.length > 1) {
      throw new SwarmError('invalid', `multiple IDs found with provided prefix: ${name}`);
    }
    throw new SwarmError('not_found', `No such container: ${key}`);
  }

  /** Users of an image, a volume or a network, by name. */
  standalone(): readonly StandaloneContainer[] {
    return [...this.#standalone.values()];
  }

  async create(request: CreateRequest): Promise<StandaloneContainer> {
    const { images, ids, random, containers, clock, execRoot, records } = this.#context;
    const { spec, network } = shared(request.spec, (key) => this.find(key).container);
    const image = images.find(spec.image);
    if (image === undefined) throw noSuchImage(spec.image);
    const id = ids.container();
    const name = this.#reserveName(request.name, id, () =>
      makeName(random, (candidate) => this.#isTaken(candidate)),
    );
    let mounts: readonly MountPoint[] = [];
    // From now on, so that it is not removed while volumes are filled from it.
    const release = images.hold(image.id, id);
    try {
      const planned = planStandalone(id, name, spec, image, hostname());
      const networks = await networksOf(this.#context, spec);
      const layers = await images.layers(image.id);
      mounts = await resolveMounts(this.#context, this.#mountInput(id, request, image, layers));
      const record: ContainerRecord = {
        format: 1,
        id,
        createdAtMs: clock.wallMs(),
        name,
        imageId: image.id,
        spec,
        hostConfig: request.hostConfig,
        mounts,
        networks,
        stoppedByUser: false,
        restartCount: 0,
        error: '',
        errorExitCode: 0,
        startedBefore: false,
        ports: [],
      };
      records.save(record);
      const container = await containers.create({
        ...planned,
        ...(network === undefined
          ? namespaceOf(execRoot, id, spec.networkMode)
          : shareNetwork(network)),
        layers,
        mounts: containerMounts(mounts),
      });
      const exposed = exposedPorts(spec, image);
      const made = new StandaloneContainer(this.#context, record, container, exposed);
      this.#keep(made);
      made.emit('create');
      return made;
    } catch (error) {
      this.#names.delete(name);
      release();
      records.remove(id);
      await releaseVolumes(this.#context, id, mounts, true);
      throw error;
    }
  }

  #mountInput(id: string, request: CreateRequest, image: Image, layers: readonly string[]) {
    const { spec } = request;
    return {
      containerId: id,
      requests: spec.mounts,
      anonymous: [...new Set([...image.config.volumes, ...spec.anonymousVolumes])],
      inherited: spec.volumesFrom.flatMap((text) => this.#mountsOf(text)),
      layers,
    };
  }

  /** '<container>[:ro|rw]' */
  #mountsOf(text: string): readonly MountPoint[] {
    const [key, mode = ''] = text.split(':');
    if (!['', 'ro', 'rw', 'z', 'Z'].includes(mode)) {
      throw new SwarmError('invalid', `invalid mode for volumes-from: ${mode}`);
    }
    const { mounts } = this.find(key).view();
    return mounts.map((mount) => (mode === 'ro' ? { ...mount, readOnly: true } : mount));
  }

  #isTaken(name: string): boolean {
    return this.#names.has(name);
  }

  #reserveName(wanted: string, id: string, make: () => string): string {
    const name = wanted.replace(/^\//, '');
    if (name === '') {
      const made = make();
      this.#names.set(made, id);
      return made;
    }
    if (!CONTAINER_NAME.test(name)) {
      throw new SwarmError(
        'invalid',
        `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
      );
    }
    const owner =
      this.#names.get(name) ??
      this.#context.containers.list().find(({ config }) => config.name === name)?.config.id;
    if (owner !== undefined) {
      throw new SwarmError(
        'conflict',
        `Conflict. The container name "/${name}" is already in use by container "${owner}". You ` +
          'have to remove (or rename) that container to be able to reuse that name.',
      );
    }
    this.#names.set(name, id);
    return name;
  }

  commit(container: Managed, request: CommitRequest): Promise<Image> {
    return commitContainer(this.#context, container, request);
  }

  async rename(container: Managed, wanted: string): Promise<void> {
    if (wanted.replace(/^\//, '') === '') {
      throw new SwarmError('invalid', 'Neither old nor new names may be empty');
    }
    const name = this.#reserveName(wanted, container.id, () => '');
    try {
      this.#names.delete(await container.rename(name));
    } catch (error) {
      this.#names.delete(name);
      throw error;
    }
  }

  /** By name or id, of this host or the cluster; undefined when there is none to connect to. */
  async connectable(nameOrId: string): Promise<Connectable | undefined> {
    const local = this.networks.find(nameOrId);
    if (local !== undefined) return local;
    const found = await this.#context.attachable?.find(nameOrId);
    return found === undefined ? undefined : { ...found, driver: 'overlay' };
  }

  /** Container by id or name. SwarmError forbidden, conflict. */
  async connect(key: string, network: Connectable, wish: EndpointSpec): Promise<void> {
    await connectContainer(this.#context, this.#own(key), network, wish);
  }

  async disconnect(key: string, network: Connectable): Promise<void> {
    await disconnectContainer(this.#context, this.#own(key), network);
  }

  #own(key: string): StandaloneContainer {
    const found = this.find(key);
    if (found instanceof StandaloneContainer) return found;
    throw new SwarmError(
      'conflict',
      `container ${found.name} belongs to a service: use tsswarm service update --network-add`,
    );
  }

  /** Containers run on; nothing is started or removed any more. */
  close(): void {
    for (const container of this.#standalone.values()) container.close();
  }
}

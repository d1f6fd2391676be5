/**
 * A host's runtime without a host, for tests of the agent and for the simulator's tests: containers
 * are records that end when a test says so, images are names, the network remembers what it was
 * told. It implements the runtime's interfaces and nothing more.
 */
import { SwarmError } from '../../base/errors.ts';
import type { MemoryFile, MemoryFiles } from '../../runtime/container/memoryFiles.ts';
import type {
  Container,
  ContainerConfig,
  ContainerState,
  ContainerTable,
  ExitRecord,
  LogQuery,
  LogRecord,
} from '../../runtime/container/types.ts';
import type { Image, ImageConfig, ImageStore } from '../../runtime/image/types.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
  HostNetwork,
  IngressState,
  OverlayPeer,
  OverlayState,
  PublishedPort,
} from '../../runtime/net/types.ts';
import type { CopyUp, Volume, VolumeRequest, VolumeStore } from '../../runtime/volume/types.ts';

const FIRST_PID = 1000;

/** What a test of the agent does not ask of a container. */
function unasked(): never {
  throw new Error('not part of what this fake does');
}

export class FakeContainer implements Container {
  readonly paused = false;
  attach = unasked;
  exec = unasked;
  pause = unasked;
  resume = unasked;
  resize = unasked;
  processes = unasked;
  update = unasked;
  readonly notes: readonly string[] = [];
  detailedStats = unasked;
  changes = unasked;
  statPath = unasked;
  readArchive = unasked;
  writeArchive = unasked;
  exportRoot = unasked;
  layer = unasked;
  writableBytes = unasked;
  config: ContainerConfig;
  readonly #table: FakeContainers;
  state: ContainerState = 'created';
  pid = 0;
  createdAtMs = 0;
  startedAtMs = 0;
  exit: ExitRecord | undefined;
  signals: string[] = [];
  /** Does not end by these. */
  deafTo: readonly string[] = [];
  records: LogRecord[] = [];
  #ended: (record: ExitRecord) => void = () => {};
  #end = this.#nextEnd();

  constructor(table: FakeContainers, config: ContainerConfig) {
    this.#table = table;
    this.config = config;
  }

  #nextEnd(): Promise<ExitRecord> {
    return new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  async start(): Promise<void> {
    await this.#table.gate('start', this.config);
    if (this.exit !== undefined) this.#end = this.#nextEnd();
    this.exit = undefined;
    this.state = 'running';
    this.#table.pids += 1;
    this.pid = FIRST_PID + this.#table.pids;
    this.startedAtMs = 1;
  }

  async kill(signal: string): Promise<void> {
    this.signals.push(signal);
    if (this.deafTo.includes(signal)) return;
    this.end({ exitCode: 137, signal: 9 });
  }

  async stop(graceMs: number): Promise<ExitRecord> {
    await this.#table.gate('stop', this.config);
    this.signals.push(`stop ${graceMs}`);
    return this.end({ exitCode: 143, signal: 15 });
  }

  wait(): Promise<ExitRecord> {
    return this.#end;
  }

  async *logs(query: LogQuery): AsyncIterable<LogRecord> {
    const records = query.tail === undefined ? this.records : this.records.slice(-query.tail);
    yield* records;
  }

  async rename(name: string): Promise<void> {
    this.config = { ...this.config, name };
  }

  async stats() {
    return { memoryBytes: 0, cpuNs: 0, pids: 1 };
  }

  async remove(): Promise<void> {
    await this.#table.gate('remove', this.config);
    if (this.state === 'running') this.end({ exitCode: 137, signal: 9 });
    this.#table.all.delete(this.config.id);
  }

  /** What the program does by itself. */
  end(record: Partial<ExitRecord>): ExitRecord {
    this.state = 'exited';
    this.pid = 0;
    this.exit = {
      exitCode: 0,
      signal: 0,
      oomKilled: false,
      startedAtMs: 1,
      finishedAtMs: 2,
      ...record,
    };
    this.#ended(this.exit);
    return this.exit;
  }
}

type Call = 'create' | 'start' | 'stop' | 'remove';

export class FakeContainers implements ContainerTable {
  readonly all = new Map<string, FakeContainer>();
  pids = 0;
  /** Tests make calls wait or fail here. */
  readonly gates = new Map<Call, (config: ContainerConfig) => Promise<void>>();

  async gate(call: Call, config: ContainerConfig): Promise<void> {
    await this.gates.get(call)?.(config);
  }

  async create(config: ContainerConfig): Promise<Container> {
    await this.gate('create', config);
    const container = new FakeContainer(this, config);
    this.all.set(config.id, container);
    return container;
  }

  get(id: string): FakeContainer | undefined {
    return this.all.get(id);
  }

  list(): readonly FakeContainer[] {
    return [...this.all.values()];
  }

  /** The container of a task. */
  of(taskId: string): FakeContainer {
    const found = this.list().find(
      (one) => one.config.labels['com.docker.swarm.task.id'] === taskId,
    );
    if (found === undefined) throw new Error(`no container of task ${taskId}`);
    return found;
  }

  async close(): Promise<void> {}
}

const IMAGE_CONFIG: ImageConfig = {
  architecture: 'amd64',
  os: 'linux',
  createdAtMs: 0,
  entrypoint: [],
  cmd: ['/bin/serve'],
  env: ['PATH=/bin', 'MODE=image'],
  workingDir: '/srv',
  user: '',
  labels: {},
  exposedPorts: [],
  volumes: [],
  stopSignal: '',
};

function unused(): never {
  throw new Error('not part of what the agent uses');
}

export class FakeImages implements ImageStore {
  readonly known = new Map<string, Image>();
  readonly held = new Map<string, string>();
  pulled: string[] = [];

  add(reference: string, config: Partial<ImageConfig> = {}): Image {
    const image: Image = {
      id: `sha256:${reference}`,
      tags: [reference],
      digests: [],
      config: { ...IMAGE_CONFIG, ...config },
      sizeBytes: 1,
      diffIds: ['sha256:0'],
      taggedAtMs: 0,
    };
    this.known.set(reference, image);
    return image;
  }

  list(): readonly Image[] {
    return [...this.known.values()];
  }

  find(reference: string): Image | undefined {
    return this.known.get(reference);
  }

  async layers(): Promise<readonly string[]> {
    return ['/layers/0'];
  }

  commit = unused;
  collect = unused;

  async pull(reference: string): Promise<Image> {
    this.pulled.push(reference);
    if (reference.startsWith('registry/')) return this.add(reference);
    throw new SwarmError('unavailable', 'registry docker.io cannot be reached');
  }

  hold(imageId: string, containerId: string): () => void {
    this.held.set(containerId, imageId);
    return () => this.held.delete(containerId);
  }

  load = unused;
  import = unused;
  remove = unused;
  tag = unused;
  save = unused;
  remoteTags = unused;
  resolve = unused;
  local = unused;
  push = unused;
  login = unused;
  configuration = unused;
  layerUse = unused;
  usage = unused;
  prune = unused;
  onEvent = unused;

  async close(): Promise<void> {}
}

export class FakeNetwork implements HostNetwork {
  self: OverlayPeer | undefined;
  readonly overlays = new Map<string, OverlayState>();
  ingress: IngressState | undefined;
  readonly attached = new Map<string, AttachRequest>();
  /** What happened, in order. */
  readonly calls: string[] = [];
  readonly published = new Map<string, readonly PublishedPort[]>();
  failOverlay = 0;

  async setSelf(self: OverlayPeer | undefined): Promise<void> {
    this.calls.push('self');
    this.self = self;
  }

  async applyOverlay(state: OverlayState): Promise<void> {
    if (this.failOverlay > 0) {
      this.failOverlay -= 1;
      throw new SwarmError('internal', 'no vxlan here');
    }
    this.calls.push(`overlay ${state.networkId}`);
    this.overlays.set(state.networkId, state);
  }

  async removeOverlay(networkId: string): Promise<void> {
    this.calls.push(`remove ${networkId}`);
    this.overlays.delete(networkId);
  }

  async applyIngress(state: IngressState): Promise<void> {
    this.calls.push('ingress');
    this.ingress = state;
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    for (const overlay of request.overlays) {
      if (this.overlays.has(overlay.networkId)) continue;
      throw new SwarmError('not_found', `overlay ${overlay.networkId} was not applied`);
    }
    this.calls.push(`attach ${request.containerId}`);
    this.attached.set(request.containerId, request);
    return this.#attachment(request);
  }

  async detach(containerId: string): Promise<void> {
    this.calls.push(`detach ${containerId}`);
    this.attached.delete(containerId);
  }

  attachments(): readonly Attachment[] {
    return [...this.attached.values()].map((request) => this.#attachment(request));
  }

  async reconcile(): Promise<readonly string[]> {
    this.calls.push('reconcile');
    return [];
  }

  async prune(containerIds: ReadonlySet<string>): Promise<void> {
    for (const id of this.attached.keys()) if (!containerIds.has(id)) this.attached.delete(id);
  }

  async close(): Promise<void> {}

  createBridge = unused;
  removeBridge = unused;
  connect = unused;
  disconnect = unused;
  rename = unused;
  follow = unused;
  started = (): void => {};

  async publish(
    containerId: string,
    ports: readonly PublishedPort[],
  ): Promise<readonly PublishedPort[]> {
    this.published.set(containerId, ports);
    return ports;
  }

  bridges = (): readonly BridgeNetwork[] => [];
  endpoints = (): readonly Endpoint[] => [];

  #attachment(request: AttachRequest): Attachment {
    return {
      containerId: request.containerId,
      namespacePath: `/netns/${request.containerId}`,
      gatewayAddress: request.gateway ? '172.20.0.2' : '',
      hostsFile: '/run/hosts',
      hostnameFile: '/run/hostname',
      resolvConfFile: '/run/resolv.conf',
    };
  }
}

export class FakeVolumes implements VolumeStore {
  readonly known = new Map<string, Volume>();
  readonly held = new Map<string, Set<string>>();
  readonly filled: string[] = [];

  async create({ name, labels, options }: VolumeRequest): Promise<Volume> {
    const named = name === '' ? `anonymous${this.known.size}` : name;
    const found = this.known.get(named);
    if (found !== undefined) return found;
    const volume: Volume = {
      name: named,
      driver: 'local',
      labels,
      options,
      createdAtMs: 0,
      mountpoint: `/volumes/${named}`,
      anonymous: name === '',
    };
    this.known.set(named, volume);
    return volume;
  }

  get(name: string): Volume | undefined {
    return this.known.get(name);
  }

  list(): readonly Volume[] {
    return [...this.known.values()];
  }

  async remove(name: string): Promise<void> {
    this.known.delete(name);
  }

  hold(name: string, containerId: string): void {
    this.held.set(name, new Set([...this.users(name), containerId]));
  }

  release(name: string, containerId: string): void {
    this.held.get(name)?.delete(containerId);
  }

  users(name: string): readonly string[] {
    return [...(this.held.get(name) ?? [])];
  }

  async mount(): Promise<void> {}

  async fill(name: string, { path }: CopyUp): Promise<void> {
    this.filled.push(`${name} ${path}`);
  }

  sizeBytes = unused;
}

export class FakeMemoryFiles implements MemoryFiles {
  readonly made = new Map<string, readonly MemoryFile[]>();

  make(id: string, files: readonly MemoryFile[]): string {
    this.made.set(id, files);
    return `/memory/${id}`;
  }

  has(id: string): boolean {
    return this.made.has(id);
  }

  drop(id: string): void {
    this.made.delete(id);
  }

  ids(): readonly string[] {
    return [...this.made.keys()];
  }
}

export interface FakeRuntime {
  readonly containers: FakeContainers;
  readonly images: FakeImages;
  readonly network: FakeNetwork;
  readonly volumes: FakeVolumes;
  readonly memoryFiles: FakeMemoryFiles;
}

export function fakeRuntime(): FakeRuntime {
  const images = new FakeImages();
  images.add('web');
  return {
    containers: new FakeContainers(),
    images,
    network: new FakeNetwork(),
    volumes: new FakeVolumes(),
    memoryFiles: new FakeMemoryFiles(),
  };
}

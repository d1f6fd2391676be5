/**
 * Runs tasks as containers of this host: the controller that step's actions call, and the executor
 * that makes controllers and finds containers left by an earlier process by their task id label.
 * It decides nothing about a task's fate.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Ids } from '../base/id.ts';
import { bareAddress } from '../base/ipAddress.ts';
import type { Log } from '../base/log.ts';
import type { MountSpec, Task } from '../model/types.ts';
import { effectiveCheck } from '../runtime/container/health.ts';
import type { MemoryFiles } from '../runtime/container/memoryFiles.ts';
import type {
  Container,
  ContainerConfig,
  ContainerMount,
  ContainerResources,
  ContainerTable,
} from '../runtime/container/types.ts';
import { parseRegistryAuth } from '../runtime/image/credentials.ts';
import type { Image, ImageStore } from '../runtime/image/types.ts';
import type { Attachment, HostNetwork, PublishedPort } from '../runtime/net/types.ts';
import type { VolumeStore } from '../runtime/volume/types.ts';
import { AttachmentController, isAttachment } from './attachmentController.ts';
import {
  exitOf,
  filesOf,
  gone,
  healthOf,
  hostEntry,
  labelsOf,
  namespaceOf,
  raceAbort,
  settledValue,
} from './containerParts.ts';
import {
  type ContainerPlan,
  type NetworkPlan,
  planContainer,
  planNetwork,
  TASK_ID_LABEL,
  templateContext,
} from './containerPlan.ts';
import type {
  Controller,
  Executor,
  Exit,
  HealthReport,
  Prepared,
  Started,
  TaskLogQuery,
  TaskLogRecord,
} from './controller.ts';
import { watchHealth } from './health.ts';
import type { Networks } from './networks.ts';
import type { Secrets } from './secrets.ts';
import type { TemplateContext } from './template.ts';
import { TaskVolumes } from './volumes.ts';

/** The rooms of the runtime an agent needs. */
export interface HostRuntime {
  readonly containers: ContainerTable;
  readonly images: ImageStore;
  readonly network: HostNetwork;
  readonly volumes: VolumeStore;
  readonly memoryFiles: MemoryFiles;
}

export interface ContainerExecutorOptions {
  readonly runtime: Pick<HostRuntime, 'containers' | 'images' | 'volumes'>;
  readonly networks: Networks;
  readonly secrets: Secrets;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** What templates say about this node. */
  readonly node: () => TemplateContext['node'];
}

/** A registry that is away is told as the task's reason; its restart policy tries again. */
const PULL_CONNECT_MS = 900;
/** A stray container is stopped like any other, but not waited for long. */
const STRAY_GRACE_MS = 5000;

export class ContainerExecutor implements Executor {
  readonly networks: Networks;
  readonly secrets: Secrets;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly node: () => TemplateContext['node'];
  readonly volumes: TaskVolumes;
  readonly #containers: ContainerTable;
  readonly #images: ImageStore;
  readonly #byTask = new Map<string, Container>();
  readonly #holds = new Map<string, () => void>();
  readonly #pulls = new Map<string, Promise<Image>>();

  constructor(options: ContainerExecutorOptions) {
    this.networks = options.networks;
    this.secrets = options.secrets;
    this.clock = options.clock;
    this.ids = options.ids;
    this.log = options.log;
    this.node = options.node;
    this.#containers = options.runtime.containers;
    this.#images = options.runtime.images;
    this.volumes = new TaskVolumes(options.runtime.volumes);
    for (const container of this.#containers.list()) {
      const taskId = container.config.labels[TASK_ID_LABEL];
      if (taskId === undefined || container.config.standalone === true) continue;
      this.#byTask.set(taskId, container);
      this.#hold(container.config);
    }
    this.volumes.adopt(this.#byTask.values());
  }

  controller(task: Task): Controller {
    if (isAttachment(task)) return new AttachmentController(this.networks, task);
    return new ContainerController(this, task);
  }

  /** Takes back what a process that died in the middle had attached for no container. */
  sweep(): Promise<void> {
    const living = this.#containers.list().filter(({ state }) => state !== 'exited');
    this.secrets.sweep(living.map(({ config }) => config.id));
    return this.networks.sweep(this.#containers.list().map((container) => container.config.id));
  }

  present(): readonly string[] {
    return [...this.#byTask.keys()];
  }

  container(taskId: string): Container | undefined {
    return this.#byTask.get(taskId);
  }

  async removeStray(taskId: string): Promise<void> {
    const container = this.#byTask.get(taskId);
    if (container === undefined) return;
    this.log.info('container of a task that is not assigned here is removed', {
      task: taskId,
      container: container.config.name,
    });
    if (container.state === 'running') await container.stop(STRAY_GRACE_MS);
    await this.removeContainer(taskId);
  }

  async *logs(
    taskId: string,
    query: TaskLogQuery,
    signal: AbortSignal,
  ): AsyncIterable<TaskLogRecord> {
    const container = this.#byTask.get(taskId);
    if (container === undefined) {
      throw new SwarmError('not_found', `no container of task ${taskId} on this node`);
    }
    const records = container.logs({
      follow: query.follow,
      stdout: query.stdout,
      stderr: query.stderr,
      signal,
      ...(query.sinceNs > 0n ? { sinceNs: query.sinceNs } : {}),
      ...(query.tail >= 0 ? { tail: query.tail } : {}),
    });
    for await (const record of records) {
      const data = record.partial ? record.data : Buffer.concat([record.data, NEWLINE]);
      yield { timeNs: record.timeNs, stream: record.stream, data };
    }
  }

  /** The image on this host, else pulled; once for all that ask for it meanwhile. */
  async image(reference: string, registryAuth: string, signal: AbortSignal): Promise<Image> {
    const found = this.#images.find(reference);
    if (found !== undefined) return found;
    // Who has other credentials may be let in where these are not.
    const key = `${reference} ${registryAuth}`;
    let pull = this.#pulls.get(key);
    if (pull === undefined) {
      pull = this.#pull(reference, registryAuth).finally(() => this.#pulls.delete(key));
      this.#pulls.set(key, pull);
    }
    return raceAbort(pull, signal);
  }

  /** What its root is made of: the image's layers, and what is mounted. */
  async root(
    containerId: string,
    { id, config }: Image,
    wanted: readonly MountSpec[],
  ): Promise<{ layers: readonly string[]; mounts: readonly ContainerMount[] }> {
    const layers = await this.#images.layers(id);
    const image = { volumes: config.volumes, layers };
    return { layers, mounts: await this.volumes.mounts(containerId, wanted, image) };
  }

  async createContainer(taskId: string, config: ContainerConfig): Promise<Container> {
    this.#hold(config);
    try {
      const container = await this.#containers.create(config);
      this.#byTask.set(taskId, container);
      return container;
    } catch (error) {
      this.#unhold(config.id);
      throw error;
    }
  }

  async removeContainer(taskId: string): Promise<void> {
    const container = this.#byTask.get(taskId);
    if (container === undefined) return;
    await container.remove();
    this.secrets.release(container.config.id);
    await this.volumes.release(container.config.id);
    if (typeof container.config.networkNamespace === 'object') {
      await this.networks.detach(container.config.id);
    }
    this.#unhold(container.config.id);
    if (this.#byTask.get(taskId) === container) this.#byTask.delete(taskId);
  }

  #hold(config: ContainerConfig): void {
    try {
      this.#holds.set(config.id, this.#images.hold(config.image.id, config.id));
    } catch (error) {
      // The image went away under a container of an earlier process: its layers are in use, not it.
      this.log.warn('image of a container is gone', {
        container: config.name,
        image: config.image.reference,
        error: messageOf(error),
      });
    }
  }

  #unhold(containerId: string): void {
    this.#holds.get(containerId)?.();
    this.#holds.delete(containerId);
  }

  async #pull(reference: string, registryAuth: string): Promise<Image> {
    try {
      const auth = parseRegistryAuth(registryAuth);
      return await this.#images.pull(reference, {
        connectMs: PULL_CONNECT_MS,
        ...(auth === undefined ? {} : { auth }),
      });
    } catch (cause) {
      const message = `No such image: ${reference} (${messageOf(cause)})`;
      throw new SwarmError('not_found', message, { cause });
    }
  }
}

const NEWLINE = Buffer.from('\n');

class ContainerController implements Controller {
  readonly #executor: ContainerExecutor;
  readonly #task: Task;
  #gatewayAddress: string;

  constructor(executor: ContainerExecutor, task: Task) {
    this.#executor = executor;
    this.#task = task;
    this.#gatewayAddress = task.status.gatewayAddress;
    const found = this.#container();
    if (found === undefined || typeof found.config.networkNamespace !== 'object') return;
    const overlays = task.networks.filter((network) => network.address !== '');
    const attachment = executor.networks.adopt(
      found.config.id,
      overlays.map((network) => network.networkId),
    );
    if (attachment !== undefined) this.#gatewayAddress = attachment.gatewayAddress;
  }

  async prepare(signal: AbortSignal): Promise<Prepared> {
    const found = this.#container();
    if (found !== undefined) {
      if (this.#isUsable(found)) return this.#prepared(found);
      await this.remove();
    }
    const spec = this.#task.spec.container;
    const network = planNetwork(this.#task);
    const image = await this.#executor.image(spec.image, spec.registryAuth, signal);
    const containerId = this.#executor.ids.container();
    const context = templateContext(this.#task, this.#executor.node());
    const plan = planContainer(this.#task, image.config, context, containerId);
    const [attached, rooted, files] = await Promise.allSettled([
      this.#attach(containerId, plan, network),
      this.#executor.root(containerId, image, plan.mounts),
      this.#executor.secrets.mounts(containerId, spec, context, signal),
    ]);
    try {
      const attachment = settledValue(attached);
      const config: ContainerConfig = {
        ...this.#config(containerId, plan),
        image: { reference: spec.image, id: image.id },
        ...healthOf(image, spec),
        layers: settledValue(rooted).layers,
        mounts: [...settledValue(rooted).mounts, ...settledValue(files)],
        networkNamespace: namespaceOf(network, attachment),
        ...(attachment === undefined ? {} : filesOf(attachment)),
      };
      if (signal.aborted) throw new SwarmError('cancelled', 'stopped while it was prepared');
      const container = await this.#executor.createContainer(this.#task.id, config);
      this.#gatewayAddress = attachment?.gatewayAddress ?? '';
      return this.#prepared(container);
    } catch (error) {
      this.#executor.secrets.release(containerId);
      await this.#executor.volumes.release(containerId);
      if (attached.status === 'fulfilled' && attached.value !== undefined) {
        await this.#executor.networks.detach(containerId);
      }
      throw error;
    }
  }

  async start(): Promise<Started> {
    const container = this.#container();
    if (container === undefined) throw gone();
    if (container.state === 'created') {
      await this.#publish(container, this.#ports());
      await container.start();
    }
    const isChecked = effectiveCheck(container.config.healthCheck) !== undefined;
    return { ...this.#prepared(container), pid: container.pid, isChecked };
  }

  watchHealth(wasHealthy: boolean, tell: (report: HealthReport) => void): () => void {
    const container = this.#container();
    if (container === undefined) return () => {};
    return watchHealth(this.#executor.clock, container, wasHealthy, tell);
  }

  async wait(): Promise<Exit> {
    const container = this.#container();
    if (container === undefined) return { exitCode: 0, oomKilled: false, error: gone().message };
    return exitOf(await container.wait());
  }

  async shutdown(graceMs: number): Promise<Exit | undefined> {
    const container = this.#container();
    if (container === undefined || container.state === 'created') return undefined;
    const exit = exitOf(container.exit ?? (await container.stop(graceMs)));
    // Whoever comes next in its slot may want the very same ports.
    if (this.#ports().length > 0) await this.#publish(container, []);
    return exit;
  }

  /** Ports of this host that are the task's own (publish mode host). */
  #ports(): readonly PublishedPort[] {
    return this.#task.ports
      .filter(({ publishMode }) => publishMode === 'host')
      .map(({ protocol, hostAddress, publishedPort, targetPort }) => ({
        protocol,
        hostAddress,
        hostPort: publishedPort,
        containerPort: targetPort,
      }));
  }

  async #publish({ config }: Container, ports: readonly PublishedPort[]): Promise<void> {
    // On the host's own network a program has the ports that it listens on.
    if (this.#ports().length === 0 || typeof config.networkNamespace !== 'object') return;
    await this.#executor.networks.publish(config.id, ports);
  }

  async release(): Promise<void> {
    const container = this.#container();
    if (container !== undefined) this.#executor.secrets.release(container.config.id);
    if (typeof container?.config.networkNamespace !== 'object') return;
    await this.#executor.networks.detach(container.config.id);
  }

  remove(): Promise<void> {
    return this.#executor.removeContainer(this.#task.id);
  }

  #container(): Container | undefined {
    return this.#executor.container(this.#task.id);
  }

  /** False for one that never ran and whose network or files went with a boot. */
  #isUsable(container: Container): boolean {
    const { networkNamespace, id } = container.config;
    if (container.state !== 'created') return true;
    if (!this.#executor.secrets.hasFiles(id, this.#task.spec.container)) return false;
    if (typeof networkNamespace !== 'object') return true;
    return this.#executor.networks.isAttached(id);
  }

  #prepared(container: Container): Prepared {
    return { containerId: container.config.id, gatewayAddress: this.#gatewayAddress };
  }

  async #attach(
    containerId: string,
    plan: ContainerPlan,
    network: NetworkPlan,
  ): Promise<Attachment | undefined> {
    if (network.kind !== 'attached') return undefined;
    const { networks } = this.#executor;
    const { dnsServers, dnsSearch, dnsOptions, hosts } = this.#task.spec.container;
    await Promise.all(network.overlays.map((overlay) => networks.ready(overlay.networkId)));
    const internal =
      network.overlays.length > 0 &&
      network.overlays.every((overlay) => networks.isInternal(overlay.networkId));
    return networks.attach({
      containerId,
      hostname: plan.hostname,
      name: plan.name,
      overlays: network.overlays.map((overlay) => ({
        networkId: overlay.networkId,
        endpointId: this.#task.id,
        address: bareAddress(overlay.address),
        aliases: overlay.aliases,
      })),
      gateway: !network.defaultBridge && (network.publishes || !internal),
      defaultBridge: network.defaultBridge,
      extraHosts: hosts.map(hostEntry),
      dns: { servers: dnsServers, search: dnsSearch, options: dnsOptions },
    });
  }

  #config(containerId: string, plan: ContainerPlan) {
    const spec = this.#task.spec.container;
    return {
      id: containerId,
      name: plan.name,
      labels: plan.labels,
      args: plan.args,
      env: plan.env,
      workingDir: plan.workingDir,
      user: plan.user,
      hostname: plan.hostname,
      log: plan.log,
      additionalGroups: spec.groups,
      readOnlyRoot: spec.readOnlyRoot,
      resources: this.#resources(),
      capabilityAdd: spec.capabilityAdd,
      capabilityDrop: spec.capabilityDrop,
      sysctls: spec.sysctls,
      tty: spec.tty,
      openStdin: spec.openStdin,
      init: spec.init ?? false,
      resourceLimits: spec.ulimits,
      oomScoreAdjust: spec.oomScoreAdj,
      ...(spec.userns === '' ? {} : { userNamespace: spec.userns }),
      noNewPrivileges: spec.noNewPrivileges,
      seccomp: spec.seccomp,
      ...labelsOf(spec),
      ...(plan.stopSignal === '' ? {} : { stopSignal: plan.stopSignal }),
    };
  }

  #resources(): ContainerResources {
    const { memoryBytes, nanoCpus, pids } = this.#task.spec.limits;
    return {
      ...(memoryBytes > 0 ? { memoryBytes } : {}),
      ...(nanoCpus > 0 ? { nanoCpus } : {}),
      ...(pids > 0 ? { pids } : {}),
    };
  }
}

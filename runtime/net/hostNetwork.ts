/**
 * The front of the host's network: starts the network worker thread, hands it one operation after
 * another and gives back its answers. It holds no state but the lists of attachments and bridges.
 */
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { AssertionError } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { isErrorCode, messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { withDeadline } from '../../base/queue.ts';
import type { Random } from '../../base/random.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
  EndpointRequest,
  HostNetwork,
  HostNetworkOptions,
  IngressState,
  OverlaySelf,
  OverlayState,
  PublishedPort,
  SocketKeeper,
} from './types.ts';
import type {
  Attached,
  KeptSockets,
  Operation,
  Started,
  WorkerFailure,
  WorkerMessage,
} from './worker.ts';

/** An operation takes milliseconds; one that takes this long will not end. */
const OPERATION_TIMEOUT_MS = 30_000;
/** Operations under way or waiting at once. */
const WAITING_MAX = 10_000;

/** The worker makes little garbage; V8's default would let it keep 6 MiB more. */
const WORKER_YOUNG_MIB = 4;

/** UDP and TCP. */
const SOCKETS_KEPT = 2;
const KEEP_DELAY_MS = 300;

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export interface HostNetworkEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Without one, names are refused while no daemon runs. */
  readonly keeper?: SocketKeeper;
}

/**
 * Opens this host's network in the namespace the process runs in, adopting what an earlier daemon
 * with the same exec root left. Throws SwarmError (unsupported: what the kernel or host lacks).
 */
export async function openHostNetwork(
  options: HostNetworkOptions & HostNetworkEnvironment,
): Promise<HostNetwork> {
  const { random: _, clock, log, keeper, ...settings } = options;
  const network = new WorkerHostNetwork(settings, clock, log, keeper);
  try {
    await network.start();
  } catch (error) {
    await network.end();
    throw error;
  }
  return network;
}

/**
 * Takes everything of ours off this host: interfaces, namespaces, nftables, records. For when no
 * container runs any more (uninstalling).
 */
export async function removeHostNetwork(
  options: HostNetworkOptions & HostNetworkEnvironment,
): Promise<void> {
  const { execRoot, dataRoot, self, vxlanPort, clock, log } = options;
  const network = new WorkerHostNetwork({ execRoot, dataRoot, self, vxlanPort }, clock, log);
  try {
    await network.start();
    await network.remove();
  } finally {
    await network.end();
  }
}

class WorkerHostNetwork implements HostNetwork {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #keeper: SocketKeeper | undefined;
  readonly #waiting = new Map<number, Waiting>();
  readonly #attached = new Map<string, Attached>();
  readonly #bridges = new Map<string, BridgeNetwork>();
  #nextId = 1;
  #closed = false;

  constructor(options: HostNetworkOptions, clock: Clock, log: Log, keeper?: SocketKeeper) {
    this.#clock = clock;
    this.#log = log;
    this.#keeper = keeper;
    const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
    this.#worker = new Worker(new URL(file, import.meta.url), {
      workerData: options,
      resourceLimits: { maxYoungGenerationSizeMb: WORKER_YOUNG_MIB },
    });
    this.#worker.on('message', (message: WorkerMessage) => this.#receive(message));
    this.#worker.on('error', (error) => this.#lost(error));
    this.#worker.on('exit', (code) => {
      if (!this.#closed) this.#lost(new Error(`the network worker ended with code ${code}`));
    });
  }

  #receive(message: WorkerMessage): void {
    if (message.kind === 'log') {
      this.#log[message.level](message.message, message.fields);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.kind === 'done') waiting?.resolve(message.result);
    else waiting?.reject(toError(message.failure));
  }

  /** A bug in the worker is one of the process: without its network the daemon is of no use. */
  #lost(error: Error): void {
    this.#closed = true;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    throw new AssertionError(`the network worker failed: ${error.stack ?? error.message}`);
  }

  #perform(operation: Operation): Promise<unknown> {
    if (this.#closed) {
      return Promise.reject(new SwarmError('unavailable', 'the host network is closed'));
    }
    if (this.#waiting.size >= WAITING_MAX) {
      return Promise.reject(new SwarmError('exhausted', 'too many network operations are waiting'));
    }
    const id = this.#nextId;
    this.#nextId += 1;
    const result = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, operation });
    });
    return withDeadline(this.#clock, OPERATION_TIMEOUT_MS, `network ${operation.name}`, result);
  }

  async start(): Promise<void> {
    const kept = await this.#takeSockets();
    const { attached, bridges } = (await this.#perform({ name: 'start', kept })) as Started;
    for (const one of attached) this.#attached.set(one.attachment.containerId, one);
    for (const bridge of bridges) this.#bridges.set(bridge.networkId, bridge);
    const known = new Set(kept.map((one) => one.containerId));
    for (const id of this.#attached.keys()) if (!known.has(id)) this.started(id);
  }

  /** What supervisors keep for containers that outlived an earlier daemon. */
  async #takeSockets(): Promise<KeptSockets[]> {
    const keeper = this.#keeper;
    if (keeper === undefined) return [];
    const containerIds = (await this.#perform({ name: 'recorded' })) as readonly string[];
    const kept = await Promise.all(
      containerIds.map(async (containerId) => {
        try {
          const fds = await keeper.take(containerId);
          if (fds.length === SOCKETS_KEPT) return { containerId, udp: fds[0], tcp: fds[1] };
          for (const fd of fds) closeSync(fd);
        } catch (error) {
          // Its port is bound anew; if it has ended, nobody asks.
          this.#log.debug('no sockets were kept', { containerId, reason: messageOf(error) });
        }
        return undefined;
      }),
    );
    return kept.filter((one) => one !== undefined);
  }

  started(containerId: string): void {
    const keeper = this.#keeper;
    if (keeper === undefined || !this.#attached.has(containerId)) return;
    // Many containers live for less than that, and need nobody to keep anything.
    this.#clock.afterIdle(KEEP_DELAY_MS, () => {
      this.#keepSockets(keeper, containerId).catch((error: unknown) => {
        const reason = messageOf(error);
        this.#log.debug('names are refused while no daemon runs', { containerId, reason });
      });
    });
  }

  async #keepSockets(keeper: SocketKeeper, containerId: string): Promise<void> {
    if (this.#closed || !this.#attached.has(containerId)) return;
    const fds = (await this.#perform({ name: 'sockets', containerId })) as readonly number[];
    try {
      if (fds.length > 0) await keeper.hold(containerId, fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  async setSelf(self: OverlaySelf | undefined): Promise<void> {
    const left = (await this.#perform({ name: 'setSelf', self })) as readonly {
      readonly containerId: string;
      readonly endpoints: readonly Endpoint[];
    }[];
    for (const { containerId, endpoints } of left) {
      const attached = this.#attached.get(containerId);
      if (attached !== undefined) this.#attached.set(containerId, { ...attached, endpoints });
    }
  }

  async applyOverlay(state: OverlayState): Promise<void> {
    await this.#perform({ name: 'applyOverlay', state });
  }

  async removeOverlay(networkId: string): Promise<void> {
    await this.#perform({ name: 'removeOverlay', networkId });
  }

  async applyIngress(state: IngressState): Promise<void> {
    await this.#perform({ name: 'applyIngress', state });
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    const attached = (await this.#perform({ name: 'attach', request })) as Attached;
    this.#attached.set(request.containerId, attached);
    return attached.attachment;
  }

  async detach(containerId: string): Promise<void> {
    await this.#perform({ name: 'detach', containerId });
    this.#attached.delete(containerId);
  }

  attachments(): readonly Attachment[] {
    return [...this.#attached.values()].map((one) => one.attachment);
  }

  async createBridge(network: BridgeNetwork): Promise<BridgeNetwork> {
    const made = (await this.#perform({ name: 'createBridge', network })) as BridgeNetwork;
    this.#bridges.set(made.networkId, made);
    return made;
  }

  async removeBridge(networkId: string): Promise<void> {
    await this.#perform({ name: 'removeBridge', networkId });
    this.#bridges.delete(networkId);
  }

  bridges(): readonly BridgeNetwork[] {
    return [...this.#bridges.values()];
  }

  async connect(containerId: string, request: EndpointRequest): Promise<Endpoint> {
    const before = new Set(this.endpoints(containerId).map((one) => one.networkId));
    await this.#endpointsChanged({ name: 'connect', containerId, request });
    const fresh = this.endpoints(containerId).find((one) => !before.has(one.networkId));
    if (fresh !== undefined) return fresh;
    throw new SwarmError('internal', `container ${containerId} was not connected`);
  }

  async disconnect(containerId: string, networkId: string): Promise<void> {
    await this.#endpointsChanged({ name: 'disconnect', containerId, networkId });
  }

  async #endpointsChanged(operation: Operation & { containerId: string }): Promise<void> {
    const endpoints = (await this.#perform(operation)) as readonly Endpoint[];
    const attached = this.#attached.get(operation.containerId);
    if (attached === undefined) return;
    this.#attached.set(operation.containerId, { ...attached, endpoints });
  }

  endpoints(containerId: string): readonly Endpoint[] {
    return this.#attached.get(containerId)?.endpoints ?? [];
  }

  async rename(containerId: string, newName: string): Promise<void> {
    await this.#perform({ name: 'rename', containerId, newName });
  }

  async follow(containerId: string, hosts: AttachRequest['extraHosts']): Promise<void> {
    await this.#perform({ name: 'follow', containerId, hosts });
  }

  async publish(
    containerId: string,
    wanted: readonly PublishedPort[],
  ): Promise<readonly PublishedPort[]> {
    const operation = { name: 'publish', containerId, ports: wanted } as const;
    const ports = (await this.#perform(operation)) as readonly PublishedPort[];
    const attached = this.#attached.get(containerId);
    if (attached !== undefined) {
      const attachment = { ...attached.attachment, ports };
      this.#attached.set(containerId, { ...attached, attachment });
    }
    return ports;
  }

  async reconcile(): Promise<readonly string[]> {
    return (await this.#perform({ name: 'reconcile' })) as readonly string[];
  }

  async prune(containerIds: ReadonlySet<string>): Promise<void> {
    await this.#perform({ name: 'prune', containerIds: [...containerIds] });
    for (const containerId of this.#attached.keys()) {
      if (!containerIds.has(containerId)) this.#attached.delete(containerId);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#perform({ name: 'close' });
    await this.end();
  }

  async remove(): Promise<void> {
    await this.#perform({ name: 'remove' });
  }

  /** The thread goes, in whatever state. */
  async end(): Promise<void> {
    this.#closed = true;
    await this.#worker.terminate();
  }
}

function toError(failure: WorkerFailure): Error {
  if (!isErrorCode(failure.code)) return new Error(failure.message);
  return new SwarmError(failure.code, failure.message, { detail: { ...failure.detail } });
}

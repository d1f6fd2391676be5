/**
 * The network worker thread: the only thread that sends netlink and nftables messages and enters
 * other namespaces, and the one that serves DNS. It takes one operation at a time from the front
 * (hostNetwork.ts) and answers each; log lines go to the front too.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { SystemClock } from '../../base/clock.ts';
import { isErrorCode, messageOf, SwarmError } from '../../base/errors.ts';
import type { Log, LogFields } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import type { KeptSockets } from './dnsServer.ts';
import { NetworkEngine } from './engine.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
  EndpointRequest,
  HostNetworkOptions,
  IngressState,
  OverlaySelf,
  OverlayState,
  PublishedPort,
} from './types.ts';

/** One operation, by name, with its argument. */
export type Operation =
  | { readonly name: 'recorded' }
  | { readonly name: 'start'; readonly kept: readonly KeptSockets[] }
  | { readonly name: 'sockets'; readonly containerId: string }
  | { readonly name: 'setSelf'; readonly self: OverlaySelf | undefined }
  | { readonly name: 'applyOverlay'; readonly state: OverlayState }
  | { readonly name: 'removeOverlay'; readonly networkId: string }
  | { readonly name: 'applyIngress'; readonly state: IngressState }
  | { readonly name: 'attach'; readonly request: AttachRequest }
  | { readonly name: 'detach'; readonly containerId: string }
  | { readonly name: 'createBridge'; readonly network: BridgeNetwork }
  | { readonly name: 'removeBridge'; readonly networkId: string }
  | { readonly name: 'connect'; readonly containerId: string; readonly request: EndpointRequest }
  | { readonly name: 'disconnect'; readonly containerId: string; readonly networkId: string }
  | {
      readonly name: 'publish';
      readonly containerId: string;
      readonly ports: readonly PublishedPort[];
    }
  | { readonly name: 'rename'; readonly containerId: string; readonly newName: string }
  | {
      readonly name: 'follow';
      readonly containerId: string;
      readonly hosts: AttachRequest['extraHosts'];
    }
  | { readonly name: 'reconcile' }
  | { readonly name: 'prune'; readonly containerIds: readonly string[] }
  | { readonly name: 'remove' }
  | { readonly name: 'close' };

/** What the front keeps of a container. */
export interface Attached {
  readonly attachment: Attachment;
  readonly endpoints: readonly Endpoint[];
}

/** What the front knows after the start. */
export interface Started {
  readonly bridges: readonly BridgeNetwork[];
  readonly attached: readonly Attached[];
}

export type { KeptSockets };

export interface WorkerRequest {
  readonly id: number;
  readonly operation: Operation;
}

export interface WorkerFailure {
  readonly code: string;
  readonly message: string;
  readonly detail: Readonly<Record<string, string>>;
}

export type WorkerMessage =
  | { readonly kind: 'done'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly failure: WorkerFailure }
  | {
      readonly kind: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: LogFields;
    };

function tell(message: WorkerMessage): void {
  parentPort?.postMessage(message);
}

function relayLog(common: LogFields): Log {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, fields: LogFields = {}): void =>
      tell({ kind: 'log', level, message, fields: { ...common, ...fields } });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => relayLog({ ...common, ...fields }),
  };
}

async function perform(engine: NetworkEngine, operation: Operation): Promise<unknown> {
  const attached = (attachment: Attachment): Attached => ({
    attachment,
    endpoints: engine.endpoints(attachment.containerId),
  });
  switch (operation.name) {
    case 'recorded':
      return engine.recorded();
    case 'sockets':
      return engine.sockets(operation.containerId);
    case 'start': {
      await engine.start(operation.kept);
      return { bridges: engine.bridges(), attached: engine.attachments().map(attached) };
    }
    case 'setSelf':
      return engine
        .setSelf(operation.self)
        .map((containerId) => ({ containerId, endpoints: engine.endpoints(containerId) }));
    case 'applyOverlay':
      return engine.applyOverlay(operation.state);
    case 'removeOverlay':
      return engine.removeOverlay(operation.networkId);
    case 'applyIngress':
      return engine.applyIngress(operation.state);
    case 'attach':
      return attached(await engine.attach(operation.request));
    case 'detach':
      return engine.detach(operation.containerId);
    case 'createBridge':
      return engine.createBridge(operation.network);
    case 'removeBridge':
      return engine.removeBridge(operation.networkId);
    case 'connect':
      engine.connect(operation.containerId, operation.request);
      return engine.endpoints(operation.containerId);
    case 'disconnect':
      engine.disconnect(operation.containerId, operation.networkId);
      return engine.endpoints(operation.containerId);
    case 'publish':
      return engine.publish(operation.containerId, operation.ports);
    case 'rename':
      return engine.rename(operation.containerId, operation.newName);
    case 'follow':
      return engine.follow(operation.containerId, operation.hosts);
    case 'reconcile':
      return engine.reconcile();
    case 'prune':
      return engine.prune(new Set(operation.containerIds));
    case 'remove':
      return engine.remove();
    case 'close':
      return engine.close();
  }
}

function failureOf(error: unknown): WorkerFailure {
  if (error instanceof SwarmError && isErrorCode(error.code)) {
    return { code: error.code, message: error.message, detail: error.detail };
  }
  return { code: 'internal', message: messageOf(error), detail: {} };
}

assert(parentPort !== null, 'the network worker runs as a worker thread');
let tail: Promise<unknown> = Promise.resolve();
let engine: NetworkEngine | undefined;

async function serve({ id, operation }: WorkerRequest): Promise<void> {
  try {
    engine ??= new NetworkEngine(workerData as HostNetworkOptions, {
      clock: new SystemClock(),
      random: new SystemRandom(),
      log: relayLog({}),
    });
    closed ||= operation.name === 'close' || operation.name === 'remove';
    const result = await perform(engine, operation);
    tell({ kind: 'done', id, result });
    if (operation.name === 'start') watch();
  } catch (error) {
    if (!(error instanceof Error) || error.name === 'AssertionError') throw error;
    tell({ kind: 'failed', id, failure: failureOf(error) });
  }
}

/** A change that somebody else made is noticed within this time; see NetworkEngine.watch. */
const WATCH_MS = 1000;
const { watchMs = WATCH_MS } = workerData as HostNetworkOptions;
const clock = new SystemClock();
let closed = false;

function watch(): void {
  if (closed || watchMs === 0) return;
  const mended = engine?.watch() ?? [];
  const message = 'the host network was changed by others and has been mended';
  if (mended.length > 0) relayLog({}).warn(message, { mended });
  clock.afterIdle(watchMs, () => {
    tail = tail.then(watch);
  });
}

parentPort.on('message', (request: WorkerRequest) => {
  tail = tail.then(() => serve(request));
});

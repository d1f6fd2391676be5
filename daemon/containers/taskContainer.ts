/**
 * A task's container as the API handles it: shown and used like any other, stopped and removed as
 * Docker does, while its life stays the agent's, which replaces what was stopped. What would make
 * it differ from its service is refused with the way to do it.
 */
import { SwarmError } from '../../base/errors.ts';
import { healthOf } from '../../runtime/container/health.ts';
import { parseSignal } from '../../runtime/container/signals.ts';
import type { Container, ContainerMount, Streams } from '../../runtime/container/types.ts';
import type { PublishedPort } from '../../runtime/net/types.ts';
import type { HostContext } from './context.ts';
import { DEFAULT_STOP_GRACE_MS, type Managed } from './managed.ts';
import { signalTo, stopWith } from './starting.ts';
import {
  type ContainerStatus,
  type ContainerView,
  type ExitStatus,
  type MountPoint,
  NO_WISHES,
  type WaitCondition,
} from './types.ts';

export class TaskContainer implements Managed {
  readonly container: Container;
  readonly #context: HostContext;

  constructor(context: HostContext, container: Container) {
    this.#context = context;
    this.container = container;
  }

  get id(): string {
    return this.container.config.id;
  }

  get name(): string {
    return this.container.config.name;
  }

  view(): ContainerView {
    const { container } = this;
    const { exit, startedAtMs, config } = container;
    const endpoints = this.#context.network.endpoints(this.id);
    return {
      container,
      status: this.#status,
      createdAtMs: container.createdAtMs,
      startedAtMs,
      finishedAtMs: exit?.finishedAtMs ?? 0,
      exitCode: exit?.exitCode ?? 0,
      error: exit?.error ?? '',
      oomKilled: exit?.oomKilled ?? false,
      restartCount: 0,
      health: healthOf(container),
      record: undefined,
      networkMode: config.networkNamespace === 'host' ? 'host' : 'default',
      networks: endpoints.map((endpoint) => {
        const local = this.#context.networks.find(endpoint.networkId);
        return {
          ...endpoint,
          networkId: local?.id ?? endpoint.networkId,
          networkName: local?.name ?? this.#context.networks.nameOf(endpoint.networkId),
          spec: NO_WISHES,
          dnsNames: [],
        };
      }),
      ports: container.state === 'running' ? this.#ports() : [],
      mounts: config.mounts.map((mount) => this.#mountPoint(mount)),
      execIds: this.#context.execs.of(this.id),
    };
  }

  #mountPoint(mount: ContainerMount): MountPoint {
    const { type, target, source = '', readOnly = false, propagation = 'rprivate' } = mount;
    const common = { source, target, readOnly, mode: '' };
    const volume = this.#context.volumes.list().find((each) => each.mountpoint === source);
    if (volume !== undefined) {
      const { name, anonymous } = volume;
      return { ...common, type: 'volume', name, propagation: '', anonymous };
    }
    const shown = type === 'bind' ? propagation : '';
    return { ...common, type, name: '', propagation: shown, anonymous: false };
  }

  /** Those of this host that are its task's own (publish mode host). */
  #ports(): readonly PublishedPort[] {
    const attachments = this.#context.network.attachments();
    return attachments.find((each) => each.containerId === this.id)?.ports ?? [];
  }

  get #status(): ContainerStatus {
    const { container } = this;
    if (container.state === 'running') return container.paused ? 'paused' : 'running';
    return container.state;
  }

  #emit(action: string, more: Readonly<Record<string, string>> = {}): void {
    const { labels, image, name } = this.container.config;
    const attributes = { ...labels, image: image.reference, name, ...more };
    this.#context.events.emit('container', action, this.id, attributes);
  }

  async start(): Promise<boolean> {
    if (this.container.state === 'running') return false;
    throw this.#belongs('be started', 'tsswarm service update --force starts new ones');
  }

  #belongs(what: string, instead: string): SwarmError {
    return new SwarmError(
      'conflict',
      `container ${this.name} belongs to a service and cannot ${what} by hand: ${instead}`,
    );
  }

  async stop(graceMs = DEFAULT_STOP_GRACE_MS, signal = ''): Promise<boolean> {
    const { container } = this;
    if (container.state !== 'running') return false;
    const wanted = signal === '' ? (container.config.stopSignal ?? 'SIGTERM') : signal;
    await stopWith(this.#context, container, wanted, graceMs);
    this.#emit('stop');
    return true;
  }

  /** It ends; the orchestrator replaces it. */
  async restart(graceMs?: number, signal?: string): Promise<void> {
    await this.stop(graceMs, signal);
  }

  async kill(signal: string): Promise<void> {
    await signalTo(this.container, signal);
    this.#emit('kill', { signal: String(parseSignal(signal)) });
  }

  async pause(): Promise<void> {
    await this.container.pause();
    this.#emit('pause');
  }

  async unpause(): Promise<void> {
    if (!this.container.paused) {
      throw new SwarmError('conflict', `Container ${this.id} is not paused`);
    }
    await this.container.resume();
    this.#emit('unpause');
  }

  async rename(): Promise<string> {
    throw this.#belongs('be renamed', 'its name says which task it runs');
  }

  async update(): Promise<never> {
    throw this.#belongs('be updated', 'use tsswarm service update');
  }

  async remove({ force }: { readonly force: boolean }): Promise<void> {
    if (!force && this.container.state === 'running') {
      throw new SwarmError(
        'conflict',
        `cannot remove container "/${this.name}": container is running: ` +
          'stop the container before removing or force remove',
      );
    }
    await this.container.remove();
    const { volumes } = this.#context;
    for (const { name, anonymous } of volumes.list()) {
      // The agent takes those that were made for it alone, when it finds it gone.
      if (!anonymous) volumes.release(name, this.id);
    }
  }

  async wait(_condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    const gone = new Promise<never>((_, reject) => {
      signal.addEventListener(
        'abort',
        () => reject(new SwarmError('cancelled', 'the caller has gone')),
        { once: true },
      );
    });
    const exit = await Promise.race([this.container.wait(), gone]);
    return { exitCode: exit.exitCode, error: exit.error ?? '' };
  }

  attach(options: { readonly stdin: boolean }): Promise<Streams> {
    return this.container.attach(options);
  }
}

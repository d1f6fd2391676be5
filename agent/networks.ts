/**
 * Holds this host's network at what was assigned: each overlay and the ingress are applied whole,
 * the latest state only, retried until it holds, and compared with the kernel now and then. A
 * partitioned agent keeps its last view. An overlay is removed only after its last container left.
 */
import { assert } from '../base/assert.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import { counterpart, firstAddress, parseRange } from '../base/ipRange.ts';
import type { Log } from '../base/log.ts';
import { Signal } from '../base/queue.ts';
import type { IngressAssignment, NetworkAssignment } from '../model/assignment.ts';
import type {
  Attachment,
  AttachRequest,
  HostNetwork,
  OverlaySelf,
  PublishedPort,
} from '../runtime/net/types.ts';

/** How long a task waits for a network that was assigned with it to be made on this host. */
export const NETWORK_READY_MS = 10_000;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 5000;
/** Who asks does not wait for longer. */
const SETTLE_MS = 1000;
/** The network itself looks every second for what others changed; this compares all of it. */
const RECONCILE_MS = 30_000;
/** How long a starting container waits for a port that its predecessor still gives back. */
const PORT_WAIT_MS = 1000;
const PORT_RETRY_MS = 50;
/** A replacement often follows at once: what its predecessor used is kept that long. */
const LINGER_MS = 2000;

/** One thing held in the kernel: what it should be, whether it is, and who works on it. */
interface Held {
  apply: (() => Promise<void>) | undefined;
  /** Counts what was asked for and what was reached; equal when the kernel holds the latest. */
  wanted: number;
  reached: number;
  busy: boolean;
  failures: number;
  error: string;
  retry: Timer | undefined;
}

export interface NetworksOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly network: HostNetwork;
}

export class Networks {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #network: HostNetwork;
  readonly #held = new Map<string, Held>();
  readonly #assignments = new Map<string, NetworkAssignment>();
  /** No longer assigned, removed once unused and their time is over. */
  readonly #leaving = new Map<string, { readonly vni: number; readonly timer: Timer }>();
  /** Those of them whose time is over. */
  readonly #overdue = new Set<string>();
  /** Overlays that exist on this host now. */
  readonly #made = new Set<string>();
  readonly #users = new Map<string, readonly string[]>();
  readonly #changed = new Signal();
  #self = '';
  #version = 0;
  #reconciling: Timer | undefined;
  #stopped = false;

  constructor(options: NetworksOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#network = options.network;
  }

  start(): void {
    this.#reconcileLater();
  }

  /** Stops retrying and comparing; the kernel keeps what it has. */
  stop(): void {
    this.#stopped = true;
    this.#reconciling?.cancel();
    for (const held of this.#held.values()) held.retry?.cancel();
    for (const leaving of this.#leaving.values()) leaving.timer.cancel();
  }

  /** This host's place in the cluster; everything else waits until the first one is known. */
  setSelf(self: OverlaySelf): void {
    const text = JSON.stringify(self);
    if (text === this.#self || self.hostIndex === 0) return;
    this.#self = text;
    this.#hold('self', () => this.#network.setSelf(self));
  }

  apply(assignment: NetworkAssignment): void {
    const { id } = assignment.network;
    this.#version += 1;
    const version = this.#version;
    const state = { ...assignment.network, networkId: id, version, ...withIpv6(assignment) };
    this.#assignments.set(id, assignment);
    this.#makeWay(assignment);
    this.#hold(id, async () => {
      await this.#network.applyOverlay(state);
      this.#made.add(id);
    });
  }

  applyIngress(ingress: IngressAssignment): void {
    this.#version += 1;
    const state = { ...ingress, version: this.#version };
    this.#hold('ingress', () => this.#network.applyIngress(state));
  }

  /** The overlay is no longer assigned. */
  forget(networkId: string): void {
    const assignment = this.#assignments.get(networkId);
    if (assignment === undefined) return;
    this.#assignments.delete(networkId);
    const timer = this.#clock.afterIdle(LINGER_MS, () => {
      this.#overdue.add(networkId);
      this.#removeUnused();
    });
    this.#leaving.set(networkId, { vni: assignment.network.vni, timer });
  }

  /** What is assigned again stays; what leaves goes now if its identifier is taken over. */
  #makeWay({ network }: NetworkAssignment): void {
    this.#leaving.get(network.id)?.timer.cancel();
    this.#leaving.delete(network.id);
    this.#overdue.delete(network.id);
    for (const [networkId, leaving] of this.#leaving) {
      if (leaving.vni === network.vni) this.#overdue.add(networkId);
    }
    this.#removeUnused();
  }

  /** What the overlay is called; undefined when it is not assigned here. */
  nameOf(networkId: string): string | undefined {
    return this.#assignments.get(networkId)?.network.name;
  }

  /** Containers on nothing but internal networks get no way to the outside. */
  isInternal(networkId: string): boolean {
    return this.#assignments.get(networkId)?.network.internal ?? false;
  }

  /** Resolves when the overlay has been made here. SwarmError unavailable with the reason. */
  async ready(networkId: string): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + NETWORK_READY_MS;
    while (!this.#made.has(networkId)) {
      const leftMs = deadlineMs - this.#clock.nowMs();
      const held = this.#held.get(networkId);
      if (leftMs <= 0 || this.#stopped) throw notReady(networkId, held);
      await this.#changed.next(this.#clock, leftMs).catch((error: unknown) => {
        throw notReady(networkId, this.#held.get(networkId), error);
      });
    }
  }

  /** Resolves once everything told before is in the kernel. SwarmError timeout. */
  async settled(): Promise<void> {
    const aims = [...this.#held.values()].map((held) => ({ held, aim: held.wanted }));
    const deadlineMs = this.#clock.nowMs() + SETTLE_MS;
    while (aims.some(({ held, aim }) => held.reached < aim)) {
      await this.#changed.next(this.#clock, Math.max(0, deadlineMs - this.#clock.nowMs()));
    }
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    const networkIds = request.overlays.map((overlay) => overlay.networkId);
    this.#users.set(request.containerId, networkIds);
    try {
      await Promise.all(networkIds.map((id) => this.ready(id)));
      return await this.#network.attach(request);
    } catch (error) {
      this.#users.delete(request.containerId);
      throw error;
    }
  }

  /**
   * Ports of this host lead to the container, instead of those that did. What it replaces may have
   * them a little longer than it lives. SwarmError conflict names who has one.
   */
  async publish(containerId: string, ports: readonly PublishedPort[]): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + PORT_WAIT_MS;
    for (;;) {
      try {
        await this.#network.publish(containerId, ports);
        return;
      } catch (error) {
        const isLate = this.#clock.nowMs() >= deadlineMs;
        if (!hasCode(error, 'conflict') || isLate) throw error;
      }
      await this.#clock.sleep(PORT_RETRY_MS);
    }
  }

  /** A container of an earlier process that is still attached. */
  adopt(containerId: string, networkIds: readonly string[]): Attachment | undefined {
    const found = this.#network.attachments().find((one) => one.containerId === containerId);
    if (found !== undefined) this.#users.set(containerId, networkIds);
    return found;
  }

  isAttached(containerId: string): boolean {
    return this.#network.attachments().some((one) => one.containerId === containerId);
  }

  /** Removes what is attached for others than `containerIds`; before anything new is attached. */
  async sweep(containerIds: readonly string[]): Promise<void> {
    try {
      await this.#network.prune(new Set(containerIds));
    } catch (error) {
      // What is left over takes addresses on this host only; the next start tries again.
      this.#log.warn('left over attachments stay', { error: messageOf(error) });
    }
  }

  async detach(containerId: string): Promise<void> {
    await this.#network.detach(containerId);
    this.#users.delete(containerId);
    this.#removeUnused();
  }

  #removeUnused(): void {
    if (this.#overdue.size === 0) return;
    const used = new Set([...this.#users.values()].flat());
    for (const networkId of this.#overdue) {
      if (used.has(networkId)) continue;
      this.#overdue.delete(networkId);
      this.#leaving.get(networkId)?.timer.cancel();
      this.#leaving.delete(networkId);
      this.#hold(networkId, async () => {
        this.#made.delete(networkId);
        await this.#network.removeOverlay(networkId);
        if (!this.#assignments.has(networkId)) this.#held.delete(networkId);
      });
    }
  }

  #hold(key: string, apply: () => Promise<void>): void {
    const held: Held = this.#held.get(key) ?? {
      apply: undefined,
      wanted: 0,
      reached: 0,
      busy: false,
      failures: 0,
      error: '',
      retry: undefined,
    };
    this.#held.set(key, held);
    held.apply = apply;
    held.wanted += 1;
    held.retry?.cancel();
    this.#drive(key, held);
  }

  #drive(key: string, held: Held): void {
    const self = this.#held.get('self');
    const waits = key !== 'self' && (self === undefined || self.reached === 0);
    if (waits || held.busy || this.#stopped || held.reached === held.wanted) return;
    assert(held.apply !== undefined, 'a held network state has something to apply', { key });
    const aim = held.wanted;
    held.busy = true;
    held.apply().then(
      () => this.#reached(key, held, aim),
      (error: unknown) => this.#failed(key, held, error),
    );
  }

  #reached(key: string, held: Held, aim: number): void {
    held.busy = false;
    held.reached = aim;
    held.failures = 0;
    held.error = '';
    this.#changed.emit();
    this.#drive(key, held);
    if (key !== 'self') return;
    for (const [other, waiting] of this.#held) this.#drive(other, waiting);
  }

  #failed(key: string, held: Held, error: unknown): void {
    held.busy = false;
    held.failures += 1;
    held.error = messageOf(error);
    const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(held.failures, 10));
    this.#log.warn('network state could not be applied', { network: key, error: held.error });
    if (this.#stopped) return;
    held.retry = this.#clock.afterIdle(delayMs, () => this.#drive(key, held));
  }

  #reconcileLater(): void {
    this.#reconciling = this.#clock.afterIdle(RECONCILE_MS, () => {
      this.#network
        .reconcile()
        .then((mended) => {
          if (mended.length > 0) this.#log.warn('network mended', { mended });
        })
        .catch((error: unknown) => {
          this.#log.warn('network could not be compared', { error: messageOf(error) });
        })
        .finally(() => {
          if (!this.#stopped) this.#reconcileLater();
        });
    });
  }
}

/** The assignment's addresses with those of IPv6 that go with them. */
function withIpv6({ network, peers, endpoints, services, names }: NetworkAssignment) {
  const { subnet, subnet6 } = network;
  if (subnet6 === '') return { peers, endpoints, services, names };
  const other = (address: string): string => counterpart(subnet, address, subnet6);
  return {
    gateway6: firstAddress(parseRange(subnet6)),
    peers,
    endpoints: endpoints.map((one) => ({ ...one, address6: other(one.address) })),
    services: services.map((one) => ({
      ...one,
      virtualAddress6: other(one.virtualAddress),
      backends6: one.backends.map(other),
    })),
    names: names.map(({ name, addresses }) => ({
      name,
      addresses: [...addresses, ...addresses.map(other)],
    })),
  };
}

function notReady(networkId: string, held: Held | undefined, cause?: unknown): SwarmError {
  const why = held === undefined ? 'it was not assigned to this node' : held.error || 'timed out';
  const message = `network ${networkId} is not ready on this host: ${why}`;
  return new SwarmError('unavailable', message, { cause });
}

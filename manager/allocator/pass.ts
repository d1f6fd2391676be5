/**
 * One pass of the allocator over a view: gives networks, services and tasks what they need and
 * keeps count of what it has given, so that nothing is given twice within the pass. What is in use
 * is read from the view when first asked for; nothing outlives the pass.
 */
import { atOnce, ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import {
  DYNAMIC_PORT_FIRST,
  DYNAMIC_PORT_LAST,
  NODE_LOCAL_NETWORKS,
} from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type {
  Network,
  PortConfig,
  Service,
  Task,
  TaskNetwork,
  VirtualAddress,
} from '../../model/types.ts';
import type { View } from '../store/types.ts';
import { AddressSpace } from './addresses.ts';
import { NetworkAllocator } from './networks.ts';

/** An object as it is to be, or why it cannot have what it needs. */
export type Outcome<T> = { readonly object: T } | { readonly error: string };

export class Pass {
  readonly #view: View;
  readonly #nowMs: number;
  /** Records as this pass leaves them. */
  readonly #networks = new Map<string, Network>();
  readonly #services = new Map<string, Outcome<Service>>();
  #networkAllocator: NetworkAllocator | undefined;
  #spaces: Map<string, AddressSpace> | undefined;
  /** Networks whose tasks have been looked at. */
  readonly #known = new Set<string>();
  #ports: Set<string> | undefined;
  readonly #nextPort = new Map<string, number>();

  constructor(view: View, nowMs: number) {
    this.#view = view;
    this.#nowMs = nowMs;
  }

  network(network: Network): Network {
    this.#networkAllocator ??= new NetworkAllocator(this.#view);
    const allocated = this.#networkAllocator.allocate(network);
    this.#networks.set(network.id, allocated);
    return allocated;
  }

  service(service: Service): Outcome<Service> {
    const outcome = this.#allocateService(service);
    this.#services.set(service.id, outcome);
    return outcome;
  }

  #allocateService(service: Service): Outcome<Service> {
    const ports = this.#allocatePorts(service);
    if (typeof ports === 'string') return { error: ports };
    const virtualAddresses: VirtualAddress[] = [];
    const wanted = service.spec.endpointMode === 'vip' ? service.spec.task.networks : [];
    for (const { target } of wanted) {
      if (NODE_LOCAL_NETWORKS.includes(target)) continue;
      const kept = service.virtualAddresses.find(({ networkId }) => networkId === target);
      const given = kept === undefined ? this.#address(target) : { object: kept.address };
      if ('error' in given) {
        this.#release(virtualAddresses, service.virtualAddresses);
        return given;
      }
      virtualAddresses.push({ networkId: target, address: given.object });
    }
    return {
      object: { ...service, virtualAddresses, ports, allocatedVersion: service.specVersion },
    };
  }

  #allocatePorts(service: Service): readonly PortConfig[] | string {
    const kept = keptPorts(service);
    const ports: PortConfig[] = [];
    for (const port of service.spec.ports) {
      if (port.publishedPort !== 0) {
        ports.push(port);
        continue;
      }
      const had = kept.get(`${port.protocol}/${port.targetPort}`);
      const publishedPort = had ?? this.#freePort(port);
      if (publishedPort === undefined) {
        return (
          `no free port between ${DYNAMIC_PORT_FIRST} and ${DYNAMIC_PORT_LAST} for ` +
          `${port.targetPort}/${port.protocol}: publish it at a fixed port`
        );
      }
      ports.push({ ...port, publishedPort });
    }
    return ports;
  }

  /** Within a pass ports are only taken: what was not free for one is not free for the next. */
  #freePort({ protocol }: PortConfig): number | undefined {
    const used = this.#usedPorts();
    const first = this.#nextPort.get(protocol) ?? DYNAMIC_PORT_FIRST;
    for (let port = first; port <= DYNAMIC_PORT_LAST; port += 1) {
      const key = `${protocol}/${port}`;
      if (used.has(key)) continue;
      used.add(key);
      this.#nextPort.set(protocol, port + 1);
      return port;
    }
    this.#nextPort.set(protocol, DYNAMIC_PORT_LAST + 1);
    return undefined;
  }

  #usedPorts(): Set<string> {
    if (this.#ports !== undefined) return this.#ports;
    this.#ports = new Set();
    for (const service of this.#view.all('service')) {
      for (const port of [...service.spec.ports, ...service.ports]) {
        this.#ports.add(`${port.protocol}/${port.publishedPort}`);
      }
    }
    return this.#ports;
  }

  /** Looks at what is held on the task's networks, so that task() needs no pause. */
  *prepare({ networks }: Task): Steps<void> {
    for (const { networkId } of networks) {
      const network = this.#networks.get(networkId) ?? this.#view.get('network', networkId);
      if (network !== undefined && network.vni !== 0) yield* this.#know(network);
    }
  }

  /** undefined = its service is not there any more, or not looked at yet: nothing to do. */
  task(task: Task): Outcome<Task> | undefined {
    if (task.serviceId === '') return this.#attachment(task);
    const service = this.#view.get('service', task.serviceId);
    if (service === undefined) return undefined;
    const outcome = this.#services.get(service.id) ?? { object: service };
    if ('error' in outcome) return outcome;
    if (outcome.object.allocatedVersion !== service.specVersion) return undefined;
    const networks: TaskNetwork[] = [];
    for (const network of task.networks) {
      const given = NODE_LOCAL_NETWORKS.includes(network.networkId)
        ? { object: '' }
        : this.#address(network.networkId, staticAddress(task, network.networkId));
      if ('error' in given) {
        this.#release(networks, []);
        return given;
      }
      networks.push({ ...network, address: given.object });
    }
    const status = {
      ...task.status,
      state: TaskState.PENDING,
      atMs: this.#nowMs,
      message: 'pending task scheduling',
      error: '',
      phases: { ...task.status.phases, [TaskState.PENDING]: this.#nowMs },
    };
    return { object: { ...task, networks, ports: outcome.object.ports, status } };
  }

  /** A place on a network has its node already: with its address it is whole. */
  #attachment(task: Task): Outcome<Task> {
    const networks: TaskNetwork[] = [];
    for (const network of task.networks) {
      const asked = task.spec.networks.find(({ target }) => target === network.networkId);
      const [wanted] = asked?.addresses ?? [];
      const given = this.#address(network.networkId, wanted);
      if ('error' in given) return given;
      networks.push({ ...network, address: given.object });
    }
    const status = {
      ...task.status,
      state: TaskState.ASSIGNED,
      atMs: this.#nowMs,
      message: 'attached to its node',
      error: '',
      phases: { ...task.status.phases, [TaskState.ASSIGNED]: this.#nowMs },
    };
    return { object: { ...task, networks, status } };
  }

  /** `wanted`: '' = any. */
  #address(networkId: string, wanted = ''): Outcome<string> {
    const network = this.#networks.get(networkId) ?? this.#view.get('network', networkId);
    if (network === undefined) return { error: `network ${networkId} not found: create it` };
    const { name } = network.spec;
    if (network.vni === 0) {
      return { error: `network "${name}" cannot be used: ${network.error || 'not ready yet'}` };
    }
    if (wanted !== '') return claimed(this.#space(network).claim(wanted), wanted, network);
    const address = this.#space(network).take();
    if (address !== undefined) return { object: address };
    return {
      error:
        `network "${name}" (${network.spec.range || network.subnet}) has no free address: ` +
        'remove tasks from it or use a larger network',
    };
  }

  /** Gives back what was taken in this pass: all of `taken` that was not held before. */
  #release(
    taken: readonly { readonly networkId: string; readonly address: string }[],
    before: readonly VirtualAddress[],
  ): void {
    for (const { networkId, address } of taken) {
      if (before.some((held) => held.networkId === networkId)) continue;
      this.#spaces?.get(networkId)?.release(address);
    }
  }

  #space(network: Network): AddressSpace {
    return atOnce(this.#know(network));
  }

  *#know(network: Network): Steps<AddressSpace> {
    this.#spaces ??= this.#servicesAddresses();
    const space = this.#spaces.get(network.id) ?? new AddressSpace(network);
    this.#spaces.set(network.id, space);
    if (this.#known.has(network.id)) return space;
    this.#known.add(network.id);
    for (const [at, task] of [...this.#view.tasksOfNetwork(network.id)].entries()) {
      if (at % ITEMS_PER_STEP === ITEMS_PER_STEP - 1) yield;
      for (const { networkId, address } of task.networks) {
        if (address === '' || networkId !== network.id) continue;
        if (!isTerminal(task.status.state)) space.hold(address);
        space.given(address, task.createdAtMs);
      }
    }
    return space;
  }

  #servicesAddresses(): Map<string, AddressSpace> {
    const spaces = new Map<string, AddressSpace>();
    for (const before of this.#view.all('network')) {
      const network = this.#networks.get(before.id) ?? before;
      if (network.vni !== 0) spaces.set(network.id, new AddressSpace(network));
    }
    for (const service of this.#view.all('service')) {
      for (const { networkId, address } of service.virtualAddresses) {
        spaces.get(networkId)?.hold(address);
        spaces.get(networkId)?.given(address, service.createdAtMs);
      }
      for (const { target, addresses } of service.spec.task.networks) {
        for (const address of addresses) spaces.get(target)?.reserve(address);
      }
    }
    return spaces;
  }
}

/** What the task's slot asks for on a network; '' = any. */
function staticAddress({ spec, slot }: Task, networkId: string): string {
  const attachment = spec.networks.find(({ target }) => target === networkId);
  return attachment?.addresses[slot - 1] ?? '';
}

function claimed(address: string, wanted: string, { subnet, spec }: Network): Outcome<string> {
  if (address === 'outside') {
    return { error: `address ${wanted} is not one of network "${spec.name}" (${subnet})` };
  }
  if (address === 'held') {
    return { error: `address ${wanted} of network "${spec.name}" is held by another task` };
  }
  return { object: address };
}

/** 'tcp/80' -> the dynamic port a service had for it, so that an update does not move it. */
function keptPorts(service: Service): ReadonlyMap<string, number> {
  const key = (port: PortConfig, number: number): string => `${port.protocol}/${number}`;
  const fixed = new Set(service.spec.ports.map((port) => key(port, port.publishedPort)));
  const kept = new Map<string, number>();
  for (const had of service.ports) {
    const isDynamic =
      had.publishedPort >= DYNAMIC_PORT_FIRST &&
      had.publishedPort <= DYNAMIC_PORT_LAST &&
      !fixed.has(key(had, had.publishedPort));
    const target = key(had, had.targetPort);
    if (isDynamic && !kept.has(target)) kept.set(target, had.publishedPort);
  }
  return kept;
}

/**
 * Networks of this host alone: bridge, host and none, which are always there, and the bridges that
 * users make. Keeps their records, finds them by name or id, and puts containers on them through
 * runtime/net. Overlay networks are the cluster's; a container gets onto one through
 * AttachableNetworks.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import type { Log } from '../../base/log.ts';
import type { BridgeNetwork, HostNetwork } from '../../runtime/net/types.ts';
import type { LocalEvents } from './events.ts';
import { RecordFiles } from './records.ts';

export type Builtin = 'bridge' | 'host' | 'none';
const BUILTINS: readonly Builtin[] = ['bridge', 'host', 'none'];

export interface LocalNetwork {
  readonly format: 1;
  readonly id: string;
  readonly name: string;
  readonly driver: 'bridge' | 'host' | 'null';
  readonly builtin: boolean;
  readonly createdAtMs: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly attachable: boolean;
  readonly ipv6: boolean;
  readonly internal: boolean;
  readonly subnets: BridgeNetwork['subnets'];
  readonly options: Readonly<Record<string, string>>;
}

export type LocalNetworkRequest = Omit<
  LocalNetwork,
  'format' | 'id' | 'builtin' | 'createdAtMs' | 'driver'
>;

export interface NetworkBookOptions {
  readonly dataRoot: string;
  readonly network: HostNetwork;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly events: LocalEvents;
}

export class NetworkBook {
  readonly #options: NetworkBookOptions;
  readonly #files: RecordFiles<LocalNetwork>;
  readonly #networks = new Map<string, LocalNetwork>();
  #names: (networkId: string) => string | undefined = () => undefined;
  /** Of the networks that need no bridge: the same for each start of the daemon. */
  readonly #fixedIds: Readonly<Record<Builtin, string>>;

  constructor(options: NetworkBookOptions) {
    this.#options = options;
    const idOf = (name: string): string =>
      createHash('sha256').update(`${hostname()}/${options.dataRoot}/${name}`).digest('hex');
    this.#fixedIds = { bridge: idOf('bridge'), host: idOf('host'), none: idOf('none') };
    this.#files = new RecordFiles(join(options.dataRoot, 'networks'), options.log);
    for (const record of this.#files.load()) this.#networks.set(record.id, record);
  }

  /** Makes in the kernel what a boot took away. */
  async restore(): Promise<void> {
    const { network } = this.#options;
    const there = new Set(network.bridges().map((bridge) => bridge.networkId));
    for (const record of this.#networks.values()) {
      if (!there.has(record.id)) await network.createBridge(bridgeOf(record));
    }
  }

  list(): readonly LocalNetwork[] {
    return [...BUILTINS.map((name) => this.#builtin(name)), ...this.#networks.values()];
  }

  /** By id, name, or a prefix of the id that fits no other; SwarmError invalid when several fit. */
  find(key: string): LocalNetwork | undefined {
    const known = this.#networks.get(key);
    if (known !== undefined) return known;
    const all = this.list();
    const exact = all.find((each) => each.id === key) ?? all.find((each) => each.name === key);
    if (exact !== undefined || key === '') return exact;
    const fitting = all.filter((each) => each.id.startsWith(key));
    if (fitting.length > 1) {
      throw new SwarmError('invalid', `network ${key} is ambiguous: give more of the id`);
    }
    return fitting[0];
  }

  #builtin(name: Builtin): LocalNetwork {
    const bridge = name === 'bridge' ? this.#defaultBridge() : undefined;
    return {
      format: 1,
      id: bridge?.networkId ?? this.#fixedIds[name],
      name,
      driver: name === 'none' ? 'null' : name,
      builtin: true,
      createdAtMs: 0,
      labels: {},
      attachable: false,
      ipv6: false,
      internal: false,
      subnets: bridge?.subnets ?? [],
      options: bridge?.options ?? {},
    };
  }

  #defaultBridge(): BridgeNetwork | undefined {
    return this.#options.network.bridges().find((bridge) => bridge.name === 'bridge');
  }

  /** How networks of the cluster are called, as far as this host knows. */
  useNames(names: (networkId: string) => string | undefined): void {
    this.#names = names;
  }

  /** The name of a network that is none of this host's; its id when that is all there is. */
  nameOf(networkId: string): string {
    return this.#names(networkId) ?? networkId;
  }

  /** What runtime/net calls the network. */
  runtimeId(network: LocalNetwork): string {
    if (!network.builtin) return network.id;
    return this.#defaultBridge()?.networkId ?? network.name;
  }

  /** Of the default bridge: what 'host-gateway' stands for; '' when there is none. */
  hostGateway(): string {
    return this.#defaultBridge()?.subnets[0]?.gateway ?? '';
  }

  async create(request: LocalNetworkRequest): Promise<LocalNetwork> {
    const { clock, ids, network, events } = this.#options;
    if (this.list().some((each) => each.name === request.name)) {
      throw new SwarmError('conflict', `network with name ${request.name} already exists`);
    }
    const record: LocalNetwork = {
      format: 1,
      id: ids.container(),
      driver: 'bridge',
      builtin: false,
      createdAtMs: clock.wallMs(),
      ...request,
    };
    const made = await network.createBridge(bridgeOf(record));
    const whole = { ...record, subnets: made.subnets };
    this.#files.save(whole);
    this.#networks.set(whole.id, whole);
    events.emit('network', 'create', whole.id, { name: whole.name, type: 'bridge' });
    return whole;
  }

  /** SwarmError forbidden for the host's own; conflict while a container is on it. */
  async remove(network: LocalNetwork): Promise<void> {
    if (network.builtin) {
      throw new SwarmError(
        'forbidden',
        `${network.name} is a pre-defined network and cannot be removed`,
      );
    }
    await this.#options.network.removeBridge(network.id);
    this.#files.remove(network.id);
    this.#networks.delete(network.id);
    const { events } = this.#options;
    events.emit('network', 'destroy', network.id, { name: network.name, type: 'bridge' });
  }
}

function bridgeOf(network: LocalNetwork): BridgeNetwork {
  return {
    networkId: network.id,
    name: network.name,
    subnets: network.subnets,
    internal: network.internal,
    options: network.options,
  };
}

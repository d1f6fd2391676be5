/**
 * What the agent tells this host's network to be, and what it gets back. States are whole and
 * versioned: applying one makes the kernel equal to it (diffed, no flapping). Nothing here knows
 * the cluster beyond these records. Addresses are dotted text without prefix unless said.
 */

export interface OverlayPeer {
  /** 1..65535, the host's in the cluster; tunnel and gateway addresses derive from it. */
  readonly hostIndex: number;
  /** The host's underlay address (VTEP). */
  readonly address: string;
}

/** This host among the peers. */
export interface OverlaySelf extends OverlayPeer {
  /** UDP port of the cluster's tunnels; absent = that of HostNetworkOptions. */
  readonly vxlanPort?: number;
}

export interface OverlayEndpoint {
  /** Attachment (task) id. */
  readonly id: string;
  readonly address: string;
  /** '' or absent = none. */
  readonly address6?: string;
  readonly hostIndex: number;
}

/** A virtual address of a service on this network. */
export interface OverlayService {
  readonly serviceId: string;
  readonly virtualAddress: string;
  /** Addresses of the endpoints in balance now (running, healthy, not draining). May be empty. */
  readonly backends: readonly string[];
  /** The same of IPv6; '' or absent = none. */
  readonly virtualAddress6?: string;
  readonly backends6?: readonly string[];
}

/** A DNS name on this network and what it answers: addresses in no particular order. */
export interface OverlayName {
  /** Lower case, without the root dot: 'web', 'tasks.web', 'web.1.<taskid>'. */
  readonly name: string;
  readonly addresses: readonly string[];
}

export interface OverlayState {
  readonly networkId: string;
  readonly name: string;
  readonly vni: number;
  /** CIDR, e.g. '10.0.1.0/24'. */
  readonly subnet: string;
  readonly gateway: string;
  /** CIDR of a second, IPv6 subnet; '' or absent = none. */
  readonly subnet6?: string;
  readonly gateway6?: string;
  readonly internal: boolean;
  /** 0 = derive from the underlay. */
  readonly mtu: number;
  /** Grows within one process; a smaller one than held is left aside. */
  readonly version: number;
  readonly peers: readonly OverlayPeer[];
  readonly endpoints: readonly OverlayEndpoint[];
  readonly services: readonly OverlayService[];
  readonly names: readonly OverlayName[];
}

/** One published port, reachable on every host; the client's address is kept. */
export interface IngressPort {
  readonly protocol: 'tcp' | 'udp';
  readonly publishedPort: number;
  /** One of the hosts' addresses; '' or absent = every one. */
  readonly hostAddress?: string;
  readonly serviceId: string;
  /** For messages about taken ports. */
  readonly serviceName?: string;
  /** gatewayAddress: the task's address on its host's gateway bridge. */
  readonly backends: readonly {
    readonly gatewayAddress: string;
    readonly targetPort: number;
    readonly hostIndex: number;
  }[];
}

export interface IngressState {
  readonly version: number;
  readonly peers: readonly OverlayPeer[];
  readonly ports: readonly IngressPort[];
}

// ---- Bridges of this host, ports of containers, change at run time

/** A user's bridge network of this host, or the default one ('bridge'). */
export interface BridgeNetwork {
  readonly networkId: string;
  readonly name: string;
  /**
   * One IPv4 range at least, an IPv6 one when asked for. CIDR; chosen by `createBridge` when ''.
   */
  readonly subnets: readonly {
    readonly subnet: string;
    readonly gateway: string;
    readonly range: string;
    /** Addresses that other machines have, by their names: never given to a container. */
    readonly reserved?: Readonly<Record<string, string>>;
  }[];
  /** No route out, no published port. */
  readonly internal: boolean;
  /** Docker's com.docker.network.* options: driver.mtu, bridge.enable_icc, bridge.name, ... */
  readonly options: Readonly<Record<string, string>>;
}

/** A port of one container on this host (docker run -p; publish mode host). */
export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp';
  /** '' = every address, IPv4 and IPv6. */
  readonly hostAddress: string;
  /** 0 = chosen from 32768-60999 (docker run -p 80) or as given. */
  readonly hostPort: number;
  readonly containerPort: number;
}

/** One interface of a container on a bridge or overlay, as wanted. */
export interface EndpointRequest {
  readonly networkId: string;
  readonly endpointId: string;
  /** Overlay: as allocated by managers. Bridge: '' = chosen. Without prefix length. */
  readonly address: string;
  readonly address6: string;
  /**
   * Names it answers to on this network besides its container's name; not in AttachRequest.names.
   */
  readonly aliases: readonly string[];
  /** '' = chosen. */
  readonly macAddress: string;
}

/** ... and as made. */
export interface Endpoint {
  readonly networkId: string;
  readonly endpointId: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string;
  readonly address6: string;
  readonly prefixLength6: number;
  readonly gateway6: string;
  readonly macAddress: string;
}

/** What HostNetwork gains for containers of this host alone. */
export interface LocalNetworks {
  /** Makes the bridge and its rules; returns it with its subnets filled in. conflict: overlaps. */
  createBridge(network: BridgeNetwork): Promise<BridgeNetwork>;
  /** conflict when a container is on it. */
  removeBridge(networkId: string): Promise<void>;
  bridges(): readonly BridgeNetwork[];
  /** To a container that is attached (attach with `bridges`), while it runs. */
  connect(containerId: string, endpoint: EndpointRequest): Promise<Endpoint>;
  disconnect(containerId: string, networkId: string): Promise<void>;
  endpoints(containerId: string): readonly Endpoint[];
  /** AttachRequest.name from now on. */
  rename(containerId: string, name: string): Promise<void>;
  /** Names of its AttachRequest.extraHosts, the last entry of each, are at other addresses now. */
  follow(containerId: string, hosts: AttachRequest['extraHosts']): Promise<void>;
  /** conflict: 'port 8080/tcp is already taken by <container name | service name>'. */
  publish(containerId: string, ports: readonly PublishedPort[]): Promise<readonly PublishedPort[]>;
}

export interface AttachRequest {
  /** 64 hex; names the network namespace. */
  readonly containerId: string;
  readonly hostname: string;
  /** Overlay attachments; the state of each network must have been applied before. */
  readonly overlays: readonly {
    readonly networkId: string;
    readonly endpointId: string;
    readonly address: string;
    /** Absent: as far from the start of its subnet as `address` is. */
    readonly address6?: string;
    readonly aliases: readonly string[];
    readonly macAddress?: string;
  }[];
  /**
   * An interface on the host's gateway: default route, NAT, ingress. Where all overlays are
   * internal it is for published ports only: nothing goes out that was not asked for.
   */
  readonly gateway: boolean;
  /** An interface on the default bridge network ('bridge') instead of the gateway bridge. */
  readonly defaultBridge: boolean;
  /** Interfaces on bridges of this host (LocalNetworks); the first gives the default route. */
  readonly bridges?: readonly EndpointRequest[];
  /** Published on this host as soon as the container is attached; all or none. */
  readonly ports?: readonly PublishedPort[];
  /** For messages about taken ports, and its name on user bridges. */
  readonly name?: string;
  readonly extraHosts: readonly { readonly name: string; readonly address: string }[];
  readonly dns: {
    readonly servers: readonly string[];
    readonly search: readonly string[];
    readonly options: readonly string[];
  };
}

export interface Attachment {
  readonly containerId: string;
  /** A file that names the network namespace; joined by path. */
  readonly namespacePath: string;
  /** '' when none. */
  readonly gatewayAddress: string;
  /** As published, with the ports that were chosen. */
  readonly ports?: readonly PublishedPort[];
  /** Host paths of the generated files, to be mounted by the container. */
  readonly hostsFile: string;
  readonly hostnameFile: string;
  readonly resolvConfFile: string;
}

/**
 * Keeps a container's DNS sockets open while no daemon runs: its supervisor holds copies, and gives
 * copies back. Questions that are asked meanwhile wait and are answered late.
 */
export interface SocketKeeper {
  /** Copies; the caller's stay the caller's. */
  hold(containerId: string, fds: readonly number[]): Promise<void>;
  /** The caller's from then on; none when nothing is held. */
  take(containerId: string): Promise<readonly number[]>;
}

export interface HostNetworkOptions {
  readonly execRoot: string;
  readonly dataRoot: string;
  /** This host's index and underlay address; undefined before the host is part of a swarm. */
  readonly self: OverlaySelf | undefined;
  readonly vxlanPort: number;
  /** How often it is looked whether others changed anything; 0 = never. Default 1000. */
  readonly watchMs?: number;
}

export interface HostNetwork extends LocalNetworks {
  /**
   * Joining or leaving a swarm. undefined = in no cluster (any more): overlays go, and containers
   * on them go on without.
   */
  setSelf(self: OverlaySelf | undefined): Promise<void>;
  applyOverlay(state: OverlayState): Promise<void>;
  removeOverlay(networkId: string): Promise<void>;
  applyIngress(state: IngressState): Promise<void>;
  /** Makes the namespace, interfaces, files and DNS sockets. Undone whole if any part fails. */
  attach(request: AttachRequest): Promise<Attachment>;
  /** Idempotent. */
  detach(containerId: string): Promise<void>;
  /** The container's supervisor runs: its sockets can be kept by it from now on. */
  started(containerId: string): void;
  /** Attachments found on start (containers outlive the daemon), already served by DNS again. */
  attachments(): readonly Attachment[];
  /** Compares the kernel with what was applied and mends it; says what it mended. */
  reconcile(): Promise<readonly string[]>;
  /**
   * Removes what belongs to containers not in `containerIds` (after a crash), and adopted overlays
   * that no container uses and that this process has not applied.
   */
  prune(containerIds: ReadonlySet<string>): Promise<void>;
  /** Stops serving; leaves the kernel's state for running containers. */
  close(): Promise<void>;
}

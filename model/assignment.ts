/**
 * What a node is told: the tasks it must run, the networks and files those need, as the dispatcher
 * computes it and the agent obeys it. Complete first, then changes chained by version.
 */
import type { Cluster, DataTable, Network, Task, TaskStatus } from './types.ts';

export interface NetworkPeer {
  readonly hostIndex: number;
  readonly address: string;
}

/** An overlay network as one node needs it; same shapes as runtime/net's OverlayState. */
export interface NetworkAssignment {
  readonly network: Pick<Network, 'id' | 'vni' | 'subnet' | 'gateway'> & {
    readonly name: string;
    readonly internal: boolean;
    readonly mtu: number;
    /** CIDR, '' = none; addresses in it follow from those of the IPv4 subnet. */
    readonly subnet6: string;
  };
  readonly peers: readonly NetworkPeer[];
  readonly endpoints: readonly {
    readonly id: string;
    readonly address: string;
    readonly hostIndex: number;
  }[];
  readonly services: readonly {
    readonly serviceId: string;
    readonly virtualAddress: string;
    readonly backends: readonly string[];
  }[];
  readonly names: readonly { readonly name: string; readonly addresses: readonly string[] }[];
}

/** The published ports of the cluster; every node holds them. */
export interface IngressAssignment {
  readonly peers: readonly NetworkPeer[];
  readonly ports: readonly {
    readonly protocol: 'tcp' | 'udp';
    readonly publishedPort: number;
    /** One address of the hosts; '' = all. */
    readonly hostAddress: string;
    readonly serviceId: string;
    readonly serviceName: string;
    readonly backends: readonly {
      readonly gatewayAddress: string;
      readonly targetPort: number;
      readonly hostIndex: number;
    }[];
  }[];
}

/** A secret or config that a task on the node needs; held in memory only. */
export interface DataAssignment {
  readonly id: string;
  readonly name: string;
  readonly data: Uint8Array;
  readonly templating: '' | 'golang';
}

/** One item to hold or to forget. A key is unique: '<kind>/<id>', or 'ingress'. */
export type AssignmentItem =
  | { readonly kind: 'task'; readonly task: Task }
  | { readonly kind: 'network'; readonly network: NetworkAssignment }
  | { readonly kind: 'ingress'; readonly ingress: IngressAssignment }
  | { readonly kind: DataTable; readonly data: DataAssignment };

export interface AssignmentMessage {
  /** 'complete' replaces everything; 'incremental' applies to what `appliesTo` left. */
  readonly type: 'complete' | 'incremental';
  /** Sequence of the message this one builds on, and its own; 0 before a complete one. */
  readonly appliesTo: number;
  readonly resultsIn: number;
  readonly update: readonly AssignmentItem[];
  /** Keys of items to forget. */
  readonly remove: readonly string[];
  /** The agent says so once its networks are as they are here. */
  readonly confirm: boolean;
}

/** What the manager tells an agent besides assignments, over its session. */
export interface SessionMessage {
  readonly sessionId: string;
  readonly nodeId: string;
  readonly hostIndex: number;
  /** What the node should be; an agent whose daemon differs changes role. */
  readonly role: 'worker' | 'manager';
  /** All managers, leader first when known. */
  readonly managers: readonly {
    readonly nodeId: string;
    readonly address: string;
    readonly isLeader: boolean;
  }[];
  readonly heartbeatMs: number;
  readonly vxlanPort: Cluster['vxlanPort'];
  /** All that the node is to trust, PEM. */
  readonly rootCaCertificate: string;
  /** Digest of the key that should have signed the node's certificate; '' = whoever did. */
  readonly wantedIssuer: string;
  /** How long certificates last that are issued now. */
  readonly certificateExpiryMs: number;
}

export interface TaskStatusUpdate {
  readonly taskId: string;
  readonly status: TaskStatus;
}

export function assignmentKey(item: AssignmentItem): string {
  switch (item.kind) {
    case 'task':
      return `task/${item.task.id}`;
    case 'network':
      return `network/${item.network.network.id}`;
    case 'ingress':
      return 'ingress';
    case 'secret':
    case 'config':
      return `${item.kind}/${item.data.id}`;
  }
}

/**
 * What /tsswarm/watch says, one JSON object a line: a complete picture first ('state', and again
 * whenever the reader fell behind), then each change as it is applied. Made by daemon/api, read by
 * `tsswarm watch`, the dashboard and scripts. Times are Unix milliseconds.
 */
import type { NodeAvailability, NodeRole, NodeState } from './types.ts';

export interface LiveManager {
  readonly nodeId: string;
  readonly hostname: string;
  readonly address: string;
  readonly isLeader: boolean;
  readonly reachable: boolean;
  /** Entries behind the leader; null where it is not known. */
  readonly lag: number | null;
}

export interface LiveNode {
  readonly id: string;
  readonly hostname: string;
  readonly address: string;
  readonly role: NodeRole;
  readonly availability: NodeAvailability;
  readonly state: NodeState;
  readonly stateMessage: string;
  /** null where it is not known: the leader hears heartbeats, and tells other managers. */
  readonly heartbeatAgeMs: number | null;
  readonly runningTasks: number;
  /** Reserved by the tasks placed there, and what the host has. */
  readonly reservedNanoCpus: number;
  readonly nanoCpus: number;
  readonly reservedMemoryBytes: number;
  readonly memoryBytes: number;
}

export interface LiveTask {
  readonly id: string;
  readonly serviceId: string;
  /** 'web.1', or 'web' for a global service, whose slot is the node. */
  readonly name: string;
  readonly nodeId: string;
  readonly hostname: string;
  readonly state: string;
  readonly desiredState: string;
  readonly atMs: number;
  readonly message: string;
  readonly error: string;
  /** When it was created, then when each state was first reached, by the state's name, in order. */
  readonly phases: Readonly<Record<string, number>>;
}

export interface LiveCluster {
  readonly term: number;
  readonly leaderNodeId: string;
  readonly managers: readonly LiveManager[];
  readonly nodes: readonly LiveNode[];
}

export type LiveMessage =
  | {
      readonly type: 'state';
      readonly atMs: number;
      readonly cluster: LiveCluster;
      /** Of those that run or are on their way. */
      readonly tasks: readonly LiveTask[];
      /** How many there are in all: the rest follows in messages of type 'tasks'. */
      readonly taskCount: number;
    }
  | { readonly type: 'tasks'; readonly atMs: number; readonly tasks: readonly LiveTask[] }
  | { readonly type: 'cluster'; readonly atMs: number; readonly cluster: LiveCluster }
  | {
      readonly type: 'task';
      readonly atMs: number;
      readonly change: 'create' | 'update' | 'remove';
      readonly task: LiveTask;
      /** State before the change; '' for a new task. */
      readonly before: string;
    }
  | {
      readonly type: 'event';
      readonly atMs: number;
      readonly object: string;
      readonly action: string;
      readonly id: string;
      readonly attributes: Readonly<Record<string, string>>;
    };

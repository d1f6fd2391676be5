/** Tasks, assignments and edges that tests of the agent share. */
import type { Journal, JournalState } from '../../agent/journal.ts';
import {
  type AssignmentItem,
  type AssignmentMessage,
  assignmentKey,
  type NetworkAssignment,
} from '../../model/assignment.ts';
import {
  DEFAULT_PLACEMENT,
  DEFAULT_RESTART_POLICY,
  EMPTY_CONTAINER,
  NO_RESOURCES,
} from '../../model/defaults.ts';
import { TaskState } from '../../model/taskState.ts';
import type { ContainerSpec, Task, TaskSpec, TaskStatus } from '../../model/types.ts';

export const ASSIGNED_STATUS: TaskStatus = {
  state: TaskState.ASSIGNED,
  atMs: 1,
  message: 'assigned',
  error: '',
  containerId: '',
  pid: 0,
  exitCode: 0,
  oomKilled: false,
  gatewayAddress: '',
  phases: { [TaskState.ASSIGNED]: 1 },
};

export interface TaskParts {
  readonly container?: Partial<ContainerSpec>;
  readonly spec?: Partial<TaskSpec>;
  readonly task?: Partial<Task>;
}

export function makeTask(id: string, parts: TaskParts = {}): Task {
  return {
    id,
    version: 1,
    createdAtMs: 1,
    updatedAtMs: 1,
    serviceId: 'service1',
    serviceName: 'web',
    slot: 1,
    generation: 1,
    nodeId: 'node1',
    serviceLabels: { tier: 'front' },
    specVersion: 1,
    desiredState: TaskState.RUNNING,
    status: ASSIGNED_STATUS,
    networks: [],
    ports: [],
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: [],
    ...parts.task,
    spec: {
      container: { ...EMPTY_CONTAINER, image: 'web', ...parts.container },
      limits: NO_RESOURCES,
      reservations: NO_RESOURCES,
      restart: DEFAULT_RESTART_POLICY,
      placement: DEFAULT_PLACEMENT,
      networks: [{ target: 'none', aliases: [], addresses: [] }],
      genericResources: [],
      logDriver: '',
      logOptions: {},
      forceUpdate: 0,
      ...parts.spec,
    },
  };
}

export function taskItem(task: Task): AssignmentItem {
  return { kind: 'task', task };
}

export function overlay(id: string, more: { internal?: boolean } = {}): NetworkAssignment {
  return {
    network: {
      id,
      vni: 4097,
      subnet: '10.0.1.0/24',
      gateway: '10.0.1.1',
      name: id,
      internal: more.internal ?? false,
      subnet6: '',
      mtu: 0,
    },
    peers: [],
    endpoints: [],
    services: [],
    names: [],
  };
}

export function complete(resultsIn: number, update: readonly AssignmentItem[]): AssignmentMessage {
  return { type: 'complete', appliesTo: 0, resultsIn, update, remove: [], confirm: false };
}

export function change(
  resultsIn: number,
  update: readonly AssignmentItem[],
  remove: readonly string[] = [],
): AssignmentMessage {
  return {
    type: 'incremental',
    appliesTo: resultsIn - 1,
    resultsIn,
    update,
    remove,
    confirm: false,
  };
}

/** Keeps what it is told; a second agent on it starts as after a restart of the daemon. */
export class MemoryJournal implements Journal {
  readonly items = new Map<string, AssignmentItem>();
  readonly kept = new Map<string, TaskStatus>();
  self: JournalState['self'];
  managers: readonly string[] = [];

  async load(): Promise<JournalState> {
    return {
      self: this.self,
      managers: this.managers,
      items: [...this.items.values()],
      statuses: new Map(this.kept),
    };
  }

  setSelf(self: NonNullable<JournalState['self']>): void {
    this.self = self;
  }

  setManagers(managers: readonly string[]): void {
    this.managers = managers;
  }

  put(item: AssignmentItem): void {
    this.items.set(assignmentKey(item), item);
  }

  setStatus(taskId: string, status: TaskStatus): void {
    this.kept.set(taskId, status);
  }

  remove(key: string): void {
    this.items.delete(key);
    this.kept.delete(key.replace('task/', ''));
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {}
}

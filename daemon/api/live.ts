/**
 * /tsswarm/watch: the cluster as it moves, as JSON lines (model/live.ts). Reads the local store
 * without a barrier, so that it shows what is known even when there is no quorum.
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { ITEMS_PER_STEP, type Slices, type Steps } from '../../base/slices.ts';
import type { Control } from '../../manager/control/types.ts';
import type { StoreEvent, View } from '../../manager/store/types.ts';
import type { LiveCluster, LiveMessage, LiveNode, LiveTask } from '../../model/live.ts';
import { shownSlot } from '../../model/taskName.ts';
import { isWantedState, TaskState, taskStateName } from '../../model/taskState.ts';
import type { Node, Task } from '../../model/types.ts';
import type { DaemonNode } from '../types.ts';
import { dockerEvent } from './events.ts';
import { changed } from './follow.ts';

/** Heartbeat ages and lag change by themselves: the picture is renewed this often. */
const CLUSTER_PERIOD_MS = 1000;
const BATCH_EVENTS = 256;
/** Tasks in one message: about two milliseconds' work. */
const BATCH_TASKS = 256;

export async function* liveMessages(
  node: DaemonNode,
  control: Control,
  clock: Clock,
  slices: Slices,
  signal: AbortSignal,
): AsyncGenerator<LiveMessage> {
  while (!signal.aborted) {
    const watch = control.store.watch();
    const pin = control.store.pin();
    try {
      const { sums, current } = await slices.run(lookAt(pin));
      pin.release();
      const picture = (): LiveCluster => clusterPicture(node, control, sums);
      yield* stateMessages(control.store, clock, picture(), current);
      let dueMs = clock.nowMs() + CLUSTER_PERIOD_MS;
      while (!signal.aborted) {
        const events = watch.take(BATCH_EVENTS);
        for (const event of events) {
          sums.note(event);
          yield* messagesOf(event, control.store);
        }
        if (clock.nowMs() >= dueMs) {
          yield { type: 'cluster', atMs: clock.wallMs(), cluster: picture() };
          dueMs = clock.nowMs() + CLUSTER_PERIOD_MS;
        }
        if (events.length > 0) continue;
        await changed(watch, clock, signal, Math.max(0, dueMs - clock.nowMs()));
      }
    } catch (error) {
      // Fell out of the ring: the next turn starts from a complete picture.
      if (!hasCode(error, 'exhausted')) throw error;
    } finally {
      pin.release();
      watch.close();
    }
  }
}

/** What a picture begins with, of the moment of the view. */
function* lookAt(view: View): Steps<{ sums: NodeSums; current: readonly Task[] }> {
  const sums = new NodeSums();
  const current: Task[] = [];
  let looked = 0;
  for (const task of view.all('task')) {
    sums.add(task, 1);
    if (isCurrent(task)) current.push(task);
    looked += 1;
    if (looked % ITEMS_PER_STEP === 0) yield;
  }
  return { sums, current };
}

async function* stateMessages(
  store: View,
  clock: Clock,
  cluster: LiveCluster,
  current: readonly Task[],
): AsyncGenerator<LiveMessage> {
  const batch = (at: number): readonly LiveTask[] =>
    current.slice(at, at + BATCH_TASKS).map((task) => liveTask(task, store));
  const taskCount = current.length;
  yield { type: 'state', atMs: clock.wallMs(), cluster, tasks: batch(0), taskCount };
  for (let at = BATCH_TASKS; at < taskCount; at += BATCH_TASKS) {
    await new Promise<void>((resolve) => clock.defer(resolve));
    yield { type: 'tasks', atMs: clock.wallMs(), tasks: batch(at) };
  }
}

function isCurrent(task: Task): boolean {
  return (
    task.serviceId !== '' &&
    isWantedState(task.desiredState) &&
    task.status.state <= TaskState.RUNNING
  );
}

interface Sum {
  runningTasks: number;
  reservedNanoCpus: number;
  reservedMemoryBytes: number;
}

/** Tasks and reservations per node, kept by the changes of tasks. */
class NodeSums {
  readonly #sums = new Map<string, Sum>();

  get(nodeId: string): Sum | undefined {
    return this.#sums.get(nodeId);
  }

  note({ table, before, after }: StoreEvent): void {
    if (table !== 'task') return;
    if (before !== undefined) this.add(before as Task, -1);
    if (after !== undefined) this.add(after as Task, 1);
  }

  add({ serviceId, nodeId, status, spec }: Task, sign: 1 | -1): void {
    if (serviceId === '' || nodeId === '' || status.state > TaskState.RUNNING) return;
    let sum = this.#sums.get(nodeId);
    if (sum === undefined) {
      sum = { runningTasks: 0, reservedNanoCpus: 0, reservedMemoryBytes: 0 };
      this.#sums.set(nodeId, sum);
    }
    if (status.state === TaskState.RUNNING) sum.runningTasks += sign;
    sum.reservedNanoCpus += sign * spec.reservations.nanoCpus;
    sum.reservedMemoryBytes += sign * spec.reservations.memoryBytes;
  }
}

function clusterPicture(node: DaemonNode, control: Control, sums: NodeSums): LiveCluster {
  const { store } = control;
  const raft = control.raftStatus();
  const ages = node.heartbeatAges();
  const nodes: LiveNode[] = [];
  for (const item of store.all('node')) {
    nodes.push(liveNode(item, ages.get(item.id), sums.get(item.id)));
  }
  nodes.sort((left, right) => (left.hostname < right.hostname ? -1 : 1));
  return {
    term: raft.term,
    leaderNodeId: raft.leaderNodeId,
    managers: raft.managers.map((manager) => ({
      nodeId: manager.nodeId,
      hostname: hostnameOf(store, manager.nodeId),
      address: manager.address,
      isLeader: manager.isLeader,
      reachable: manager.reachable,
      lag: manager.lag ?? null,
    })),
    nodes,
  };
}

function liveNode(node: Node, ageMs: number | undefined, sums: Sum | undefined): LiveNode {
  return {
    id: node.id,
    hostname: node.description.hostname,
    address: node.address,
    role: node.role,
    availability: node.spec.availability,
    state: node.state,
    stateMessage: node.stateMessage,
    heartbeatAgeMs: ageMs === undefined ? null : Math.round(ageMs),
    runningTasks: sums?.runningTasks ?? 0,
    reservedNanoCpus: sums?.reservedNanoCpus ?? 0,
    nanoCpus: node.description.nanoCpus,
    reservedMemoryBytes: sums?.reservedMemoryBytes ?? 0,
    memoryBytes: node.description.memoryBytes,
  };
}

function hostnameOf(store: View, nodeId: string): string {
  return store.get('node', nodeId)?.description.hostname ?? nodeId;
}

function liveTask(task: Task, store: View): LiveTask {
  const slot = shownSlot(task);
  const phases: Record<string, number> = { new: task.createdAtMs };
  for (const state of Object.values(TaskState)) {
    const atMs = task.status.phases[state];
    if (atMs !== undefined && state !== TaskState.NEW) phases[taskStateName(state)] = atMs;
  }
  return {
    id: task.id,
    serviceId: task.serviceId,
    name: slot === undefined ? task.serviceName : `${task.serviceName}.${slot}`,
    nodeId: task.nodeId,
    hostname: task.nodeId === '' ? '' : hostnameOf(store, task.nodeId),
    state: taskStateName(task.status.state),
    desiredState: taskStateName(task.desiredState),
    atMs: task.status.atMs,
    message: task.status.message,
    error: task.status.error,
    phases,
  };
}

function* messagesOf(event: StoreEvent, store: View): Generator<LiveMessage> {
  const { atMs } = event;
  if (event.table === 'task') {
    const task = (event.after ?? event.before) as Task | undefined;
    if (task === undefined || task.serviceId === '') return;
    const before = event.before as Task | undefined;
    yield {
      type: 'task',
      atMs,
      change: event.kind,
      task: liveTask(task, store),
      before: before === undefined ? '' : taskStateName(before.status.state),
    };
    return;
  }
  const docker = dockerEvent(event);
  if (docker === undefined) return;
  yield {
    type: 'event',
    atMs,
    object: docker.Type,
    action: docker.Action,
    id: event.id,
    attributes: docker.Actor.Attributes,
  };
}

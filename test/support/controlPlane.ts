/**
 * A manager's loops over a bare Store, for tests: plans are applied at once, time is a number that
 * the test moves, and agents are played by a function that moves tasks along. No Raft, no timers.
 */
import assert from 'node:assert/strict';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { atOnce } from '../../base/slices.ts';
import { managerLoops } from '../../manager/loops.ts';
import { byTable } from '../../manager/store/contents.ts';
import { Store } from '../../manager/store/store.ts';
import type { ApplyResult, Change, DirtySet, Loop, StoreEvent } from '../../manager/store/types.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { NodeState, Service, TableName, Tables, Task } from '../../model/types.ts';
import { cluster, type NodeFields, node, type ServiceSpecFields, service } from './objects.ts';

/** Passes over all loops until nothing changes; more means they fight each other. */
const ROUNDS_MAX = 200;
export const START_MS = 1_700_000_000_000;

export interface ControlPlaneOptions {
  readonly nodes?: number;
  readonly seed?: number;
  readonly nodeFields?: NodeFields;
}

export class ControlPlane {
  readonly store = new Store();
  readonly rejected: string[] = [];
  nowMs = START_MS;
  readonly #ids: Ids;
  #loops: { loop: Loop; events: StoreEvent[]; everything: boolean; wakeAtMs: number }[] = [];
  #version = 0;
  /** Nodes whose agent does not answer: everything there stays as it is. */
  readonly silent = new Set<string>();
  /** Plays a change that was stale when it arrived: true drops it, and its loop looks again. */
  drops: (change: Change) => boolean = () => false;
  /**
   * What an agent does with a task: 'pull' leaves it PREPARING, 'fail' ends it when it starts,
   * 'hang' leaves it STARTING.
   */
  behaviour: (task: Task) => 'run' | 'fail' | 'complete' | 'reject' | 'pull' | 'hang' = () => 'run';

  constructor(options: ControlPlaneOptions = {}) {
    this.#ids = new Ids(new SeededRandom(options.seed ?? 1));
    this.elect();
    this.apply([{ kind: 'create', table: 'cluster', object: cluster() }]);
    for (let at = 1; at <= (options.nodes ?? 3); at += 1) {
      const object = node(`h${at}`, at, options.nodeFields);
      this.apply([{ kind: 'create', table: 'node', object }]);
    }
  }

  /** New loops with empty memories, as after a change of leader. */
  elect(): void {
    this.#loops = managerLoops(this.#ids).map((loop) => ({
      loop,
      events: [],
      everything: true,
      wakeAtMs: Number.POSITIVE_INFINITY,
    }));
  }

  apply(changes: readonly Change[], atomic = false): ApplyResult {
    const watch = this.store.watch();
    this.#version += 1;
    const result = this.store.apply(this.#version, this.nowMs, { atomic, changes });
    const events = watch.take(Number.MAX_SAFE_INTEGER);
    watch.close();
    for (const entry of this.#loops) {
      entry.events.push(...events.filter(({ table }) => entry.loop.tables.includes(table)));
    }
    for (const { message } of result.rejected) this.rejected.push(message);
    return result;
  }

  /** Applies what a test wants, and insists that it was taken. */
  change(...changes: readonly Change[]): void {
    assert.deepEqual(this.apply(changes).rejected, []);
  }

  /** Runs every loop that has something to look at, once; whether anything changed. */
  round(): boolean {
    let changed = false;
    for (const entry of this.#loops) {
      const due = entry.wakeAtMs <= this.nowMs;
      if (!entry.everything && !due && entry.events.length === 0) continue;
      const dirty = dirtySet(entry.events.splice(0), entry.everything);
      entry.everything = false;
      const plan = atOnce(entry.loop.plan(this.store, dirty, this.nowMs));
      entry.wakeAtMs = plan.wakeAtMs ?? Number.POSITIVE_INFINITY;
      if (plan.changes.length === 0) continue;
      changed = true;
      const arrived = plan.changes.filter((change) => !this.drops(change));
      const { rejected } = this.apply(arrived);
      entry.everything = arrived.length - rejected.length < plan.changes.length;
    }
    return changed;
  }

  /** Loops and agents, until nothing moves; `check` after every round. */
  settle(check: () => void = () => {}): void {
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const planned = this.round();
      check();
      const moved = this.agents();
      check();
      if (!planned && !moved) return;
    }
    assert.fail('the loops did not come to rest');
  }

  /** Moves time on, waking what asked for it on the way. */
  advance(ms: number, check: () => void = () => {}): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const nextMs = Math.min(...this.#loops.map(({ wakeAtMs }) => wakeAtMs));
      if (nextMs > endMs) break;
      this.nowMs = Math.max(this.nowMs + 1, nextMs);
      this.settle(check);
    }
    this.nowMs = endMs;
    this.settle(check);
  }

  /** Every agent that answers moves each of its tasks one step; whether any moved. */
  agents(): boolean {
    const changes: Change[] = [];
    for (const task of this.store.all('task')) {
      if (task.status.state < TaskState.ASSIGNED || isTerminal(task.status.state)) continue;
      const host = this.store.get('node', task.nodeId);
      if (host === undefined || host.state === 'down' || this.silent.has(task.nodeId)) continue;
      const state = this.#step(task);
      if (state === task.status.state) continue;
      const phases = { ...task.status.phases, [state]: this.nowMs };
      const status = { ...task.status, state, atMs: this.nowMs, phases };
      changes.push({ kind: 'update', table: 'task', object: { ...task, status } });
    }
    if (changes.length > 0) this.apply(changes);
    return changes.length > 0;
  }

  #step(task: Task): TaskState {
    const { state } = task.status;
    if (!isWantedState(task.desiredState)) return TaskState.SHUTDOWN;
    const behaviour = this.behaviour(task);
    if (state < TaskState.READY) {
      if (behaviour === 'pull') return TaskState.PREPARING;
      return behaviour === 'reject' ? TaskState.REJECTED : TaskState.READY;
    }
    if (task.desiredState < TaskState.RUNNING) return state;
    if (state < TaskState.STARTING) return TaskState.STARTING;
    if (behaviour === 'run') return TaskState.RUNNING;
    if (behaviour === 'fail') return TaskState.FAILED;
    if (behaviour === 'complete') return TaskState.COMPLETE;
    return state;
  }

  // ---- what tests do and ask -------------------------------------------------------------------

  create(name: string, fields: ServiceSpecFields = {}): Service {
    this.change({ kind: 'create', table: 'service', object: service(name, fields) });
    return this.service(name);
  }

  update(name: string, change: (service: Service) => Partial<Service['spec']>): void {
    const before = this.service(name);
    const spec = { ...before.spec, ...change(before) };
    const { job } = before;
    const next = job === undefined ? undefined : { ...job, iteration: job.iteration + 1 };
    const object = { ...before, spec, previousSpec: before.spec, job: next };
    this.change({ kind: 'update', table: 'service', object });
  }

  service(name: string): Service {
    const found = this.store.byName('service', name);
    assert.ok(found, `no service ${name}`);
    return found;
  }

  get<T extends TableName>(table: T, id: string): Tables[T] {
    const found = this.store.get(table, id);
    assert.ok(found, `no ${table} ${id}`);
    return found;
  }

  setNode(id: string, fields: NodeFields): void {
    const before = this.get('node', id);
    const object = {
      ...before,
      ...fields,
      spec: { ...before.spec, ...fields.spec },
      description: { ...before.description, ...fields.description },
    };
    this.change({ kind: 'update', table: 'node', object });
  }

  nodeState(id: string, state: NodeState): void {
    this.setNode(id, { state });
  }

  /** The container of a running task ends. */
  end(task: Task, state: TaskState): void {
    const before = this.get('task', task.id);
    const phases = { ...before.status.phases, [state]: this.nowMs };
    const status = { ...before.status, state, atMs: this.nowMs, phases };
    this.change({ kind: 'update', table: 'task', object: { ...before, status } });
  }

  tasks(name: string): Task[] {
    const tasks = [...this.store.tasksOfService(this.service(name).id)];
    return tasks.sort((a, b) => a.slot - b.slot || a.generation - b.generation);
  }

  /** Wanted tasks. */
  wanted(name: string): Task[] {
    return this.tasks(name).filter((task) => isWantedState(task.desiredState));
  }

  /** Tasks whose container runs, as far as the store knows, on nodes that answer. */
  running(name: string): Task[] {
    return this.tasks(name).filter(
      (task) =>
        task.status.state === TaskState.RUNNING &&
        this.store.get('node', task.nodeId)?.state === 'ready',
    );
  }
}

function dirtySet(events: readonly StoreEvent[], everything: boolean): DirtySet {
  const ids = byTable(() => new Set<string>());
  const taskServices = new Set<string>();
  const taskNodes = new Set<string>();
  for (const { table, id, before, after } of events) {
    ids[table].add(id);
    if (table !== 'task') continue;
    for (const task of [before, after] as (Task | undefined)[]) {
      if (task === undefined) continue;
      taskServices.add(task.serviceId);
      taskNodes.add(task.nodeId);
    }
  }
  return { everything, ids, taskServices, taskNodes };
}

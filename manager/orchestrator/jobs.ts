/**
 * Jobs: tasks that run to their end. A replicated job completes `totalCompletions` slots, at most
 * `maxConcurrent` tasks at a time; a global job one on every node that is up and fits. What ends
 * badly is tried again in its slot as the restart policy allows; what completed is never touched
 * again in its iteration. The next iteration begins anew and removes what still runs of the last.
 * Decides from the view alone.
 *
 * | a slot, of this iteration | when | what is to be done |
 * |---|---|---|
 * | done | a task of it is COMPLETE | others of it stop |
 * | active | a task is wanted and can run | it is raised when its delay is over |
 * | failed | it ended badly and is not to be tried again | nothing |
 * | open | neither | a task, when there is room |
 */
import type { Ids } from '../../base/id.ts';
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { bySlot } from '../placement/slot.ts';
import { createTask, setDesired } from '../placement/task.ts';
import type { Change, View } from '../store/types.ts';
import { mayKeep, mayStart } from './global.ts';
import { mayRestart } from './restart.ts';
import { Orchestrator, type ServiceResult, servicesOfMode, servicesOnNode } from './serviceLoop.ts';
import { endedByItself, followsAtMs, hasNode, isWanted } from './slots.ts';

type SlotState = 'done' | 'active' | 'failed' | 'open';

interface JobSlot {
  /** Of every iteration, oldest generation first; at least one. */
  readonly tasks: readonly Task[];
  /** Of the current one. */
  readonly current: readonly Task[];
  readonly live: readonly Task[];
  readonly state: SlotState;
}

export class JobOrchestrator extends Orchestrator {
  readonly name = 'jobs';

  protected everyService(view: View): Iterable<string> {
    return [...servicesOfMode(view, 'replicated-job'), ...servicesOfMode(view, 'global-job')];
  }

  /** A node that comes concerns every global job, not only those it runs. */
  protected override servicesOfNode(view: View, nodeId: string): Iterable<string> {
    return new Set([...servicesOfMode(view, 'global-job'), ...servicesOnNode(view, nodeId)]);
  }

  protected *planService(view: View, serviceId: string, nowMs: number): Steps<ServiceResult> {
    const service = view.get('service', serviceId);
    if (service?.job === undefined) return { changes: [] };
    const slots = yield* slotsOf(view, service);
    const plan = new JobPlan(view, service, slots, this.ids, nowMs);
    if (service.spec.mode.kind === 'replicated-job') plan.replicated(service.spec.mode);
    if (service.spec.mode.kind === 'global-job') plan.global();
    return { changes: plan.changes, wakeAtMs: plan.wakeAtMs };
  }
}

class JobPlan {
  readonly changes: Change[] = [];
  wakeAtMs: number | undefined;
  readonly #view: View;
  readonly #service: Service;
  readonly #ids: Ids;
  readonly #nowMs: number;
  readonly #slots: ReadonlyMap<string, JobSlot>;

  constructor(
    view: View,
    service: Service,
    slots: ReadonlyMap<string, JobSlot>,
    ids: Ids,
    nowMs: number,
  ) {
    this.#view = view;
    this.#service = service;
    this.#ids = ids;
    this.#nowMs = nowMs;
    this.#slots = slots;
  }

  replicated(mode: { readonly maxConcurrent: number; readonly totalCompletions: number }): void {
    for (const slot of this.#slots.values()) this.#tend(slot);
    let active = 0;
    for (const slot of this.#slots.values()) if (slot.state === 'active') active += 1;
    for (let number = 1; number <= mode.totalCompletions; number += 1) {
      if (active >= mode.maxConcurrent) return;
      const slot = this.#slots.get(String(number));
      if (slot !== undefined && (slot.state !== 'open' || this.#rests(slot))) continue;
      this.#start(number, '', slot);
      active += 1;
    }
  }

  global(): void {
    for (const [nodeId, slot] of this.#slots) {
      const node = this.#view.get('node', nodeId);
      if (node !== undefined && mayKeep(this.#service, node)) this.#tend(slot);
      else for (const task of slot.tasks) this.#stop(task, TaskState.SHUTDOWN);
    }
    for (const node of this.#view.all('node')) {
      const slot = this.#slots.get(node.id);
      if (slot !== undefined && (slot.state !== 'open' || this.#rests(slot))) continue;
      if (mayStart(this.#service, node)) this.#start(0, node.id, slot);
    }
  }

  #tend(slot: JobSlot): void {
    for (const task of slot.tasks) {
      if (!slot.current.includes(task)) this.#stop(task, TaskState.REMOVE);
      else if (slot.state === 'done' || !slot.live.includes(task)) this.#letGo(task);
    }
    const newest = slot.live.at(-1);
    if (slot.state !== 'active' || newest === undefined) return;
    for (const task of slot.live) if (task !== newest) this.#stop(task, TaskState.SHUTDOWN);
    if (newest.desiredState !== TaskState.READY) return;
    if (this.#nowMs >= newest.notBeforeMs) {
      this.changes.push(setDesired(newest, TaskState.COMPLETE));
    } else {
      this.#wake(newest.notBeforeMs);
    }
  }

  /** Whether the next task of an open slot has to wait still. */
  #rests({ current }: JobSlot): boolean {
    const newest = current.at(-1);
    const atMs = newest === undefined ? 0 : followsAtMs(newest, this.#service);
    if (this.#nowMs < atMs) this.#wake(atMs);
    return this.#nowMs < atMs;
  }

  #wake(atMs: number): void {
    this.wakeAtMs = Math.min(this.wakeAtMs ?? atMs, atMs);
  }

  /** A task that completed as it was wanted to stays so. */
  #letGo(task: Task): void {
    if (task.status.state !== TaskState.COMPLETE) this.#stop(task, TaskState.SHUTDOWN);
  }

  #stop(task: Task, desired: TaskState): void {
    const isHistory = desired === TaskState.REMOVE && isTerminal(task.status.state);
    const isDone = task.status.state === TaskState.COMPLETE;
    if (!isHistory && !isDone && task.desiredState < desired) {
      this.changes.push(setDesired(task, desired));
    }
  }

  #start(slot: number, nodeId: string, before: JobSlot | undefined): void {
    const newest = before?.current.at(-1);
    const waits = newest !== undefined && endedByItself(newest);
    const delayMs = waits ? newest.spec.restart.delayMs : 0;
    const notBeforeMs = delayMs > 0 ? this.#nowMs + Math.round(delayMs) : 0;
    const wanted = {
      slot,
      nodeId,
      generation: (before?.tasks.at(-1)?.generation ?? 0) + 1,
      desiredState: notBeforeMs > 0 ? TaskState.READY : TaskState.COMPLETE,
      notBeforeMs,
    };
    this.changes.push(createTask(this.#ids, this.#service, wanted, this.#nowMs));
    if (notBeforeMs > 0) this.#wake(notBeforeMs);
  }
}

function* slotsOf(view: View, service: Service): Steps<ReadonlyMap<string, JobSlot>> {
  const slots = new Map<string, JobSlot>();
  for (const [key, tasks] of bySlot(view.tasksOfService(service.id))) {
    slots.set(key, assess(view, service, tasks));
    if (slots.size % ITEMS_PER_STEP === 0) yield;
  }
  return slots;
}

function assess(view: View, service: Service, tasks: readonly Task[]): JobSlot {
  const current = tasks.filter((task) => task.jobIteration === service.job?.iteration);
  const live = current.filter(
    (task) => isWanted(task) && !isTerminal(task.status.state) && hasNode(view, task),
  );
  return { tasks, current, live, state: stateOf(current, live) };
}

function stateOf(current: readonly Task[], live: readonly Task[]): SlotState {
  if (current.some((task) => task.status.state === TaskState.COMPLETE)) return 'done';
  if (live.length > 0) return 'active';
  return current.length === 0 || mayRestart(current) ? 'open' : 'failed';
}

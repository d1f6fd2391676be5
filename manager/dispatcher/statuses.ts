/**
 * Task statuses on their way into the store: the latest per task, joined into one proposal per few
 * milliseconds, answered once applied. A status never goes back and never loses a phase that was
 * seen; a change that raced with another one is decided again.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { parseAddress } from '../../model/address.ts';
import type { TaskStatusUpdate } from '../../model/assignment.ts';
import { sameValue } from '../../model/equal.ts';
import type { Task, TaskStatus } from '../../model/types.ts';
import type { Change, Proposer, View } from '../store/types.ts';

const FLUSH_MS = 5;
const MAX_CHANGES = 200;
/** Tasks waiting at once; an agent told 'exhausted' keeps its statuses and sends them again. */
const MAX_WAITING = 50_000;
const MAX_ATTEMPTS = 10;
const MAX_TEXT_CHARACTERS = 1024;

interface Waiting {
  status: TaskStatus;
  readonly nodeId: string;
  attempts: number;
  readonly settle: ((error: unknown) => void)[];
}

/** `task`'s status after `update`, or undefined when it says nothing new. */
export function mergeStatus(task: Task, update: TaskStatus): TaskStatus | undefined {
  if (update.state < task.status.state) return undefined;
  const merged: TaskStatus = {
    ...update,
    // Other hosts write it into their rules: from a node that lies nothing but an address passes.
    gatewayAddress: parseAddress(update.gatewayAddress) === undefined ? '' : update.gatewayAddress,
    message: update.message.slice(0, MAX_TEXT_CHARACTERS),
    error: update.error.slice(0, MAX_TEXT_CHARACTERS),
    phases: { ...update.phases, ...task.status.phases },
  };
  return sameValue(merged, task.status) ? undefined : merged;
}

export class StatusBatcher {
  readonly #clock: Clock;
  readonly #view: View;
  readonly #proposer: Proposer;
  #waiting = new Map<string, Waiting>();
  #timer: Timer | undefined;
  #flushing = false;

  constructor(options: {
    readonly clock: Clock;
    readonly view: View;
    readonly proposer: Proposer;
  }) {
    this.#clock = options.clock;
    this.#view = options.view;
    this.#proposer = options.proposer;
  }

  /**
   * Resolves once all of `updates` are applied (or are overtaken); those of other nodes are not.
   */
  async submit(nodeId: string, updates: readonly TaskStatusUpdate[]): Promise<void> {
    if (this.#waiting.size + updates.length > MAX_WAITING) {
      throw new SwarmError('exhausted', 'too many task statuses are waiting; send them again');
    }
    await Promise.all(updates.map((update) => this.#add(nodeId, update)));
  }

  #add(nodeId: string, { taskId, status }: TaskStatusUpdate): Promise<void> {
    const task = this.#view.get('task', taskId);
    if (task?.nodeId !== nodeId || mergeStatus(task, status) === undefined) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const settle = (error: unknown): void => (error === undefined ? resolve() : reject(error));
      const waiting = this.#waiting.get(taskId);
      if (waiting === undefined) {
        this.#waiting.set(taskId, { status, nodeId, attempts: 0, settle: [settle] });
      } else {
        waiting.settle.push(settle);
        waiting.status = further(waiting.status, status);
      }
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#flushing || this.#waiting.size === 0) return;
    this.#timer = this.#clock.after(FLUSH_MS, () => {
      this.#timer = undefined;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    const waiting = [...this.#waiting];
    this.#waiting = new Map();
    for (let at = 0; at < waiting.length; at += MAX_CHANGES) {
      await this.#write(waiting.slice(at, at + MAX_CHANGES));
    }
    this.#flushing = false;
    this.#schedule();
  }

  async #write(batch: readonly (readonly [string, Waiting])[]): Promise<void> {
    const changes: Change[] = [];
    const written: (readonly [string, Waiting])[] = [];
    for (const [taskId, entry] of batch) {
      const task = this.#view.get('task', taskId);
      const status = task?.nodeId === entry.nodeId ? mergeStatus(task, entry.status) : undefined;
      if (task === undefined || status === undefined) {
        settleAll(entry, undefined);
        continue;
      }
      changes.push({ kind: 'update', table: 'task', object: { ...task, status } });
      written.push([taskId, entry]);
    }
    if (changes.length === 0) return;
    let rejected: ReadonlySet<number>;
    try {
      const result = await this.#proposer.propose({ atomic: false, changes });
      rejected = new Set(result.rejected.map(({ index }) => index));
    } catch (error) {
      for (const [, entry] of written) settleAll(entry, error);
      return;
    }
    for (const [index, [taskId, entry]] of written.entries()) {
      if (rejected.has(index)) this.#again(taskId, entry);
      else settleAll(entry, undefined);
    }
  }

  /** Raced with another change of the task: once more, unless something newer waits already. */
  #again(taskId: string, entry: Waiting): void {
    entry.attempts += 1;
    if (entry.attempts >= MAX_ATTEMPTS) {
      settleAll(entry, new SwarmError('unavailable', `task ${taskId} changes too fast; try again`));
      return;
    }
    const newer = this.#waiting.get(taskId);
    if (newer === undefined) this.#waiting.set(taskId, entry);
    else {
      newer.settle.push(...entry.settle);
      newer.status = further(entry.status, newer.status);
    }
  }
}

/** The later of two reports, unless the earlier had come further; phases seen are kept. */
function further(earlier: TaskStatus, later: TaskStatus): TaskStatus {
  if (later.state < earlier.state) return earlier;
  return { ...later, phases: { ...later.phases, ...earlier.phases } };
}

function settleAll(entry: Waiting, error: unknown): void {
  for (const settle of entry.settle) settle(error);
}

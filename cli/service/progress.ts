/**
 * Waits until a service is what was asked for, and shows how far it is: on a terminal redrawn in
 * place, in a pipe one line a change. Ends with 'done', or with the reason why it is stuck when
 * nothing has moved for 5 s and there is one, or when its tasks have ended for good. The service is
 * kept either way.
 */
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import { type Context, EXIT_ERROR, EXIT_NOT_PLACEABLE, patiently } from '../context.ts';
import type { NodeJson, ServiceJson, TaskJson } from '../docker.ts';

const POLL_MS = 100;
/** No movement for this long, and a reason why, means that it will not happen by itself. */
const STUCK_MS = 5000;
/** All must have been running for this long: a program that ends at once is not 'running'. */
const STEADY_MS = 1000;
/** A task that ended and has no successor after this long gets none, if its policy may say so. */
const GIVEN_UP_MS = 1500;

const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'orphaned', 'remove']);
const BY_ITSELF = new Set(['complete', 'failed', 'rejected']);

const BAR_WIDTH = 50;
/** More rows than this would scroll; only the overall line is shown then. */
const MAX_ROWS = 20;

interface Sight {
  readonly service: ServiceJson;
  /** The newest up-to-date task of each slot (or node), in order. */
  readonly tasks: readonly (readonly [string, TaskJson])[];
  readonly wanted: number;
  readonly running: number;
  readonly reason: string;
  /** Some have ended, the rest run, and the policy of restarts may leave it at that. */
  readonly ended: boolean;
  /** A job: `running` are those that ended well. */
  readonly isJob: boolean;
}

async function look(context: Context, id: string): Promise<Sight> {
  const { client } = context;
  const filters = filtersText({ service: [id], '_up-to-date': ['true'] });
  const [service, tasks, down] = await Promise.all([
    client.get<ServiceJson>(`/services/${id}`, { status: true }),
    client.get<TaskJson[]>('/tasks', { filters }),
    nodesDown(context),
  ]);
  if (isJob(service)) return jobSight(service, tasks);
  const newest = new Map<string, TaskJson>();
  for (const task of tasks) {
    const slot = slotOf(task);
    const other = newest.get(slot);
    const later = other === undefined || Date.parse(task.CreatedAt) >= Date.parse(other.CreatedAt);
    if (later && !down.has(task.NodeID ?? '')) newest.set(slot, task);
  }
  const wanted = service.ServiceStatus?.DesiredTasks ?? 0;
  const replicated = service.Spec.Mode?.Global === undefined;
  const collator = new Intl.Collator('en', { numeric: true });
  const shown = [...newest]
    .filter(([slot, task]) =>
      replicated
        ? Number(slot) <= wanted
        : task.DesiredState !== 'shutdown' || (wanted === 0 && BY_ITSELF.has(task.Status.State)),
    )
    .sort(([left], [right]) => collator.compare(left, right));
  const running = tasks.filter((task) => isRunning(task, down)).length;
  const ended = hasEnded(service, shown, wanted);
  return {
    service,
    tasks: shown,
    wanted,
    running,
    reason: reasonOf(tasks, shown),
    ended,
    isJob: false,
  };
}

function isJob({ Spec }: ServiceJson): boolean {
  return Spec.Mode?.ReplicatedJob !== undefined || Spec.Mode?.GlobalJob !== undefined;
}

/** A job is done when enough tasks of its present run have ended well. */
function jobSight(service: ServiceJson, all: readonly TaskJson[]): Sight {
  const iteration = service.JobStatus?.JobIteration.Index ?? 0;
  const own = all.filter((task) => (task.JobIteration?.Index ?? 0) === iteration);
  const newest = new Map<string, TaskJson>();
  for (const task of own) {
    const slot = service.Spec.Mode?.GlobalJob === undefined ? slotOf(task, '0') : slotOf(task);
    const other = newest.get(slot);
    const isLater = Date.parse(task.CreatedAt) >= Date.parse(other?.CreatedAt ?? task.CreatedAt);
    if (isLater) newest.set(slot, task);
  }
  const collator = new Intl.Collator('en', { numeric: true });
  const tasks = [...newest].sort(([left], [right]) => collator.compare(left, right));
  const desired = service.ServiceStatus?.DesiredTasks ?? 0;
  // A global job has one task on each host that it fits.
  const onHosts = Math.max(desired, newest.size, 1);
  const wanted = service.Spec.Mode?.ReplicatedJob?.TotalCompletions ?? onHosts;
  const running = own.filter((task) => task.Status.State === 'complete').length;
  const ended =
    tasks.length > 0 &&
    running < wanted &&
    tasks.every(([, task]) => ENDED.has(task.Status.State)) &&
    tasks.some(([, task]) => task.Status.State !== 'complete');
  return { service, tasks, wanted, running, reason: reasonOf(own, tasks), ended, isJob: true };
}

function hasEnded(service: ServiceJson, shown: Sight['tasks'], wanted: number): boolean {
  const { Condition, MaxAttempts = 0 } = service.Spec.TaskTemplate.RestartPolicy ?? {};
  const mayStay = (state: string): boolean =>
    (Condition === 'none' && ENDED.has(state)) ||
    (Condition === 'on-failure' && state === 'complete') ||
    (MaxAttempts > 0 && BY_ITSELF.has(state));
  if (shown.length < wanted || isUpdating(service)) return false;
  const left = shown.map(([, task]) => task.Status.State).filter((state) => state !== 'running');
  return left.length > 0 && left.every(mayStay);
}

/** What runs, how much of it is new, what waits and why: '4 of 5 tasks of web run, ...: why'. */
async function stuckText(context: Context, sight: Sight, reason: string): Promise<string> {
  const { service, tasks, wanted, running } = sight;
  const filters = filtersText({ service: [service.ID] });
  const [all, down] = await Promise.all([
    context.client.get<TaskJson[]>('/tasks', { filters }),
    nodesDown(context),
  ]);
  const alive = all.filter((task) => isRunning(task, down)).length;
  const { Name } = service.Spec;
  const counts = sight.isJob
    ? `${running} of ${wanted} tasks of the job ${Name} are complete`
    : `${alive} of ${wanted} tasks of ${Name} run`;
  if (sight.isJob) return `${counts}: ${reason}`;
  if (sight.ended) return `${counts}: ${reason} (the service is kept; ended tasks stay ended)`;
  const waiting = tasks.filter(
    ([, { Status }]) => Status.State !== 'running' && !ENDED.has(Status.State),
  ).length;
  const updated =
    alive <= running
      ? ''
      : `, ${running === 0 ? 'none' : running} of them updated; ${waiting} ` +
        `${waiting === 1 ? 'waits' : 'wait'}`;
  return `${counts}${updated}: ${reason} (the service is kept and tried further)`;
}

async function nodesDown(context: Context): Promise<Set<string>> {
  const nodes = await context.client.get<NodeJson[]>('/nodes');
  return new Set(nodes.filter((item) => item.Status.State === 'down').map((item) => item.ID));
}

function isRunning(task: TaskJson, down: ReadonlySet<string>): boolean {
  const { Status, DesiredState, NodeID = '' } = task;
  return Status.State === 'running' && DesiredState === 'running' && !down.has(NodeID);
}

/** Why slots are empty: what their newest task says, else what ended the one before it. */
function reasonOf(all: readonly TaskJson[], shown: Sight['tasks']): string {
  for (const [, current] of shown) {
    if (current.Status.State === 'running') continue;
    const errors = all
      .filter((task) => slotOf(task) === slotOf(current) && (task.Status.Err ?? '') !== '')
      .sort((left, right) => Date.parse(right.CreatedAt) - Date.parse(left.CreatedAt));
    const reason = current.Status.Err || errors[0]?.Status.Err;
    if (reason !== undefined && reason !== '') return reason;
    const mine = all.filter((task) => slotOf(task) === slotOf(current));
    if (mine.some((task) => task.Status.State === 'complete')) {
      return 'the program ends by itself (exit code 0)';
    }
  }
  return '';
}

function slotOf(task: TaskJson, without = task.NodeID ?? task.ID): string {
  return task.Slot === undefined ? without : String(task.Slot);
}

/**
 * How far it has come. A slot whose task fails and starts again has not moved, so a program that
 * ends at once is told apart from one that is on its way.
 */
class Advance {
  readonly #furthest = new Map<string, number>();
  #running = 0;
  #wanted = -1;
  #update = '';

  /** Whether it is further than ever before, or something else is wanted now. */
  moved(sight: Sight): boolean {
    let moved = false;
    const update = sight.service.UpdateStatus?.State ?? '';
    if (sight.wanted !== this.#wanted || update !== this.#update) moved = true;
    this.#wanted = sight.wanted;
    this.#update = update;
    if (sight.running > this.#running) moved = true;
    this.#running = Math.max(this.#running, sight.running);
    for (const [slot, task] of sight.tasks) {
      const step = STEPS.indexOf(task.Status.State);
      if (step <= (this.#furthest.get(slot) ?? -1)) continue;
      this.#furthest.set(slot, step);
      moved = true;
    }
    return moved;
  }
}

interface Painter {
  paint(sight: Sight): void;
  finish(line: string): void;
}

export interface WaitOptions {
  readonly quiet: boolean;
  /** The service before the change: its update status is not this change's. */
  readonly before?: ServiceJson;
  /** A rollback was asked for, so one that is done is no failure. */
  readonly rollback?: boolean;
  /** One of several that are waited for: each line of progress names its service. */
  readonly named?: boolean;
}

/** Sets the context's exit code: 0 when all run, 1 when the update failed, 2 when it is stuck. */
export async function waitForService(
  context: Context,
  id: string,
  options: WaitOptions,
): Promise<void> {
  const painter = painterOf(context, options);
  const { clock } = context;
  const advance = new Advance();
  let movedMs = clock.nowMs();
  let steadySinceMs: number | undefined;
  let endedSinceMs: number | undefined;
  for (;;) {
    if (context.signal.aborted) {
      throw new SwarmError('cancelled', 'interrupted; the change goes on in the background');
    }
    const sight = await patiently(context, () => look(context, id));
    const nowMs = clock.nowMs();
    if (advance.moved(sight)) movedMs = nowMs;
    endedSinceMs = sight.ended ? (endedSinceMs ?? nowMs) : undefined;
    painter.paint(sight);
    const { Name } = sight.service.Spec;
    const failed = updateFailure(sight.service, options);
    if (failed !== undefined) {
      const cause = await patiently(context, () => causeOf(context, id, options));
      const more = cause === '' || failed.includes(cause) ? '' : ` (${cause})`;
      context.err.write(`tsswarm: ${failed}${more}\n`);
      context.exitCode = EXIT_ERROR;
      return;
    }
    const isGlobal = sight.service.Spec.Mode?.Global !== undefined;
    const complete = sight.running === sight.wanted && !isUpdating(sight.service);
    const noneFits = complete && sight.wanted === 0 && isGlobal;
    if (complete && !noneFits) {
      steadySinceMs ??= nowMs;
      if (sight.isJob || nowMs - steadySinceMs >= (sight.wanted === 0 ? 0 : STEADY_MS)) {
        painter.finish(sight.isJob ? `job ${Name} complete` : `service ${Name} converged`);
        return;
      }
    } else {
      steadySinceMs = undefined;
      const nowhere = noneFits && sight.tasks.length === 0;
      const inWords = sight.ended ? sight.reason || 'they have ended' : sight.reason;
      const reason = nowhere ? 'no node meets what the service asks for' : inWords;
      const isOver = sight.ended && nowMs - (endedSinceMs ?? nowMs) >= GIVEN_UP_MS;
      if (isOver || (!sight.ended && nowMs - movedMs >= STUCK_MS && reason !== '')) {
        const text = await patiently(context, () => stuckText(context, sight, reason));
        context.err.write(`tsswarm: ${text}\n`);
        context.exitCode = EXIT_NOT_PLACEABLE;
        return;
      }
    }
    await clock.sleep(POLL_MS);
  }
}

function isUpdating(service: ServiceJson): boolean {
  return ['updating', 'rollback_started'].includes(service.UpdateStatus?.State ?? '');
}

function updateFailure(service: ServiceJson, options: WaitOptions): string | undefined {
  const { UpdateStatus, Spec } = service;
  if (UpdateStatus === undefined) return undefined;
  const earlier = options.before?.UpdateStatus;
  if (earlier?.StartedAt === UpdateStatus.StartedAt && earlier?.State === UpdateStatus.State) {
    return undefined;
  }
  const why = UpdateStatus.Message === '' ? '' : `: ${UpdateStatus.Message}`;
  switch (UpdateStatus.State) {
    case 'paused':
      return `the update of ${Spec.Name} is paused${why}`;
    case 'rollback_paused':
      return `the rollback of ${Spec.Name} is paused${why}`;
    case 'rollback_completed':
      return options.rollback === true ? undefined : `${Spec.Name} was rolled back${why}`;
    default:
      return undefined;
  }
}

/** What the newest task that failed since the change says; the node it failed on. */
async function causeOf(context: Context, id: string, options: WaitOptions): Promise<string> {
  const sinceMs = Date.parse(options.before?.UpdatedAt ?? '') || 0;
  const tasks = await context.client.get<TaskJson[]>('/tasks', {
    filters: filtersText({ service: [id] }),
  });
  const [last] = tasks
    .filter((task) => Date.parse(task.CreatedAt) > sinceMs && (task.Status.Err ?? '') !== '')
    .sort((left, right) => Date.parse(right.CreatedAt) - Date.parse(left.CreatedAt));
  if (last === undefined) return '';
  const nodes = await context.client.get<NodeJson[]>('/nodes');
  const host = nodes.find((node) => node.ID === last.NodeID)?.Description.Hostname;
  return `${host === undefined ? '' : `on ${host}: `}${last.Status.Err}`;
}

function painterOf(context: Context, { quiet, named }: WaitOptions): Painter {
  if (quiet) return { paint: () => {}, finish: () => {} };
  const line = (sight: Sight): string =>
    named === true ? `${sight.service.Spec.Name}: ${overall(sight)}` : overall(sight);
  return context.out.isTty ? terminalPainter(context, line) : linePainter(context, line);
}

function overall(sight: Sight): string {
  if (sight.isJob) return `job progress: ${sight.running} out of ${sight.wanted} complete`;
  return `overall progress: ${sight.running} out of ${sight.wanted} tasks`;
}

function linePainter(context: Context, overallLine: (sight: Sight) => string): Painter {
  let last = '';
  return {
    paint: (sight) => {
      const line = overallLine(sight);
      if (line !== last) context.out.write(`${line}\n`);
      last = line;
    },
    finish: (line) => {
      if (line !== '') context.out.write(`${line}\n`);
    },
  };
}

const STEPS = [
  'new',
  'pending',
  'assigned',
  'accepted',
  'preparing',
  'ready',
  'starting',
  'running',
];

function bar(state: string): string {
  const step = STEPS.indexOf(state === 'complete' ? 'running' : state);
  if (step < 0) return ' '.repeat(BAR_WIDTH + 2);
  const filled = Math.max(1, Math.round((BAR_WIDTH * (step + 1)) / STEPS.length));
  return `[${'='.repeat(filled - 1)}>${' '.repeat(BAR_WIDTH - filled)}]`;
}

function terminalPainter(context: Context, overallLine: (sight: Sight) => string): Painter {
  let height = 0;
  let last = '';
  return {
    paint: (sight) => {
      const lines = [overallLine(sight)];
      if (sight.wanted <= MAX_ROWS) {
        for (const [slot, task] of sight.tasks) {
          const { State, Err } = task.Status;
          const note = (Err ?? '') === '' ? bar(State) : Err;
          lines.push(`${slot}/${sight.wanted}: ${State.padEnd(9)} ${note}`);
        }
      }
      const cut = lines.map((line) => line.slice(0, context.out.columns - 1));
      const text = cut.join('\n');
      if (text === last) return;
      last = text;
      const up = height === 0 ? '' : `\x1b[${height}A`;
      context.out.write(`${up}${cut.map((line) => `\x1b[2K${line}\n`).join('')}\x1b[J`);
      height = cut.length;
    },
    finish: (line) => {
      if (line !== '') context.out.write(`${line}\n`);
    },
  };
}

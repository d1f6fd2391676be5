/**
 * Live messages as text: what a task's move looks like, with how long each phase took, and how an
 * event is told. Used by the picture and, in a pipe, line by line.
 */
import type { LiveCluster, LiveMessage, LiveTask } from '../../model/live.ts';

/** What the time up to a state was spent on, by the state that ends it. */
const PHASES: Readonly<Record<string, string>> = {
  pending: 'allocated',
  assigned: 'placed',
  accepted: 'sent',
  preparing: 'queued',
  ready: 'prepared',
  starting: 'ready',
  running: 'started',
};

/** 'allocated 2, placed 3, sent 1, prepared 12, started 8 ms'; phases of 0 ms are left out. */
export function phasesText(task: LiveTask): string {
  const parts: string[] = [];
  let previousMs: number | undefined;
  for (const [state, atMs] of Object.entries(task.phases)) {
    const name = PHASES[state];
    if (previousMs !== undefined && name !== undefined && atMs > previousMs) {
      parts.push(`${name} ${atMs - previousMs}`);
    }
    previousMs = atMs;
  }
  return parts.length === 0 ? '' : `${parts.join(', ')} ms`;
}

function clockText(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 23);
}

/** 'web.1 on h2: assigned -> running (placed 3, started 8 ms)'. */
function moveText(task: LiveTask, before: string): string {
  const where = task.hostname === '' ? '' : ` on ${task.hostname}`;
  const move = before === '' || before === task.state ? task.state : `${before} -> ${task.state}`;
  const phases = task.state === 'running' && !isLeaving(task) ? phasesText(task) : '';
  const took = phases === '' ? '' : ` (${phases})`;
  const error = task.error === '' ? '' : `: ${task.error}`;
  const leaving = isLeaving(task) ? ', to be stopped' : '';
  return `${task.name}${where}: ${move}${leaving}${took}${error}`;
}

type TaskMessage = Extract<LiveMessage, { type: 'task' }>;

/** A new state, a new task, a reason why it waits, or the order to stop: what people follow. */
function isMove(message: TaskMessage): boolean {
  const { task, before } = message;
  if (before !== task.state) return true;
  const waits = ['new', 'pending'].includes(task.state) && task.error !== '';
  return waits || isLeaving(task);
}

function isLeaving(task: LiveTask): boolean {
  return task.state === 'running' && ['shutdown', 'remove'].includes(task.desiredState);
}

/** The lines a message is in a pipe; none for what only a picture shows. */
export function* lineOf(message: LiveMessage): Generator<string> {
  const time = clockText(message.atMs);
  switch (message.type) {
    case 'state': {
      const { cluster, taskCount } = message;
      const ready = cluster.nodes.filter((node) => node.state === 'ready').length;
      const leader = leaderOf(cluster) ?? 'none';
      yield `${time} swarm: ${ready} of ${cluster.nodes.length} nodes ready, leader ${leader}, ` +
        `term ${cluster.term}, ${taskCount} tasks`;
      return;
    }
    case 'cluster':
    case 'tasks':
      return;
    case 'task':
      if (message.change === 'remove') yield `${time} task ${message.task.name}: forgotten`;
      else if (isMove(message)) yield `${time} task ${moveText(message.task, message.before)}`;
      return;
    case 'event':
      yield `${time} ${eventText(message)}`;
  }
}

export function leaderOf(cluster: LiveCluster): string | undefined {
  return cluster.managers.find((manager) => manager.isLeader)?.hostname;
}

/** 'no leader (...): not heard: h2 (10.0.0.2:2377)'. */
export function leaderlessText(cluster: LiveCluster): string {
  const silent = cluster.managers
    .filter((manager) => !manager.reachable)
    .map(({ hostname, address }) => (hostname === '' ? address : `${hostname} (${address})`));
  const heard = silent.length === 0 ? '' : `: not heard: ${silent.join(', ')}`;
  return `no leader (no quorum, or an election is under way)${heard}`;
}

/** Tells once that there is no leader any more, and once that there is one again. */
export class LeaderLines {
  #led = true;

  *of(message: LiveMessage): Generator<string> {
    if (message.type !== 'state' && message.type !== 'cluster') return;
    const { cluster } = message;
    const leader = leaderOf(cluster);
    const before = this.#led;
    this.#led = leader !== undefined;
    if (this.#led === before) return;
    const what =
      leader === undefined
        ? leaderlessText(cluster)
        : `leader ${leader} again, term ${cluster.term}`;
    yield `${clockText(message.atMs)} swarm: ${what}`;
  }
}

type EventMessage = Extract<LiveMessage, { type: 'event' }>;

/** 'node h2: state ready -> down'. */
export function eventText(message: EventMessage): string {
  const { attributes } = message;
  const changes: string[] = [];
  for (const [key, value] of Object.entries(attributes)) {
    if (!key.endsWith('.new')) continue;
    const name = key.slice(0, -'.new'.length);
    const old = attributes[`${name}.old`] ?? '';
    changes.push(`${name} ${old === '' ? '' : `${old} -> `}${value}`);
  }
  const what = changes.length === 0 ? message.action : changes.join(', ');
  return `${message.object} ${attributes.name ?? message.id}: ${what}`;
}

export function timedEvent(message: LiveMessage): string | undefined {
  const time = clockText(message.atMs);
  if (message.type === 'event') return `${time}  ${eventText(message)}`;
  if (message.type === 'task' && message.change !== 'remove' && isMove(message)) {
    return `${time}  ${moveText(message.task, message.before)}`;
  }
  return undefined;
}

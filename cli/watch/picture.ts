/**
 * The live picture: state from messages, drawn as plain text with ANSI colours into a given size.
 * It holds no timer and writes nowhere.
 */
import { formatBytes } from '../../base/bytes.ts';
import { formatAge } from '../../base/duration.ts';
import type { LiveCluster, LiveMessage, LiveNode, LiveTask } from '../../model/live.ts';
import { leaderlessText, leaderOf, phasesText, timedEvent } from './lines.ts';

const RECENT_EVENTS = 200;
const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'orphaned', 'remove']);
/** An ended task stays in the picture this long, so that its move can be seen. */
const LINGER_MS = 5000;
const MINIMUM_EVENT_ROWS = 5;
const NANO = 1_000_000_000;

const BOLD = '1';
const RED = '31';
const GREEN = '32';
const YELLOW = '33';
const DIM = '2';

interface Line {
  readonly text: string;
  readonly style?: string;
}

export class Picture {
  #cluster: LiveCluster | undefined;
  readonly #tasks = new Map<string, LiveTask>();
  readonly #events: string[] = [];

  apply(message: LiveMessage): void {
    switch (message.type) {
      case 'state':
        this.#cluster = message.cluster;
        this.#tasks.clear();
        for (const task of message.tasks) this.#tasks.set(task.id, task);
        return;
      case 'tasks':
        for (const task of message.tasks) this.#tasks.set(task.id, task);
        return;
      case 'cluster':
        this.#cluster = message.cluster;
        return;
      case 'task':
        if (message.change === 'remove') this.#tasks.delete(message.task.id);
        else this.#tasks.set(message.task.id, message.task);
    }
    const line = timedEvent(message);
    if (line === undefined) return;
    this.#events.push(line);
    if (this.#events.length > RECENT_EVENTS) this.#events.shift();
  }

  /** Exactly as much as fits; each line is cleared to its end. */
  render(columns: number, rows: number, nowMs: number): string {
    const lines: Line[] = [...this.#managers(), ...this.#nodes()];
    const tasks = this.#taskLines(nowMs);
    const room = Math.max(1, rows - lines.length - MINIMUM_EVENT_ROWS - 4);
    lines.push({ text: '' }, { text: 'TASKS', style: BOLD }, ...tasks.slice(0, room));
    if (tasks.length > room) lines.push({ text: `  and ${tasks.length - room} more`, style: DIM });
    lines.push({ text: '' }, { text: 'EVENTS', style: BOLD });
    const left = Math.max(0, rows - lines.length - 1);
    lines.push(...(left === 0 ? [] : this.#events.slice(-left)).map((text) => ({ text })));
    return lines
      .slice(0, rows - 1)
      .map(({ text, style }) => {
        const cut = text.slice(0, columns);
        return `${style === undefined ? cut : `\x1b[${style}m${cut}\x1b[0m`}\x1b[K\n`;
      })
      .join('');
  }

  #managers(): Line[] {
    const cluster = this.#cluster;
    if (cluster === undefined) return [{ text: 'waiting for the daemon' }];
    const lines: Line[] = [{ text: `MANAGERS  term ${cluster.term}`, style: BOLD }];
    if (leaderOf(cluster) === undefined) {
      lines[0] = { text: `MANAGERS  ${leaderlessText(cluster)}`, style: RED };
    }
    for (const manager of cluster.managers) {
      const role = manager.isLeader ? 'leader' : 'follower';
      const lag = manager.lag === null || manager.isLeader ? '' : `lag ${manager.lag}`;
      lines.push({
        text:
          `  ${manager.hostname.padEnd(16)} ${manager.address.padEnd(22)} ${role.padEnd(9)} ` +
          `${manager.reachable ? 'reachable' : 'unreachable'}  ${lag}`,
        style: manager.reachable ? (manager.isLeader ? GREEN : undefined) : RED,
      });
    }
    return lines;
  }

  #nodes(): Line[] {
    const nodes = this.#cluster?.nodes ?? [];
    const lines: Line[] = [{ text: '' }, { text: 'NODES', style: BOLD }];
    for (const node of nodes) lines.push(nodeLine(node));
    return lines;
  }

  #taskLines(nowMs: number): Line[] {
    const shown: LiveTask[] = [];
    for (const task of this.#tasks.values()) {
      if (!ENDED.has(task.state)) shown.push(task);
      else if (nowMs - task.atMs < LINGER_MS) shown.push(task);
      else this.#tasks.delete(task.id);
    }
    const collator = new Intl.Collator('en', { numeric: true });
    shown.sort(
      (left, right) =>
        collator.compare(left.name, right.name) || (left.phases.new ?? 0) - (right.phases.new ?? 0),
    );
    return shown.map((task) => taskLine(task, nowMs));
  }
}

function nodeLine(node: LiveNode): Line {
  const age = node.heartbeatAgeMs === null ? '' : `heard ${ago(node.heartbeatAgeMs)}`;
  const cpus = `${fixed(node.reservedNanoCpus)}/${fixed(node.nanoCpus)} CPU`;
  const memory = `${formatBytes(node.reservedMemoryBytes)}/${formatBytes(node.memoryBytes)}`;
  const availability = node.availability === 'active' ? '' : node.availability;
  const style = node.state === 'ready' ? (availability === '' ? undefined : YELLOW) : RED;
  return {
    text:
      `  ${node.hostname.padEnd(16)} ${node.state.padEnd(12)} ${availability.padEnd(6)} ` +
      `${String(node.runningTasks).padStart(4)} tasks  ${cpus}  ${memory}  ${age} ` +
      node.stateMessage,
    style,
  };
}

function fixed(nanoCpus: number): string {
  return String(Number((nanoCpus / NANO).toFixed(2)));
}

function ago(ms: number): string {
  return ms < 1000 ? `${ms} ms ago` : `${(ms / 1000).toFixed(1)} s ago`;
}

function taskLine(task: LiveTask, nowMs: number): Line {
  const age = formatAge(nowMs - task.atMs).toLowerCase();
  const running = task.state === 'running';
  const note = task.error !== '' ? task.error : running ? phasesText(task) : task.message;
  const style = running ? undefined : ENDED.has(task.state) ? RED : YELLOW;
  return {
    text:
      `  ${task.name.padEnd(24)} ${task.hostname.padEnd(16)} ${task.state.padEnd(10)} ` +
      `${age.padEnd(18)} ${note}`,
    style,
  };
}

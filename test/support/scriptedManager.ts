/**
 * Managers that do as a test says, behind an agent's link: they accept or refuse sessions, push
 * assignments, answer heartbeats or fall silent, and keep what was reported to them.
 */
import type { Dial, Link, SessionRequest } from '../../agent/link.ts';
import { SwarmError } from '../../base/errors.ts';
import type {
  AssignmentMessage,
  SessionMessage,
  TaskStatusUpdate,
} from '../../model/assignment.ts';
import type { TaskStatus } from '../../model/types.ts';

/** An async iterable that is fed, and ends when its signal does. */
export class Feed<T> {
  readonly #waiting: T[] = [];
  #wake: () => void = () => {};
  #ended: { readonly error: unknown } | undefined;

  push(value: T): void {
    this.#waiting.push(value);
    this.#wake();
  }

  end(error?: unknown): void {
    this.#ended ??= { error };
    this.#wake();
  }

  async *read(signal: AbortSignal): AsyncIterable<T> {
    signal.addEventListener('abort', () => this.end(new SwarmError('cancelled', 'cancelled')));
    for (;;) {
      while (this.#waiting.length > 0) yield this.#waiting.shift() as T;
      if (this.#ended !== undefined) {
        if (this.#ended.error !== undefined) throw this.#ended.error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

export interface Opened {
  readonly id: string;
  readonly request: SessionRequest;
  readonly messages: Feed<SessionMessage>;
  /** The latest assignment stream. */
  assignments: Feed<AssignmentMessage>;
  streams: number;
  heartbeats: number;
}

export type Behaviour =
  | 'leads'
  | 'silent'
  | { readonly redirectsTo: string }
  | { readonly refuses: SwarmError };

export class ScriptedManager {
  readonly address: string;
  readonly #managers: () => readonly string[];
  /** Refuses sessions by saying who leads; '' accepts. 'silent' answers nothing at all. */
  behaviour: Behaviour = 'leads';
  heartbeatMs = 500;
  hostIndex = 7;
  readonly sessions: Opened[] = [];
  /** Sequences of messages whose networks are in place. */
  readonly applied: number[] = [];
  dials = 0;
  readonly reported = new Map<string, TaskStatus>();
  /** Each status in the order it came. */
  readonly history: TaskStatusUpdate[] = [];
  calls = 0;
  /** Called with each assignment stream that is opened, to send a complete message first. */
  onStream: (assignments: Feed<AssignmentMessage>) => void = () => {};
  /** Answers status calls; replaced to make them fail or wait. */
  onStatus: (updates: readonly TaskStatusUpdate[]) => Promise<void> = async () => {};

  constructor(address: string, managers: () => readonly string[]) {
    this.address = address;
    this.#managers = managers;
  }

  get session(): Opened {
    const last = this.sessions.at(-1);
    if (last === undefined) throw new Error(`no session with ${this.address}`);
    return last;
  }

  assign(message: AssignmentMessage): void {
    this.session.assignments.push(message);
  }

  message(sessionId: string): SessionMessage {
    return {
      sessionId,
      nodeId: 'node1',
      hostIndex: this.hostIndex,
      role: 'worker',
      managers: this.#managers().map((address) => ({
        nodeId: address,
        address,
        isLeader: address === this.address,
      })),
      heartbeatMs: this.heartbeatMs,
      vxlanPort: 4789,
      rootCaCertificate: '',
      wantedIssuer: '',
      certificateExpiryMs: 1,
    };
  }

  link(): Link {
    this.dials += 1;
    let closed = false;
    const check = (): void => {
      if (closed) throw new SwarmError('cancelled', 'the link is closed');
    };
    const forever = (): Promise<never> => new Promise(() => {});
    return {
      openSession: (request, signal) => {
        if (this.behaviour === 'silent') return new Feed<SessionMessage>().read(signal);
        const messages = new Feed<SessionMessage>();
        if (this.behaviour !== 'leads') {
          if ('refuses' in this.behaviour) {
            messages.end(this.behaviour.refuses);
            return messages.read(signal);
          }
          const leader = this.behaviour.redirectsTo;
          const detail: Record<string, string> = leader === '' ? {} : { leader };
          messages.end(new SwarmError('not_leader', 'this manager does not lead', { detail }));
          return messages.read(signal);
        }
        const id = `${this.address}#${this.sessions.length + 1}`;
        messages.push(this.message(id));
        const assignments = new Feed<AssignmentMessage>();
        this.sessions.push({ id, request, messages, assignments, streams: 0, heartbeats: 0 });
        return messages.read(signal);
      },
      heartbeat: async (_id, deadlineMs) => {
        check();
        if (this.behaviour === 'silent') {
          throw new SwarmError('timeout', `no answer within ${deadlineMs} ms`);
        }
        this.session.heartbeats += 1;
        return { periodMs: this.heartbeatMs };
      },
      assignments: (_id, signal) => {
        if (this.session.streams > 0) this.session.assignments = new Feed();
        this.session.streams += 1;
        this.onStream(this.session.assignments);
        return this.session.assignments.read(signal);
      },
      applied: async (_id, sequence) => {
        check();
        this.applied.push(sequence);
      },
      updateTaskStatus: async (_id, updates) => {
        check();
        if (this.behaviour === 'silent') await forever();
        await this.onStatus(updates);
        this.calls += 1;
        for (const update of updates) {
          this.history.push(update);
          this.reported.set(update.taskId, update.status);
        }
      },
      close: () => {
        closed = true;
      },
    };
  }
}

/** Managers by address, and the dial that reaches them. */
export function scriptedManagers(...addresses: string[]): {
  readonly managers: readonly ScriptedManager[];
  readonly dial: Dial;
} {
  const managers = addresses.map((address) => new ScriptedManager(address, () => addresses));
  const dial: Dial = (address) => {
    const manager = managers.find((one) => one.address === address);
    if (manager === undefined) throw new Error(`nobody is at ${address}`);
    return manager.link();
  };
  return { managers, dial };
}

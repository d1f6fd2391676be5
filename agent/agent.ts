/**
 * The agent of one node: joins session, worker, reporter, networks and journal. Everything it
 * touches comes through the constructor, so that it runs the same under the simulator. It knows no
 * manager's inside; what the daemon must act on (role, managers) it tells through `onSession`.
 */
import type { Clock } from '../base/clock.ts';
import type { SwarmError } from '../base/errors.ts';
import type { Ids } from '../base/id.ts';
import type { Log } from '../base/log.ts';
import { Signal } from '../base/queue.ts';
import type { Random } from '../base/random.ts';
import type { SessionMessage, TaskStatusUpdate } from '../model/assignment.ts';
import type { NodeDescription, NodeTls, Task, TaskStatus } from '../model/types.ts';
import { isAttachment } from './attachmentController.ts';
import { ContainerExecutor, type HostRuntime } from './containerController.ts';
import type { TaskLogQuery, TaskLogRecord } from './controller.ts';
import type { Journal, JournalSelf } from './journal.ts';
import type { Dial } from './link.ts';
import { Networks } from './networks.ts';
import { Reporter } from './reporter.ts';
import { Secrets } from './secrets.ts';
import { Session } from './session.ts';
import { Worker } from './worker.ts';

export interface AgentOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly nodeId: string;
  /** Underlay address of this host without port, and the port of its gRPC listener. */
  readonly address: string;
  readonly port: number;
  readonly describe: () => NodeDescription;
  /** What the session tells of this node's credentials; '' where nothing is to be told. */
  readonly tls: () => Pick<NodeTls, 'issuer' | 'trust'>;
  readonly runtime: HostRuntime;
  readonly journal: Journal;
  readonly dial: Dial;
}

export class Agent {
  readonly #options: AgentOptions;
  readonly #networks: Networks;
  readonly #executor: ContainerExecutor;
  readonly #reporter: Reporter;
  readonly #worker: Worker;
  readonly #session: Session;
  readonly #sessions = new Signal<SessionMessage | undefined>();
  readonly #refusals = new Signal<SwarmError>();
  #message: SessionMessage | undefined;

  constructor(options: AgentOptions) {
    const { clock, random, log, runtime, journal } = options;
    this.#options = options;
    this.#networks = new Networks({ clock, log, network: runtime.network });
    const secrets = new Secrets({ clock, memoryFiles: runtime.memoryFiles });
    this.#executor = new ContainerExecutor({
      runtime,
      networks: this.#networks,
      secrets,
      clock,
      ids: options.ids,
      log,
      node: () => ({ id: options.nodeId, ...options.describe() }),
    });
    this.#reporter = new Reporter({ clock, log });
    this.#worker = new Worker({
      clock,
      log,
      journal,
      executor: this.#executor,
      networks: this.#networks,
      secrets,
      report: (taskId, status) => this.#reporter.report(taskId, status),
    });
    this.#session = new Session({
      clock,
      random,
      log,
      dial: options.dial,
      request: () => ({
        description: options.describe(),
        address: options.address,
        port: options.port,
        ...options.tls(),
      }),
      handlers: {
        up: (message, send) => {
          this.#told(message);
          this.#reporter.open(send);
          this.#worker.sessionUp();
        },
        message: (message) => this.#told(message),
        assignment: (message) => this.#worker.apply(message),
        settled: () => this.#networks.settled(),
        down: () => {
          this.#reporter.close();
          this.#worker.sessionLost();
          this.#message = undefined;
          this.#sessions.emit(undefined);
        },
        refused: (error) => this.#refusals.emit(error),
      },
    });
  }

  /**
   * Takes up what the journal holds, then looks for the leader at `managers` (host:port), or where
   * the last session found them. SwarmError corrupt when the journal is damaged.
   */
  async start(managers: readonly string[]): Promise<void> {
    const state = await this.#options.journal.load();
    await this.#executor.sweep();
    this.#networks.start();
    if (state.self !== undefined) this.#setSelf(state.self);
    this.#worker.resume(state.items, state.statuses);
    this.#session.setManagers(managers.length > 0 ? managers : state.managers);
    this.#session.start();
  }

  /** Ends the session and lets go of the tasks; their containers run on. */
  async stop(): Promise<void> {
    await this.#session.stop();
    await this.#worker.close();
    this.#networks.stop();
    await this.#options.journal.close();
  }

  /** Called with each session message, and with undefined when the session is lost. */
  onSession(listener: (message: SessionMessage | undefined) => void): () => void {
    return this.#sessions.listen(listener);
  }

  /** Called each time a manager says that this node may not come: it was removed, or copied. */
  onRefused(listener: (error: SwarmError) => void): () => void {
    return this.#refusals.listen(listener);
  }

  /** The latest message of the session that is up. */
  get session(): SessionMessage | undefined {
    return this.#message;
  }

  /** See Session.setManagers. */
  setManagers(managers: readonly string[], leader = ''): void {
    this.#session.setManagers(managers, leader);
  }

  /** The credentials have changed: the session begins anew with them. */
  reopen(): void {
    this.#session.reopen();
  }

  statuses(): readonly TaskStatusUpdate[] {
    return this.#worker.statuses();
  }

  /** A task as this host holds it; undefined when it was not assigned here. */
  taskHere(taskId: string): { readonly task: Task; readonly status: TaskStatus } | undefined {
    return this.#worker.find(taskId);
  }

  /** What an overlay on this host is called. */
  networkName(networkId: string): string | undefined {
    return this.#networks.nameOf(networkId);
  }

  /** Places on networks that this host has for containers of its own. */
  attachments(): readonly Task[] {
    return this.#worker.tasks().filter(isAttachment);
  }

  /** Statuses that no manager has acknowledged yet. */
  get unreported(): number {
    return this.#reporter.pending;
  }

  taskLogs(taskId: string, query: TaskLogQuery, signal: AbortSignal): AsyncIterable<TaskLogRecord> {
    return this.#executor.logs(taskId, query, signal);
  }

  #told(message: SessionMessage): void {
    this.#message = message;
    this.#setSelf(message);
    this.#options.journal.setManagers(message.managers.map((manager) => manager.address));
    this.#sessions.emit(message);
  }

  #setSelf({ hostIndex, vxlanPort }: Pick<JournalSelf, 'hostIndex' | 'vxlanPort'>): void {
    if (hostIndex === 0) return;
    const { address, journal } = this.#options;
    const self = { hostIndex, address, ...(vxlanPort === undefined ? {} : { vxlanPort }) };
    this.#networks.setSelf(self);
    journal.setSelf(self);
  }
}

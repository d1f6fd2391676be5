/**
 * One container that a user made, over all its runs. It joins the runtime's container (one run at a
 * time) with its networks, volumes, restart policy, health and record on disk.
 *
 * | status | what is true | left by |
 * |---|---|---|
 * | created | never started | start |
 * | running, paused | the runtime's container runs | its end: #ended |
 * | restarting | ended; a timer will start it | the timer, start, stop, remove |
 * | exited | ended, or could not be started (`error` says why) | start, remove |
 * | removing | remove under way; nothing else is taken | being gone |
 *
 * Starts, removals and what follows an end come one at a time; stop and kill at any time.
 */
import type { Timer } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { Serial, withDeadline } from '../../base/queue.ts';
import { type Health, HealthMonitor, NO_HEALTH } from '../../runtime/container/health.ts';
import { probeIn } from '../../runtime/container/healthProbe.ts';
import { parseSignal } from '../../runtime/container/signals.ts';
import type {
  Container,
  ContainerResources,
  ExitRecord,
  Streams,
} from '../../runtime/container/types.ts';
import { attachContainer, detachContainer, forgetFiles, viewNetworks } from './attachment.ts';
import type { HostContext } from './context.ts';
import type { Managed } from './managed.ts';
import { readyMounts, releaseVolumes } from './mounts.ts';
import { checkRestart, endedAs, restartDelay, startsWithDaemon } from './restart.ts';
import {
  cannotKill,
  emitRun,
  exitCodeOf,
  mustBeStill,
  ownGraceMs,
  signalTo,
  startError,
  stopWith,
} from './starting.ts';
import type {
  ContainerRecord,
  ContainerStatus,
  ContainerView,
  ExitStatus,
  RestartPolicy,
  WaitCondition,
} from './types.ts';
import { Waiters } from './waiters.ts';

/** Requests that wait for a start or a removal under way. */
const MAX_WAITING = 64;
const SIGKILL = 9;
/** A process that sleeps in the kernel may not end at all. */
const KILL_LIMIT_MS = 30_000;

export class StandaloneContainer implements Managed {
  readonly container: Container;
  readonly #context: HostContext;
  readonly #exposed: readonly string[];
  readonly #work = new Serial(MAX_WAITING);
  readonly #waiters = new Waiters();
  #record: ContainerRecord;
  #restartTimer: Timer | undefined;
  #lastDelayMs = 0;
  #monitor: HealthMonitor | undefined;
  #isRemoving = false;
  #isClosed = false;
  #isLaunching = false;

  constructor(
    context: HostContext,
    record: ContainerRecord,
    container: Container,
    exposed: readonly string[],
  ) {
    this.#context = context;
    this.#record = record;
    this.container = container;
    this.#exposed = exposed;
  }

  get id(): string {
    return this.#record.id;
  }

  get name(): string {
    return this.#record.name;
  }

  get record(): ContainerRecord {
    return this.#record;
  }

  get status(): ContainerStatus {
    if (this.#isRemoving) return 'removing';
    if (this.container.state === 'running') return this.container.paused ? 'paused' : 'running';
    if (this.#restartTimer !== undefined) return 'restarting';
    return this.#record.startedBefore ? 'exited' : 'created';
  }

  view(): ContainerView {
    const { container } = this;
    const record = this.#record;
    const { exit, startedAtMs } = container;
    const isRunning = container.state === 'running';
    const exitCode = record.error === '' ? (exit?.exitCode ?? 0) : record.errorExitCode;
    return {
      container,
      status: this.status,
      createdAtMs: record.createdAtMs,
      startedAtMs: startedAtMs && Math.max(startedAtMs, record.launchedAtMs ?? 0),
      finishedAtMs: exit?.finishedAtMs ?? 0,
      exitCode: isRunning ? 0 : exitCode,
      error: record.error,
      oomKilled: exit?.oomKilled ?? false,
      restartCount: record.restartCount,
      health: container.config.healthCheck === undefined ? undefined : this.#health,
      record,
      networkMode: record.spec.networkMode,
      networks: viewNetworks(this.#context, record, isRunning),
      ports: isRunning ? record.ports : [],
      mounts: record.mounts,
      execIds: this.#context.execs.of(this.id),
    };
  }

  get #health(): Health {
    return this.#monitor?.health ?? this.#record.health ?? NO_HEALTH;
  }

  /** After the daemon has found its container again, running or ended. */
  async adopt(): Promise<void> {
    if (this.container.state === 'running') {
      this.#watch();
      if (!this.container.paused) this.#watchHealthAgain();
      return;
    }
    const { exit } = this.container;
    // Also of one that never ran: the daemon may have died between attaching and starting it.
    await this.#work.run(() => this.#release());
    if (!this.#record.startedBefore || exit === undefined) return;
    if (this.#record.spec.autoRemove) {
      await this.remove({ force: true, volumes: true });
    } else if (
      startsWithDaemon(this.#record.spec.restart, endedAs(exit, this.#record, this.#lastDelayMs))
    ) {
      await this.#work.run(() => this.#launch());
    }
  }

  changeNetworks(networks: ContainerRecord['networks']): void {
    this.#save({ networks });
  }

  #save(changes: Partial<ContainerRecord>): void {
    this.#record = { ...this.#record, ...changes };
    this.#context.records.keep(this.#record);
  }

  emit(action: string, more: Readonly<Record<string, string>> = {}): void {
    const { labels, image } = this.container.config;
    const attributes = { ...labels, image: image.reference, name: this.name, ...more };
    this.#context.events.emit('container', action, this.id, attributes);
  }

  start(): Promise<boolean> {
    return this.#work.run(async () => {
      this.#mustStay();
      if (this.container.paused) {
        throw new SwarmError('conflict', 'cannot start a paused container, try unpause instead');
      }
      if (this.container.state === 'running') return false;
      this.#cancelRestart();
      this.#lastDelayMs = 0;
      await this.#launch({ stoppedByUser: false, restartCount: 0 });
      return true;
    });
  }

  #mustStay(): void {
    if (!this.#isRemoving) return;
    throw new SwarmError('conflict', `container ${this.name} is marked for removal`);
  }

  async #launch(changes: Partial<ContainerRecord> = {}): Promise<void> {
    const { container } = this;
    const context = this.#context;
    if (container.state === 'running') return; // somebody else was first
    this.#isLaunching = true;
    try {
      await readyMounts(context, this.id, this.#record.mounts);
      const attached = await attachContainer(
        context,
        this.#record,
        container.config.hostname,
        this.#exposed,
      );
      const start = { error: '', errorExitCode: 0, startedBefore: true, ports: attached.ports };
      const { health: _, ...record } = this.#record;
      this.#record = record;
      this.#save({ ...start, launchedAtMs: context.clock.wallMs(), ...changes });
      emitRun(context, this.#record, 'connect');
      await container.start(attached.env);
    } catch (cause) {
      const error = startError(cause);
      await this.#startFailed(error);
      throw error;
    } finally {
      this.#isLaunching = false;
    }
    this.emit('start');
    this.#watch();
    this.#watchHealth();
  }

  async #startFailed(error: unknown): Promise<void> {
    const errorExitCode = exitCodeOf(error);
    await detachContainer(this.#context, this.#record);
    this.#save({ error: messageOf(error), errorExitCode, startedBefore: true, ports: [] });
    const status = { exitCode: errorExitCode, error: messageOf(error) };
    this.#waiters.tell('next-exit', status);
    this.#waiters.tell('not-running', status);
    void this.#removeLater();
  }

  #watch(): void {
    this.container.wait().then(
      (exit) => void this.#ended(exit),
      (error: unknown) => {
        this.#context.log.error('cannot wait for a container', {
          container: this.id,
          error: messageOf(error),
        });
      },
    );
  }

  #watchHealthAgain(): void {
    const sinceStartMs = this.#context.clock.wallMs() - this.container.startedAtMs;
    this.#watchHealth(this.#record.health, sinceStartMs);
  }

  #watchHealth(known?: Health, sinceStartMs = 0): void {
    const check = this.container.config.healthCheck;
    if (check === undefined) return;
    this.#monitor = new HealthMonitor({
      clock: this.#context.clock,
      check,
      exec: probeIn(this.container, check),
      onResult: (health, before) => {
        this.#save({ health });
        if (health.status !== before.status) this.emit(`health_status: ${health.status}`);
      },
    });
    this.#monitor.start(known, sinceStartMs);
  }

  async #ended(exit: ExitRecord): Promise<void> {
    if (this.#isClosed) return;
    this.#monitor?.stop();
    const released = this.#work.run(async () => {
      await this.#release();
      emitRun(this.#context, this.#record, 'disconnect');
    });
    if (exit.oomKilled) this.emit('oom');
    const ranS = Math.floor(Math.max(0, exit.finishedAtMs - exit.startedAtMs) / 1000);
    this.emit('die', { exitCode: String(exit.exitCode), execDuration: String(ranS) });
    const delayMs = this.#isRemoving
      ? undefined
      : restartDelay(this.#record.spec.restart, endedAs(exit, this.#record, this.#lastDelayMs));
    if (delayMs !== undefined) this.#restartLater(delayMs);
    const status = { exitCode: exit.exitCode, error: exit.error ?? '' };
    // Docker tells both, restart or not.
    this.#waiters.tell('next-exit', status);
    this.#waiters.tell('not-running', status);
    try {
      await released;
    } catch (error) {
      this.#context.log.error('a container that ended could not let go of its network', {
        container: this.id,
        error: messageOf(error),
      });
    }
    if (delayMs === undefined) await this.#removeLater();
  }

  /** What only a running container holds. */
  async #release(): Promise<void> {
    if (this.container.state === 'running') return;
    this.#context.execs.forget(this.id);
    await detachContainer(this.#context, this.#record);
  }

  #restartLater(delayMs: number): void {
    this.#lastDelayMs = delayMs;
    this.#restartTimer = this.#context.clock.afterIdle(delayMs, () => {
      void this.#work
        .run(() => this.#restartNow())
        .catch((error: unknown) => {
          // It is told by inspection too: the container stays as it is, with the reason.
          this.#context.log.warn('a container could not be restarted', {
            container: this.id,
            error: messageOf(error),
          });
        });
    });
  }

  async #restartNow(): Promise<void> {
    if (this.#restartTimer === undefined || this.#isRemoving || this.#isClosed) return;
    this.#restartTimer = undefined;
    await this.#launch({ restartCount: this.#record.restartCount + 1 });
  }

  #cancelRestart(): boolean {
    const wasWaiting = this.#restartTimer !== undefined;
    this.#restartTimer?.cancel();
    this.#restartTimer = undefined;
    return wasWaiting;
  }

  async stop(graceMs = ownGraceMs(this.#record.spec), signal = ''): Promise<boolean> {
    if (this.#isLaunching) await this.#settled();
    if (this.#cancelRestart()) {
      this.#save({ stoppedByUser: true });
      this.#waiters.tell('not-running', { exitCode: this.view().exitCode, error: '' });
      return true;
    }
    const { container } = this;
    if (container.state !== 'running') return false;
    this.#save({ stoppedByUser: true });
    const wanted = signal === '' ? (container.config.stopSignal ?? 'SIGTERM') : signal;
    this.emit('kill', { signal: String(parseSignal(wanted)) });
    if (container.paused) await container.resume();
    await stopWith(this.#context, container, wanted, graceMs);
    await this.#settled();
    this.emit('stop');
    return true;
  }

  /** What is under way, a start or what follows its end, has been done. */
  async #settled(): Promise<void> {
    await this.#work.run(async () => {});
  }

  /** While no start, end or removal is under way; SwarmError conflict once it is removed. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#work.run(() => {
      this.#mustStay();
      return work();
    });
  }

  async restart(graceMs?: number, signal?: string): Promise<void> {
    this.#mustStay();
    await this.stop(graceMs, signal);
    await this.start();
    this.emit('restart');
  }

  async kill(signal: string): Promise<void> {
    const { container } = this;
    const number = parseSignal(signal);
    if (this.#isLaunching) await this.#settled();
    if (container.state !== 'running') throw cannotKill(this.name, this.id);
    this.#save({ stoppedByUser: this.#record.stoppedByUser || this.#ends(number) });
    if (container.paused && number === SIGKILL) await container.resume();
    await signalTo(container, signal);
    this.emit('kill', { signal: String(number) });
    if (number !== SIGKILL) return;
    await withDeadline(this.#context.clock, KILL_LIMIT_MS, `${this.name} to end`, container.wait());
    await this.#settled();
  }

  /** Signals by which a user means it to stay down. */
  #ends(signal: number): boolean {
    return signal === SIGKILL || signal === parseSignal(this.container.config.stopSignal ?? 'TERM');
  }

  async pause(): Promise<void> {
    this.#mustRun('pause');
    if (this.container.paused) {
      throw new SwarmError('conflict', `container ${this.id} is already paused`);
    }
    await this.container.pause();
    // No probe runs in it now, and that is no sign of bad health.
    this.#monitor?.stop();
    this.emit('pause');
  }

  async unpause(): Promise<void> {
    if (!this.container.paused) {
      throw new SwarmError('conflict', `Container ${this.id} is not paused`);
    }
    await this.container.resume();
    this.#watchHealthAgain();
    this.emit('unpause');
  }

  #mustRun(what: string): void {
    if (this.container.state === 'running') return;
    throw new SwarmError('conflict', `cannot ${what} ${this.name}: container is not running`);
  }

  rename(name: string): Promise<string> {
    return this.exclusively(async () => {
      const before = this.name;
      await this.container.rename(name);
      const { network } = this.#context;
      // What it is called by on user networks, and in messages about its ports.
      if (network.endpoints(this.id).length > 0) await network.rename(this.id, name);
      this.#save({ name });
      this.emit('rename', { oldName: `/${before}` });
      return before;
    });
  }

  async update(resources: ContainerResources, restart?: RestartPolicy): Promise<readonly string[]> {
    const { spec } = this.#record;
    if (restart !== undefined) checkRestart(restart, spec);
    const notes = await this.container.update(resources);
    const merged = { ...spec.resources, ...resources };
    this.#save({ spec: { ...spec, resources: merged, restart: restart ?? spec.restart } });
    this.emit('update');
    return notes;
  }

  /** What was made to go with its end goes. */
  async #removeLater(): Promise<void> {
    if (!this.#record.spec.autoRemove || this.#isRemoving) return;
    try {
      await this.remove({ force: true, volumes: true });
    } catch (error) {
      this.#context.log.error('a container could not be removed after its end', {
        container: this.id,
        error: messageOf(error),
      });
    }
  }

  async remove(options: { readonly force: boolean; readonly volumes: boolean }): Promise<void> {
    if (this.#isRemoving) {
      throw new SwarmError('conflict', `removal of container ${this.name} is already in progress`);
    }
    if (!options.force) mustBeStill(this.name, this.status);
    this.#isRemoving = true;
    try {
      await this.#remove(options.volumes);
    } catch (error) {
      this.#isRemoving = false;
      throw error;
    }
  }

  async #remove(withVolumes: boolean): Promise<void> {
    this.#cancelRestart();
    const { container } = this;
    if (container.state === 'running') {
      this.#save({ stoppedByUser: true });
      this.emit('kill', { signal: String(SIGKILL) });
    }
    const { exitCode } = this.view();
    await this.#work.run(async () => {
      await container.remove();
      await detachContainer(this.#context, this.#record);
      forgetFiles(this.#context, this.#record);
      this.#context.records.remove(this.id);
      this.#context.execs.forgetRemoved(this.id);
    });
    this.#context.forget(this);
    await releaseVolumes(this.#context, this.id, this.#record.mounts, withVolumes);
    this.emit('destroy');
    const status = { exitCode: container.exit?.exitCode ?? exitCode, error: '' };
    this.#waiters.tell('not-running', status);
    this.#waiters.tell('removed', status);
  }

  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    if (condition === 'not-running' && !['running', 'paused', 'restarting'].includes(this.status)) {
      const { exitCode, error } = this.view();
      return Promise.resolve({ exitCode, error });
    }
    return this.#waiters.wait(condition, signal);
  }

  async attach(options: { readonly stdin: boolean }): Promise<Streams> {
    this.#mustStay();
    this.emit('attach');
    return this.container.attach(options);
  }

  /** The daemon ends; the container goes on. */
  close(): void {
    this.#isClosed = true;
    this.#cancelRestart();
    this.#monitor?.stop();
  }
}

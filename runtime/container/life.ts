/**
 * A container's life, and nothing that is asked of it besides. States, what is true in them, and
 * the arrows:
 *   created   configured on disk, no process             start() -> starting
 *   starting  a shim was spawned, no word from it yet    shim: running -> running, exited -> exited
 *   running   its program was executed; the shim answers shim: exited -> exited; closed -> ending
 *   ending    the shim is gone; its record is looked for, else its cgroup is killed  -> exited
 *   exited    the record is known                        start() -> starting, remove() -> removed
 *   removed   nothing of it is left on the host
 * To others, starting is 'created' and ending is 'running'. It never restarts by itself.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { Signal, withDeadline } from '../../base/queue.ts';
import { restoreDefaultProfile } from '../sys/apparmor.ts';
import { close, createMemfd } from '../sys/libc.ts';
import { identify } from '../sys/process.ts';
import type { Attachments } from './attachments.ts';
import type { ContainerContext } from './context.ts';
import { lostRecord, SIGKILL } from './exitRecord.ts';
import {
  clearRun,
  cutOffRecord,
  everRan,
  findRecord,
  inspectExecDir,
  keepRecord,
  keepRunEnv,
  readRecord,
  recordedStartMs,
  removeData,
  removeLeft,
  removeRun,
} from './files.ts';
import { usesDefaultProfile } from './labels.ts';
import { type Lent, lend, needsLoans } from './loans.ts';
import { type ContainerPaths, groupPath } from './paths.ts';
import { listenForShim, ShimClient, type ShimEvents, type ShimState } from './shimClient.ts';
import { buildSpec, type LaunchSpec, mergeEnv } from './spec.ts';
import type { ContainerConfig, ContainerState, ExitRecord } from './types.ts';

/** Far beyond any start that will still succeed. */
const START_TIMEOUT_MS = 60_000;
/** A shim answers within milliseconds; one that is silent for this long is stopped or hangs. */
const ADOPT_TIMEOUT_MS = 15_000;
/** After SIGKILL, for the kernel to tear everything down. */
const KILL_TIMEOUT_MS = 30_000;
const REMOVE_GROUPS_TIMEOUT_MS = 10_000;
/** Whoever copies files of it meanwhile is waited for this long. */
const COPY_TIMEOUT_MS = 10_000;
/** From a shim's last word to its end. */
const SHIM_END_TIMEOUT_MS = 10_000;
const POLL_MS = 5;

/** Directories on their way out; left-overs of a crash are found by it. */
export const REMOVED_PREFIX = '.removed-';

export interface LifeHooks {
  /** Until nobody else has the container's layers mounted. */
  beforeStart(): Promise<void>;
  onExit(): void;
  onRemoved(): void;
}

type Phase = 'created' | 'starting' | 'running' | 'ending' | 'exited' | 'removed';

export class ContainerLife {
  #config: ContainerConfig;
  /** Told on every change of state. */
  readonly changed = new Signal();
  readonly #context: ContainerContext;
  readonly #paths: ContainerPaths;
  readonly #attachments: Attachments;
  readonly #hooks: LifeHooks;
  /** Made when it was created; missing after a restart of the daemon, and once started. */
  #spec: LaunchSpec | undefined;
  #phase: Phase = 'created';
  #shim: ShimClient | undefined;
  #pid = 0;
  #startTicks: bigint | undefined;
  #startedAtMs = 0;
  #exit: ExitRecord | undefined;
  #removal: Promise<void> | undefined;
  #isClosed = false;
  #isPaused = false;
  /** False only where it is known that there are none. */
  #mayHaveGroups: boolean;

  constructor(
    config: ContainerConfig,
    paths: ContainerPaths,
    context: ContainerContext,
    attachments: Attachments,
    hooks: LifeHooks,
    spec?: LaunchSpec,
  ) {
    this.#config = config;
    this.#paths = paths;
    this.#context = context;
    this.#attachments = attachments;
    this.#hooks = hooks;
    this.#spec = spec;
    this.#mayHaveGroups = spec === undefined; // else it is new
  }

  get config(): ContainerConfig {
    return this.#config;
  }

  /** What it is from its next start on. */
  configure(config: ContainerConfig): void {
    this.#config = config;
    this.#spec = undefined;
  }

  get phase(): Phase {
    return this.#phase;
  }

  get paused(): boolean {
    return this.#phase === 'running' && this.#isPaused;
  }

  /** SwarmError conflict unless it runs. */
  running(): ShimClient {
    if (this.#phase !== 'running' || this.#shim === undefined) throw this.notRunning();
    return this.#shim;
  }

  get state(): ContainerState {
    if (this.#phase === 'created' || this.#phase === 'starting') return 'created';
    return this.#phase === 'running' || this.#phase === 'ending' ? 'running' : 'exited';
  }

  get pid(): number {
    return this.#phase === 'running' ? this.#pid : 0;
  }

  /**
   * Whether `pid` is its first process and nobody else: while the output of one that has ended is
   * still read, its number may be another's.
   */
  isPid(pid: number): boolean {
    if (pid === 0 || this.pid !== pid) return false;
    const ticks = identify(pid)?.startTicks;
    return ticks !== undefined && ticks === this.#startTicks;
  }

  get startedAtMs(): number {
    return this.#startedAtMs;
  }

  get exit(): ExitRecord | undefined {
    return this.#exit;
  }

  async start(env: readonly string[]): Promise<void> {
    if (this.#phase === 'exited') await this.#forgetRun();
    if (usesDefaultProfile(this.#config)) await restoreDefaultProfile();
    await withDeadline(
      this.#context.clock,
      COPY_TIMEOUT_MS,
      `copying files of container ${this.shortId}`,
      this.#hooks.beforeStart(),
    );
    if (this.#phase !== 'created') {
      throw new SwarmError('conflict', `container ${this.shortId} is running already`);
    }
    if (this.#removal !== undefined) {
      const why = 'is marked for removal and cannot be started';
      throw new SwarmError('conflict', `container ${this.shortId} ${why}`);
    }
    const loans = needsLoans(this.config) ? lend(this.config, this.#context) : undefined;
    try {
      await this.#startWith(loans, env);
    } catch (error) {
      // What has not begun has no end with which it would go.
      if (this.#phase === 'created') this.#context.sharedMemory.drop(this.config.id);
      throw error;
    } finally {
      loans?.close();
    }
    const failed = this.#exit?.error;
    if (failed === undefined) return;
    const exitCode = this.#exit?.exitCode ?? 0;
    const isProgram = exitCode === 126 || exitCode === 127;
    throw new SwarmError(isProgram ? 'invalid' : 'internal', failed, {
      detail: { exitCode: String(exitCode) },
    });
  }

  async #startWith(lent: Lent | undefined, env: readonly string[]): Promise<void> {
    const { cgroups, log } = this.#context;
    const known = lent === undefined && env.length === 0 ? this.#spec : undefined;
    // What a link tells does not win over what the container itself was given.
    const config =
      env.length === 0 ? this.config : { ...this.config, env: mergeEnv(env, this.config.env) };
    const spec = known ?? buildSpec(config, this.#paths, cgroups, lent);
    keepRunEnv(this.#paths.execDir, env);
    this.#spec = undefined;
    for (const note of spec.notes) log.warn(note, { container: this.shortId });
    this.#phase = 'starting';
    this.#mayHaveGroups = true;
    try {
      this.#spawn(spec.bytes);
    } catch (error) {
      this.#shim?.close();
      this.#attachments.drop();
      this.#finish(this.#notStarted(messageOf(error)));
      throw error;
    }
    await this.until(
      () => this.#phase !== 'starting',
      START_TIMEOUT_MS,
      `container ${this.shortId} to start`,
    ).catch(async (error: unknown) => {
      this.#context.nursery.close(); // may be why; its shims run on
      // One that is made late finds this waiting, and starts nothing any more.
      this.#shim?.kill(SIGKILL, true).catch(() => {
        // there is none yet, and maybe never will be
      });
      await this.#loseSupervisor('it did not start in time');
      throw error;
    });
  }

  /** From exited back to created: the shim of the last run has ended, its traces are gone. */
  async #forgetRun(): Promise<void> {
    await this.until(
      () => this.#shim === undefined,
      SHIM_END_TIMEOUT_MS,
      `container ${this.shortId} to be cleaned up`,
    );
    await this.#destroyGroups();
    if (this.#phase !== 'exited') return; // somebody else was first
    clearRun(this.#paths);
    this.#exit = undefined;
    this.#startedAtMs = 0;
    this.#phase = 'created';
  }

  /** A shim that has said its last word removes the groups and ends; one that hangs need not. */
  async #shimGone(): Promise<void> {
    if (this.#exit === undefined) return;
    try {
      await this.until(
        () => this.#shim === undefined,
        SHIM_END_TIMEOUT_MS,
        `container ${this.shortId} to be cleaned up`,
      );
    } catch (error) {
      if (!hasCode(error, 'timeout')) throw error;
    }
  }

  /** Has the shim made and connects; blocks the loop for well under a millisecond. */
  #spawn(spec: Uint8Array): void {
    const { execDir } = this.#paths;
    let listener = -1;
    const specFd = createMemfd('spec');
    try {
      writeFileSync(specFd, spec);
      const control = listenForShim(execDir);
      listener = control.listener;
      // First: where no shim can be made, whoever waits for one is told so.
      this.#shim = ShimClient.over(control.fd, this.#context.clock, this.#events());
      this.#attachments.sendEarly();
      this.#context.nursery.start(this.shortId, specFd, listener);
    } finally {
      close(specFd);
      if (listener >= 0) close(listener);
    }
  }

  #connect(): void {
    this.#shim = ShimClient.connect(this.#paths.execDir, this.#context.clock, this.#events());
  }

  #events(): ShimEvents {
    return {
      state: (state) => this.#takeState(state),
      exited: (record) => this.#finish(record),
      cleared: () => {
        this.#mayHaveGroups = false;
      },
      closed: () => this.#connectionClosed(),
    };
  }

  #takeState(state: ShimState): void {
    if (state.phase !== 'running' || this.#exit !== undefined) return;
    this.#isPaused = state.frozen;
    this.#phase = 'running';
    this.#pid = state.pid;
    this.#startTicks = state.startTicks ?? identify(state.pid)?.startTicks;
    this.#startedAtMs = state.startedAtMs;
    this.changed.emit();
  }

  #connectionClosed(): void {
    this.#shim = undefined;
    if (this.#exit !== undefined || this.#isClosed) {
      this.changed.emit();
      return;
    }
    this.#loseSupervisor('supervisor lost').catch((error: unknown) => {
      this.#context.log.error('cannot clean up after a lost supervisor', {
        container: this.shortId,
        error: messageOf(error),
      });
    });
  }

  /** The shim is gone: its record counts if it left one, else all it supervised is killed. */
  async #loseSupervisor(reason: string): Promise<void> {
    if (this.#phase === 'exited' || this.#phase === 'removed' || this.#phase === 'ending') return;
    const record = await readRecord(this.#paths.execDir);
    if (record !== undefined) {
      this.#finish(record);
      return;
    }
    if (this.#startedAtMs === 0) this.#startedAtMs = recordedStartMs(this.#paths.execDir);
    this.#phase = 'ending';
    await this.#destroyGroups();
    this.#finish(lostRecord(reason, this.#startedAtMs, this.#context.clock.wallMs()));
  }

  async #destroyGroups(): Promise<void> {
    const { cgroups, clock } = this.#context;
    const deadlineMs = clock.nowMs() + REMOVE_GROUPS_TIMEOUT_MS;
    while (this.#mayHaveGroups && !cgroups.remove(groupPath(this.config))) {
      if (clock.nowMs() > deadlineMs) {
        const pids = cgroups.pids(groupPath(this.config)).join(', ');
        const left = pids === '' ? 'control groups' : `processes ${pids}`;
        throw new SwarmError('internal', `${left} of container ${this.shortId} do not go away`);
      }
      cgroups.kill(groupPath(this.config));
      await clock.sleep(POLL_MS);
    }
  }

  #finish(record: ExitRecord): void {
    if (this.#exit !== undefined) return;
    this.#exit = record;
    this.#phase = 'exited';
    if (record.startedAtMs !== 0) this.#startedAtMs = record.startedAtMs;
    this.#keepRecord(record);
    this.#context.sharedMemory.drop(this.config.id);
    this.changed.emit();
    this.#hooks.onExit();
  }

  #keepRecord(record: ExitRecord): void {
    try {
      keepRecord(this.#paths.dataDir, record);
    } catch (error) {
      // E.g. a full disk. The record in the exec root still counts until the next boot.
      this.#context.log.warn('cannot keep an exit record', {
        container: this.shortId,
        error: messageOf(error),
      });
    }
  }

  #notStarted(error: string): ExitRecord {
    return {
      exitCode: 128,
      signal: 0,
      oomKilled: false,
      startedAtMs: 0,
      finishedAtMs: this.#context.clock.wallMs(),
      error,
    };
  }

  /** After a restart of the daemon or the host: finds out what became of it. */
  async adopt(): Promise<void> {
    const kept = await findRecord(this.#paths);
    if (kept !== undefined) {
      this.#finish(kept);
      return;
    }
    const found = await inspectExecDir(this.#paths.execDir);
    const hasLog = this.config.log.driver !== 'none';
    if (found === 'absent' && hasLog && !(await everRan(this.#paths.dataDir))) {
      clearRun(this.#paths);
    } else if (found === 'absent') {
      await this.#destroyGroups();
      this.#finish(cutOffRecord(this.#paths.dataDir, this.#context.clock.wallMs()));
    } else if (found === 'started') {
      this.#phase = 'starting';
      this.#connect();
      await this.#unlessSilent(() =>
        this.until(
          () => this.#phase !== 'starting' && this.#phase !== 'ending',
          ADOPT_TIMEOUT_MS,
          `container ${this.shortId} to be found again`,
        ),
      );
    }
  }

  /** SIGKILL to all its processes, through its shim or, when that is silent, without it. */
  async killEveryone(): Promise<void> {
    await this.#unlessSilent(async () => {
      await this.signalUnlessOver(SIGKILL, true);
      await this.#waitExit(KILL_TIMEOUT_MS);
    });
  }

  /** A shim that does not answer counts as lost: no container is out of reach because of it. */
  async #unlessSilent(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!hasCode(error, 'timeout')) throw error;
      await this.#loseSupervisor('supervisor does not answer');
      this.#shim?.close();
    }
  }

  async signalUnlessOver(signal: number, everyone: boolean): Promise<void> {
    try {
      await this.#shim?.kill(signal, everyone);
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
    }
  }

  async wait(): Promise<ExitRecord> {
    if (this.#exit !== undefined) return this.#exit;
    return await new Promise((resolve) => {
      const stop = this.changed.listen(() => {
        if (this.#exit === undefined) return;
        stop();
        resolve(this.#exit);
      });
    });
  }

  remove(): Promise<void> {
    this.#removal ??= this.#remove().catch((error: unknown) => {
      this.#removal = undefined; // may be tried again
      throw error;
    });
    return this.#removal;
  }

  async #remove(): Promise<void> {
    if (this.#phase === 'starting' || this.state === 'running') await this.killEveryone();
    await this.#shimGone();
    await this.#destroyGroups();
    // Whoever waits for one that never ran waits no longer.
    this.#exit ??= this.#notStarted('removed before it was started');
    this.#phase = 'removed';
    this.#attachments.drop();
    this.#shim?.close();
    // Renamed first: whatever stops us now, the container is gone as a whole.
    const doomed = join(dirname(this.#paths.dataDir), `${REMOVED_PREFIX}${this.config.id}`);
    renameSync(this.#paths.dataDir, doomed);
    const { log } = this.#context;
    await removeLeft(this.#paths.execDir, log, removeRun);
    this.#hooks.onRemoved();
    this.changed.emit();
    await removeLeft(doomed, log, removeData);
  }

  /** Lets go of the shim, which runs on. */
  close(): void {
    this.#isClosed = true;
    this.#shim?.close();
  }

  async #waitExit(timeoutMs: number): Promise<ExitRecord> {
    const what = `container ${this.shortId} to end`;
    return await withDeadline(this.#context.clock, timeoutMs, what, this.wait());
  }

  async until(isDone: () => boolean, timeoutMs: number, what: string): Promise<void> {
    if (isDone()) return;
    let stop = (): void => {};
    const done = new Promise<void>((resolve) => {
      stop = this.changed.listen(() => {
        if (isDone()) resolve();
      });
    });
    await withDeadline(this.#context.clock, timeoutMs, what, done).finally(() => stop());
  }

  notRunning(): SwarmError {
    return new SwarmError('conflict', `container ${this.shortId} is not running`);
  }

  get shortId(): string {
    return shortId(this.config.id);
  }
}

/**
 * One container as the rest of the host sees it: its life (life.ts) and everything that can be
 * asked of it meanwhile. Keeps no state of its own.
 */
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { Attachments } from './attachments.ts';
import { ContainerFiles } from './containerFiles.ts';
import type { ContainerContext } from './context.ts';
import { isPaused, startExec } from './exec.ts';
import { SIGKILL } from './exitRecord.ts';
import { madeMs, runEnv, writeConfig } from './files.ts';
import { readLinks, readProcessors } from './hostCounters.ts';
import { ContainerLife } from './life.ts';
import { FRAMES, JSON_LINES } from './logFormats.ts';
import { LogPacker } from './logPacking.ts';
import { readLogs } from './logs.ts';
import { type ContainerPaths, groupPath, LOG_DIR } from './paths.ts';
import { RootAccess } from './rootAccess.ts';
import { parseSignal } from './signals.ts';
import { buildExecSpec, buildSpec, DEFAULT_LOG_FILES, type LaunchSpec, mergeEnv } from './spec.ts';
import type {
  Container,
  ContainerConfig,
  ContainerResources,
  ContainerState,
  ContainerStats,
  DetailedStats,
  Exec,
  ExecConfig,
  ExitRecord,
  FileChange,
  FileStat,
  LogQuery,
  LogRecord,
  Streams,
} from './types.ts';

/** Processes in the kernel can keep a group from being frozen for a while. */
const FREEZE_TIMEOUT_MS = 10_000;

export class ManagedContainer implements Container {
  readonly #life: ContainerLife;
  readonly #context: ContainerContext;
  readonly #paths: ContainerPaths;
  readonly #attachments: Attachments;
  readonly #files: ContainerFiles;
  readonly notes: readonly string[];
  readonly createdAtMs: number;
  #packer: LogPacker | undefined;

  constructor(
    config: ContainerConfig,
    paths: ContainerPaths,
    context: ContainerContext,
    spec?: LaunchSpec,
  ) {
    this.#paths = paths;
    this.#context = context;
    this.notes = spec?.notes ?? [];
    this.createdAtMs = madeMs(paths.dataDir); // which is renamed while this is still asked for
    this.#attachments = new Attachments(paths.execDir, context.clock, shortId(config.id));
    const access = new RootAccess(context);
    const hooks = {
      beforeStart: () => access.idle(),
      onExit: () => {
        this.#packer?.finish();
        context.onExit(this);
      },
      onRemoved: () => context.onRemoved(this),
    };
    this.#life = new ContainerLife(config, paths, context, this.#attachments, hooks, spec);
    this.#files = new ContainerFiles(this.#life, paths, access);
  }

  get config(): ContainerConfig {
    return this.#life.config;
  }

  get state(): ContainerState {
    return this.#life.state;
  }

  get paused(): boolean {
    return this.#life.paused;
  }

  get pid(): number {
    return this.#life.pid;
  }

  /** Whether `pid` is its first process, and not one that has the number now. */
  isPid(pid: number): boolean {
    return this.#life.isPid(pid);
  }

  get startedAtMs(): number {
    return this.#life.startedAtMs;
  }

  get exit(): ExitRecord | undefined {
    return this.#life.exit;
  }

  async start(env: readonly string[] = []): Promise<void> {
    await this.#life.start(env);
    this.#packLogs();
    this.#context.onStart(this);
  }

  wait(): Promise<ExitRecord> {
    return this.#life.wait();
  }

  async remove(): Promise<void> {
    await this.#packer?.close();
    this.#packer = undefined;
    await this.#life.remove();
  }

  /** After a restart of the daemon or the host: finds out what became of it. */
  async adopt(): Promise<void> {
    await this.#life.adopt();
    if (this.state === 'running') this.#packLogs();
  }

  /** Lets go of the shim, which runs on. */
  close(): void {
    void this.#packer?.close();
    this.#life.close();
  }

  #packLogs(): void {
    const { driver, compress = false, maxFiles = DEFAULT_LOG_FILES } = this.config.log;
    if (!compress || driver === 'none') return;
    this.#packer ??= new LogPacker(join(this.#paths.dataDir, LOG_DIR), maxFiles, this.#context.log);
    if (this.state === 'running') this.#packer.start();
    else this.#packer.finish(); // it has ended already
  }

  async kill(signal: string): Promise<void> {
    const number = parseSignal(signal);
    await this.#life.running().kill(number);
    if (number === SIGKILL || number === this.#stopSignal) await this.#thaw();
  }

  get #stopSignal(): number {
    return parseSignal(this.config.stopSignal ?? 'SIGTERM');
  }

  async stop(graceMs: number): Promise<ExitRecord> {
    if (this.exit !== undefined) return this.exit;
    if (this.state !== 'running') throw this.#life.notRunning();
    try {
      await this.#life.signalUnlessOver(this.#stopSignal, false);
      await this.#thaw();
      await this.#life.until(() => this.exit !== undefined, graceMs, 'container to stop');
    } catch (error) {
      if (!hasCode(error, 'timeout')) throw error;
      await this.#life.killEveryone();
    }
    return await this.wait();
  }

  /** So that a paused one can end. */
  async #thaw(): Promise<void> {
    if (!this.paused) return;
    await this.#life
      .running()
      .freeze(false)
      .catch((error: unknown) => {
        if (!hasCode(error, 'not_found')) throw error; // it has ended: just as well
      });
  }

  async pause(): Promise<void> {
    const shim = this.#life.running();
    if (this.paused) {
      throw new SwarmError('conflict', `container ${this.#life.shortId} is already paused`);
    }
    await shim.freeze(true);
    // The kernel stops one process after the other.
    const { cgroups, clock } = this.#context;
    const deadlineMs = clock.nowMs() + FREEZE_TIMEOUT_MS;
    while (this.paused && !cgroups.isFrozen(groupPath(this.config))) {
      if (clock.nowMs() > deadlineMs) {
        await shim.freeze(false);
        throw new SwarmError('timeout', `container ${this.#life.shortId} cannot be paused now`);
      }
      await clock.sleep(1);
    }
  }

  async resume(): Promise<void> {
    const shim = this.#life.running();
    if (!this.paused)
      throw new SwarmError('conflict', `container ${this.#life.shortId} is not paused`);
    await shim.freeze(false);
  }

  async resize(rows: number, columns: number): Promise<void> {
    await this.#life.running().resize(rows, columns);
  }

  async attach(options: { readonly stdin: boolean }): Promise<Streams> {
    const { phase } = this.#life;
    if (phase === 'removed') {
      throw new SwarmError('not_found', `container ${this.#life.shortId} was removed`);
    }
    const { tty = false, openStdin = false } = this.config;
    const wanted = { stdin: options.stdin && openStdin, tty };
    if (phase === 'created' || phase === 'exited') return this.#attachments.expect(wanted);
    return await this.#attachments.add(wanted).catch((error: unknown) => {
      throw hasCode(error, 'not_found') ? this.#life.notRunning() : error;
    });
  }

  async exec(config: ExecConfig): Promise<Exec> {
    const { execDir } = this.#paths;
    const env = mergeEnv(runEnv(execDir), this.config.env);
    const spec = buildExecSpec({ ...this.config, env }, config, this.pid);
    this.#life.running();
    if (this.paused) throw isPaused(this.#life.shortId);
    const { clock } = this.#context;
    return await startExec({ execDir, clock, shortId: this.#life.shortId }, spec, config);
  }

  async rename(name: string): Promise<void> {
    this.#configure({ ...this.config, name });
  }

  async update(resources: ContainerResources): Promise<readonly string[]> {
    const { cgroups, log } = this.#context;
    if (this.#life.phase === 'removed') throw this.#life.notRunning();
    const wanted = { ...this.config.resources, ...resources };
    const config = { ...this.config, resources: wanted };
    // Everything that can be wrong with it is found before anything is changed.
    const spec = buildSpec(config, this.#paths, cgroups);
    // The rules of devices are as they were: Docker has no option to change them.
    const changed = { ...spec.resources, devices: [] };
    if (this.#life.phase === 'running') cgroups.update(groupPath(config), changed);
    for (const note of spec.notes) log.warn(note, { container: this.#life.shortId });
    this.#configure(config);
    return spec.notes;
  }

  #configure(config: ContainerConfig): void {
    writeConfig(this.#paths.dataDir, config);
    this.#life.configure(config);
  }

  changes(): Promise<readonly FileChange[]> {
    return this.#files.changes();
  }

  statPath(path: string): Promise<FileStat> {
    return this.#files.stat(path);
  }

  readArchive(path: string): Promise<{ readonly stat: FileStat; readonly tar: Readable }> {
    return this.#files.read(path);
  }

  writeArchive(
    path: string,
    tar: Readable,
    options: Parameters<Container['writeArchive']>[2],
  ): Promise<void> {
    return this.#files.write(path, tar, options);
  }

  exportRoot(): Readable {
    return this.#files.exportRoot();
  }

  layer(): Readable {
    return this.#files.layer();
  }

  writableBytes(): Promise<number> {
    return this.#files.writableBytes();
  }

  async processes(): Promise<readonly number[]> {
    this.#life.running();
    return this.#context.cgroups.pids(groupPath(this.config));
  }

  logs(query: LogQuery): AsyncIterable<LogRecord> {
    const { driver = 'local' } = this.config.log;
    if (driver === 'none') {
      throw new SwarmError('unsupported', 'configured logging driver does not support reading');
    }
    return readLogs(join(this.#paths.dataDir, LOG_DIR), query, {
      clock: this.#context.clock,
      format: driver === 'local' ? FRAMES : JSON_LINES,
      isOver: () => this.exit !== undefined || this.#life.phase === 'removed',
      changed: this.#life.changed,
    });
  }

  async stats(): Promise<ContainerStats> {
    this.#life.running();
    return this.#context.cgroups.stats(groupPath(this.config));
  }

  async detailedStats(): Promise<DetailedStats> {
    this.#life.running();
    const { pid } = this;
    const links = this.config.networkNamespace === 'host' ? {} : readLinks(pid);
    const networks = this.isPid(pid) ? links : {};
    return {
      ...this.#context.cgroups.usage(groupPath(this.config)),
      ...readProcessors(),
      networks,
      readAtMs: this.#context.clock.wallMs(),
    };
  }
}

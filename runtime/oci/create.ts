/**
 * Makes a container from its bundle, up to its gate: name taken, groups made, process there, state
 * written; then its program is one open of the gate away. What fails on the way leaves nothing.
 */
import { realpathSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { close, makeNode } from '../sys/libc.ts';
import { cgroupPath, OciCgroups } from './cgroups.ts';
import type { OciConfig } from './config.ts';
import { readConfig, readJson } from './configRead.ts';
import { connectConsole, ownConsole, takeMaster } from './console.ts';
import type { OciContext } from './context.ts';
import { type HookState, hookState } from './hookState.ts';
import { buildLaunch } from './launch.ts';
import { type Launched, launch, preservedDescriptors } from './launcher.ts';
import { moveNetDevices } from './netDevices.ts';
import type { StoredContainer } from './store.ts';

const FIFO = 0o010622;

export interface CreateOptions {
  readonly bundle: string;
  /** Relative to the bundle. */
  readonly configFile: string;
  readonly consoleSocket?: string;
  readonly pidFile?: string;
  readonly noPivot: boolean;
  readonly noNewKeyring: boolean;
  readonly preserveFds: number;
  /** The caller goes on with the terminal itself. */
  readonly foreground: boolean;
}

export interface Created {
  readonly container: StoredContainer;
  /** Of the terminal, in the foreground. */
  readonly master?: number;
}

export function readBundle(options: Pick<CreateOptions, 'bundle' | 'configFile'>): {
  readonly bundle: string;
  readonly value: unknown;
  readonly config: OciConfig;
} {
  const bundle = realpathSync(resolve(options.bundle));
  const value = readJson(resolve(bundle, options.configFile));
  return { bundle, value, config: readConfig(value) };
}

/** What hooks and `state` say of a container. */
export function stateOf(config: OciConfig, id: string, bundle: string): HookState {
  return hookState({ ociVersion: config.ociVersion, id, bundle, annotations: config.annotations });
}

export async function createContainer(
  context: OciContext,
  id: string,
  options: CreateOptions,
): Promise<Created> {
  const { bundle, value, config: read } = readBundle(options);
  const extra = systemdDescriptors();
  const config = withListenVariables(read, extra);
  checkConsole(config, options);
  const cgroups = new OciCgroups(cgroupPath(config, id), context.clock);
  const { store } = context;
  // One that was there before is somebody else's, too.
  const hadGroup = cgroups.exists;
  const stateDir = store.reserve(id);
  let made: readonly string[] = [];
  let started: Launched | undefined;
  try {
    const gate = store.gateOf(id);
    makeNode(gate, FIFO, 0, 0);
    const preserved = preservedDescriptors(options.preserveFds + extra);
    const { resources } = config.linux;
    const groups = cgroups.make(resources);
    made = groups.made;
    for (const note of groups.notes) context.log.warn(note);
    delegateGroup(config, cgroups);
    const plan = cgroups.plan(resources);
    for (const note of plan.notes) context.log.warn(note);
    const built = buildLaunch(config, {
      id,
      stateDir,
      bundle,
      groups: plan.groups,
      places: cgroups.dirs(),
      gate,
      hasConsole: config.process?.terminal === true,
      preserveFds: preserved.length,
      noPivot: options.noPivot,
      noNewKeyring: options.noNewKeyring,
      hookState: stateOf(config, id, bundle),
    });
    const kept = {
      id,
      bundle,
      pid: 0,
      startTicks: '0',
      created: new Date(context.clock.wallMs()).toISOString(),
      cgroupPath: cgroups.path,
      madeGroups: made,
      config: value,
    };
    // Should this process be killed now, `delete --force` finds by it what there is.
    store.write(kept);
    const result = await launchWithConsole(config, options, id, built.bytes, preserved);
    started = result.launched;
    moveNetDevices(config, started.pid);
    for (const note of [...built.notes, ...started.notes]) context.log.warn(note);
    store.write({ ...kept, pid: started.pid, startTicks: String(started.startTicks) });
    if (options.pidFile !== undefined) writePidFile(options.pidFile, started.pid);
    return { container: store.load(id), master: result.master };
  } catch (error) {
    if (started !== undefined) killQuietly(started.pid);
    if (!hadGroup) await removeQuietly(context, cgroups, made);
    store.remove(id);
    throw error;
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
}

/** In namespaces of its own the container may divide its group, if it can write there at all. */
function delegateGroup(config: OciConfig, cgroups: OciCgroups): void {
  const { namespaces, uidMappings } = config.linux;
  const isOwn = namespaces.get('user') === '' && namespaces.get('cgroup') === '';
  const isWritable = config.mounts.some(
    ({ type, options }) => /^cgroup2?$/.test(type) && !options.includes('ro'),
  );
  const root = uidMappings.find(({ inside }) => inside === 0);
  if (isOwn && isWritable && root !== undefined) cgroups.delegate(root.outside);
}

async function removeQuietly(
  context: OciContext,
  cgroups: OciCgroups,
  made: readonly string[],
): Promise<void> {
  await cgroups.remove(made).catch((error: unknown) => context.log.warn(messageOf(error)));
}

function checkConsole(config: OciConfig, options: CreateOptions): void {
  const hasTerminal = config.process?.terminal === true;
  if (hasTerminal && !options.foreground && options.consoleSocket === undefined) {
    throw new SwarmError(
      'invalid',
      'process.terminal: a terminal that nobody here goes on with needs a listener: ' +
        'use --console-socket',
    );
  }
  if (!hasTerminal && options.consoleSocket !== undefined) {
    throw new SwarmError(
      'invalid',
      'cannot use a console socket without a terminal: process.terminal is false',
    );
  }
}

async function launchWithConsole(
  config: OciConfig,
  options: CreateOptions,
  id: string,
  bytes: Uint8Array,
  preserved: readonly number[],
): Promise<{ readonly launched: Launched; readonly master?: number }> {
  return await withConsole(
    config.process?.terminal === true,
    options.consoleSocket,
    async (consoleFd) => await launch({ kind: 'run', id, bytes, preserved, consoleFd }),
  );
}

/** Runs `start` with the descriptor that receives the terminal, if there is to be one. */
export async function withConsole(
  hasTerminal: boolean,
  socket: string | undefined,
  start: (consoleFd: number | undefined) => Promise<Launched>,
): Promise<{ readonly launched: Launched; readonly master?: number }> {
  if (!hasTerminal) return { launched: await start(undefined) };
  const [ours, theirs] =
    socket === undefined ? ownConsole() : ([undefined, connectConsole(socket)] as const);
  try {
    const launched = await start(theirs);
    return ours === undefined ? { launched } : { launched, master: takeMaster(ours) };
  } finally {
    close(theirs);
    if (ours !== undefined) close(ours);
  }
}

/** Written aside and renamed: whoever waits for it reads it whole. */
export function writePidFile(path: string, pid: number): void {
  const full = resolve(path);
  const aside = join(dirname(full), `.${basename(full)}.tmp`);
  writeFileSync(aside, String(pid), { mode: 0o666 });
  renameSync(aside, full);
}

/** sd_listen_fds(3): how many more descriptors the caller's manager handed over. */
export function systemdDescriptors(): number {
  const text = process.env.LISTEN_FDS ?? '';
  return /^\d{1,3}$/.test(text) ? Number(text) : 0;
}

function withListenVariables(config: OciConfig, count: number): OciConfig {
  if (count === 0 || config.process === undefined) return config;
  const env = [...config.process.env, `LISTEN_FDS=${count}`, 'LISTEN_PID=1'];
  return { ...config, process: { ...config.process, env } };
}

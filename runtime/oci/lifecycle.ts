/**
 * What becomes of a container that was made: its gate is opened, it is signalled, it is waited for
 * and removed with all that it has.
 */
import { closeSync, constants, openSync, readSync, unlinkSync } from 'node:fs';
import { constants as os } from 'node:os';
import { SwarmError } from '../../base/errors.ts';
import { isAlive, makeBlocking, reapChildren } from '../sys/process.ts';
import type { Relay } from './console.ts';
import type { OciContext } from './context.ts';
import { stateOf } from './create.ts';
import { stateText } from './hookState.ts';
import { runHooks } from './hooks.ts';
import type { StoredContainer } from './store.ts';

const PAGE_BYTES = 64 * 1024;
const FAILED = 'E'.charCodeAt(0);
const FAILURE_HEADER_BYTES = 5;
const POLL_MS = 10;
const KILL_TRIES = 1000;
const TAKE_BACK_EVERY = 20;
const SIGKILL = 9;

/** Has the program executed. SwarmError with the shim's text when that fails. */
export function openGate(context: OciContext, container: StoredContainer): void {
  const { gate, config, id, kept } = container;
  if (!container.isAlive) {
    throw new SwarmError('conflict', 'cannot start a container that has stopped');
  }
  let fd: number;
  try {
    // Never waits, also when the container's process is gone meanwhile.
    fd = openSync(gate, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    throw new SwarmError('conflict', 'cannot start an already running container');
  }
  let failure: Buffer | undefined;
  try {
    makeBlocking(fd);
    failure = readGate(fd);
  } finally {
    closeSync(fd);
  }
  try {
    unlinkSync(gate);
  } catch {
    // removed with the container meanwhile
  }
  if (failure !== undefined) {
    const exitCode = String(failure.readInt32LE(1));
    const text = failure.toString('utf8', FAILURE_HEADER_BYTES);
    throw new SwarmError('invalid', text, { detail: { exitCode } });
  }
  const state = stateText(stateOf(config, id, kept.bundle), 'running', container.pid);
  for (const line of runHooks(config.hooks.poststart, state)) context.log.warn(line);
}

/** The failure's bytes, if one comes before the end. */
function readGate(fd: number): Buffer | undefined {
  const chunk = Buffer.alloc(PAGE_BYTES);
  const after: Buffer[] = [];
  for (;;) {
    const length = readSync(fd, chunk);
    if (length === 0) break;
    const at = chunk.subarray(0, length).indexOf(FAILED);
    if (after.length > 0 || at >= 0) {
      after.push(Buffer.from(chunk.subarray(after.length > 0 ? 0 : at, length)));
    }
  }
  const failure = Buffer.concat(after);
  return failure.length >= FAILURE_HEADER_BYTES ? failure : undefined;
}

/** Signals that a person or a manager sends to this process, for the program. */
const FORWARDED = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGTSTP',
  'SIGTTIN',
  'SIGTTOU',
] as const;

/** Waits for our child `pid`, handing signals on; its exit code as a shell gives it. */
export async function waitForChild(
  context: OciContext,
  pid: number,
  relay: Relay | undefined,
): Promise<number> {
  const ended = new Promise<number>((resolve) => {
    const look = (): void => {
      const code = reapChildren().get(pid);
      if (code !== undefined) resolve(code);
    };
    process.on('SIGCHLD', look);
    // It may have ended before anyone listened.
    context.clock.defer(look);
  });
  for (const signal of FORWARDED) {
    process.on(signal, () => {
      try {
        process.kill(pid, signal);
      } catch {
        // it has just ended
      }
    });
  }
  if (relay !== undefined) process.on('SIGWINCH', () => relay.resize());
  // Nothing else keeps this process from ending meanwhile.
  const alive = context.clock.after(2 ** 31, () => undefined);
  const code = await ended;
  alive.cancel();
  await relay?.finish();
  return code;
}

/** SwarmError conflict unless it runs (or, created, waits at its gate). */
export function checkRunning(container: StoredContainer): void {
  if (!container.isAlive) throw new SwarmError('conflict', 'container not running');
}

/** To the first process, or to all. */
export function signalContainer(
  container: StoredContainer,
  signal: number,
  everyone: boolean,
): void {
  if (everyone) {
    container.cgroups.signal(signal);
    return;
  }
  checkRunning(container);
  process.kill(container.pid, signal);
  // A frozen process does not die before it is thawed; without a pid namespace of its own, those
  // it started would live on.
  const hasOwnPids = container.config.linux.namespaces.get('pid') === '';
  if (signal === SIGKILL && (!hasOwnPids || container.cgroups.isFrozen())) {
    container.cgroups.signal(SIGKILL);
  }
}

/** Nothing of it is left: no process, group, state. `force`: whatever it does now. */
export async function deleteContainer(
  context: OciContext,
  container: StoredContainer,
  force: boolean,
): Promise<void> {
  const { status, id, config, kept } = container;
  if (status !== 'stopped' && status !== 'created' && !force) {
    throw new SwarmError(
      'conflict',
      `cannot delete container ${id} that is not stopped: ${status}`,
    );
  }
  if (container.isAlive) {
    signalContainer(container, SIGKILL, false);
    await waitUntilGone(context, container);
  }
  // What it left in its groups; unless they are another container's, too.
  const shared = context.store
    .list()
    .some((other) => other.id !== id && other.cgroups.path === container.cgroups.path);
  if (!shared) {
    await container.cgroups.killAll();
    await container.cgroups.remove(kept.madeGroups);
  }
  const state = stateText(stateOf(config, id, kept.bundle), 'stopped', 0);
  for (const line of runHooks(config.hooks.poststop, state)) context.log.warn(line);
  context.store.remove(id);
}

async function waitUntilGone(context: OciContext, container: StoredContainer): Promise<void> {
  const startTicks = BigInt(container.kept.startTicks);
  for (let at = 0; at < KILL_TRIES; at += 1) {
    if (!isAlive(container.pid, startTicks)) return;
    if (at % TAKE_BACK_EVERY === TAKE_BACK_EVERY - 1) container.cgroups.takeBack(container.pid);
    await context.clock.sleep(POLL_MS);
  }
  throw new SwarmError('timeout', 'container init still running');
}

/** The number of 'KILL', 'SIGKILL' or '9'; 0 is allowed here: it only looks. */
export function signalNumber(text: string): number {
  if (/^\d{1,2}$/.test(text)) return Number(text);
  const name = text.toUpperCase().replace(/^SIG/, '');
  const number = (os.signals as Readonly<Record<string, number>>)[`SIG${name}`];
  if (number === undefined) throw new SwarmError('invalid', `unknown signal "${text}"`);
  return number;
}

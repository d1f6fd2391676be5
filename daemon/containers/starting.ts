/**
 * Starting and stopping one run of a container in Docker's words: the exit code and the message of
 * a start that failed, a stop with another signal than the container's own, the events around a
 * run. Holds no state.
 */
import type { Timer } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { parseSignal } from '../../runtime/container/signals.ts';
import type { Container } from '../../runtime/container/types.ts';
import type { HostContext } from './context.ts';
import { DEFAULT_STOP_GRACE_MS } from './managed.ts';
import type { ContainerRecord, ContainerStatus, StandaloneSpec } from './types.ts';

/** As Docker's, when nothing better is known. */
const UNKNOWN_EXIT_CODE = 128;

/** Of a start that failed. */
export function exitCodeOf(error: unknown): number {
  const code = error instanceof SwarmError ? error.detail['exitCode'] : undefined;
  return code === undefined ? UNKNOWN_EXIT_CODE : Number(code);
}

/** Docker's client finds its exit code (127, 126) in the words of the message. */
const DOCKER_WORDS: Readonly<Record<number, string>> = {
  126: 'permission denied',
  127: 'executable file not found in $PATH',
};

export function startError(cause: unknown): unknown {
  const words = DOCKER_WORDS[exitCodeOf(cause)];
  if (words === undefined || !(cause instanceof SwarmError)) return cause;
  const known = /no such file or directory|is a directory|permission denied|not found in \$PATH/;
  if (known.test(cause.message)) return cause;
  return new SwarmError(cause.code, `${cause.message}: ${words}`, {
    cause,
    detail: { ...cause.detail },
  });
}

export function ownGraceMs({ stopTimeoutS }: Pick<StandaloneSpec, 'stopTimeoutS'>): number {
  if (stopTimeoutS === undefined) return DEFAULT_STOP_GRACE_MS;
  return stopTimeoutS < 0 ? Number.POSITIVE_INFINITY : stopTimeoutS * 1000;
}

/** SwarmError conflict for a removal without force. */
export function mustBeStill(name: string, status: ContainerStatus): void {
  if (!['running', 'paused', 'restarting'].includes(status)) return;
  throw new SwarmError(
    'conflict',
    `cannot remove container "/${name}": container is ${status}: ` +
      (status === 'paused' ? 'unpause and ' : '') +
      'stop the container before removing or force remove',
  );
}

/** Of what does not run: Docker's words. */
export function cannotKill(name: string, id: string): SwarmError {
  return new SwarmError(
    'conflict',
    `cannot kill container: ${name}: container ${id} is not running`,
  );
}

/** A program that has ended by itself a moment ago needs none: what was wanted is so. */
export async function signalTo(container: Container, signal: string): Promise<void> {
  try {
    await container.kill(signal);
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
  }
}

/** Asks with `signal`, kills after `graceMs`; Infinity waits for ever. */
export async function stopWith(
  context: Pick<HostContext, 'clock'>,
  container: Container,
  signal: string,
  graceMs: number,
): Promise<void> {
  const own = container.config.stopSignal ?? 'SIGTERM';
  if (parseSignal(own) === parseSignal(signal) && Number.isFinite(graceMs)) {
    await container.stop(graceMs);
    return;
  }
  const send = (each: string): Promise<void> =>
    container.kill(each).catch((error: unknown) => {
      if (container.state === 'running') throw error;
    });
  await send(signal);
  if (!Number.isFinite(graceMs)) {
    await container.wait();
    return;
  }
  let timer: Timer | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = context.clock.afterIdle(graceMs, () => resolve('late'));
  });
  const first = await Promise.race([container.wait(), late]);
  timer?.cancel();
  // Not container.stop(0): its own stop signal would come before the end.
  if (first === 'late') {
    await send('SIGKILL');
    await container.wait();
  }
}

/** What a run takes and gives back, as events: its networks, at its end its volumes. */
export function emitRun(
  context: Pick<HostContext, 'events' | 'networks'>,
  record: Pick<ContainerRecord, 'id' | 'networks' | 'mounts'>,
  action: 'connect' | 'disconnect',
): void {
  const { events, networks } = context;
  for (const networkId of Object.keys(record.networks)) {
    const network = networks.find(networkId);
    const name = network?.name ?? networks.nameOf(networkId);
    const type = network?.driver ?? 'overlay';
    events.emit('network', action, networkId, { container: record.id, name, type });
  }
  if (action === 'connect') return;
  for (const { type, name } of record.mounts) {
    if (type !== 'volume') continue;
    events.emit('volume', 'unmount', name, { container: record.id, driver: 'local' });
  }
}

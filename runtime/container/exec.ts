/**
 * One exec: a further program in a running container, seen through the connection that asked for
 * it. States: asked -> started (execStarted) -> over (execExited, or the connection closed: the
 * container or its shim is gone, which counts as killed). It is never asked for twice.
 */
import { writeFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { withDeadline } from '../../base/queue.ts';
import { close, createMemfd } from '../sys/libc.ts';
import { KILLED_EXIT_CODE, SIGKILL } from './exitRecord.ts';
import { ShimClient, TYPE } from './shimClient.ts';
import { parseSignal } from './signals.ts';
import { openStreams } from './streams.ts';
import type { Exec, ExecConfig, Streams } from './types.ts';

/** Far beyond any start that will still succeed. */
const START_TIMEOUT_MS = 60_000;

export interface ExecPlace {
  readonly execDir: string;
  readonly clock: Clock;
  readonly shortId: string;
}

interface Outcome {
  readonly exitCode: number;
  /** '' when it was executed. */
  readonly error: string;
}

/** Resolves once it was executed; errors as Container.exec's. */
export async function startExec(
  place: ExecPlace,
  spec: Uint8Array,
  config: ExecConfig,
): Promise<Exec> {
  let tellStarted: (pid: number) => void = () => {};
  let tellOver: (outcome: Outcome) => void = () => {};
  const started = new Promise<number>((resolve) => {
    tellStarted = resolve;
  });
  const over = new Promise<Outcome>((resolve) => {
    tellOver = resolve;
  });
  const pipes = openStreams({ stdin: config.stdin, tty: config.tty, gate: over });
  const specFd = createMemfd('exec');
  try {
    writeFileSync(specFd, spec);
    const { client, done } = ShimClient.withDescriptors(
      place.execDir,
      place.clock,
      {
        state: () => {},
        exited: () => {},
        closed: () => tellOver({ exitCode: KILLED_EXIT_CODE, error: '' }),
        execStarted: tellStarted,
        execExited: (exitCode, error) => tellOver({ exitCode, error }),
      },
      [{ type: TYPE.exec, payload: pipes.payload, fds: [specFd, ...pipes.fds] }],
      `run a program in container ${place.shortId}`,
    );
    await done.catch((error: unknown) => {
      client.close();
      throw error;
    });
    const pid = await withDeadline(
      place.clock,
      START_TIMEOUT_MS,
      `a program in container ${place.shortId} to start`,
      Promise.race([started, over.then((outcome) => failure(outcome))]),
    ).catch((error: unknown) => {
      if (hasCode(error, 'timeout')) abandon(client);
      throw error;
    });
    return new RunningExec(pid, pipes.streams, client, over);
  } catch (error) {
    pipes.streams.close();
    if (hasCode(error, 'conflict')) throw isPaused(place.shortId, error);
    if (!hasCode(error, 'not_found')) throw error;
    throw new SwarmError('conflict', `container ${place.shortId} is not running`, { cause: error });
  } finally {
    close(specFd);
    pipes.handOver();
  }
}

export function isPaused(shortId: string, cause?: unknown): SwarmError {
  return new SwarmError('conflict', `container ${shortId} is paused, unpause it before exec`, {
    cause,
  });
}

/** It hangs, e.g. in a file system that does not answer. */
function abandon(client: ShimClient): void {
  client
    .kill(SIGKILL)
    .catch(() => {
      // it has just ended, or its shim hangs as well: nobody waits for either
    })
    .finally(() => client.close());
}

/** It ended before it was executed. */
function failure(outcome: Outcome): never {
  if (outcome.error === '') throw new SwarmError('not_found', 'the container has ended');
  const isProgram = outcome.exitCode === 126 || outcome.exitCode === 127;
  throw new SwarmError(isProgram ? 'invalid' : 'internal', outcome.error, {
    detail: { exitCode: String(outcome.exitCode) },
  });
}

class RunningExec implements Exec {
  readonly pid: number;
  readonly streams: Streams;
  readonly #client: ShimClient;
  readonly #over: Promise<Outcome>;

  constructor(pid: number, streams: Streams, client: ShimClient, over: Promise<Outcome>) {
    this.pid = pid;
    this.streams = streams;
    this.#client = client;
    this.#over = over;
  }

  async wait(): Promise<number> {
    const { exitCode } = await this.#over;
    await Promise.all([ended(this.streams.stdout), ended(this.streams.stderr)]);
    return exitCode;
  }

  async kill(signal: string): Promise<void> {
    await this.#client.kill(parseSignal(signal));
  }

  async resize(rows: number, columns: number): Promise<void> {
    await this.#client.resize(rows, columns);
  }
}

/** What nobody listens to is not waited for. */
async function ended(stream: Readable): Promise<void> {
  if (stream.readableFlowing === null || stream.readableEnded || stream.destroyed) return;
  await new Promise<void>((resolve) => {
    stream.once('end', resolve);
    stream.once('close', resolve);
  });
}

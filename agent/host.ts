/**
 * What every host answers to others, in model types: that it lives, whether it reaches another
 * host, and the logs of its tasks. The gRPC side is rpcHost.ts; authentication is before both.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { withDeadline } from '../base/queue.ts';
import type { TaskLogQuery, TaskLogRecord } from './controller.ts';

export interface ProbeRequest {
  readonly nodeId: string;
  /** host:port of its gRPC listener. */
  readonly address: string;
  readonly timeoutMs: number;
}

export interface HostOptions {
  readonly clock: Clock;
  readonly nodeId: string;
  /** Pings the host at `address`; resolves with the node id that answered. */
  readonly ping: (address: string, timeoutMs: number) => Promise<string>;
  readonly logs: (
    taskId: string,
    query: TaskLogQuery,
    signal: AbortSignal,
  ) => AsyncIterable<TaskLogRecord>;
}

const PROBE_MIN_MS = 50;
const PROBE_MAX_MS = 5000;
/** Records in one message, and those read ahead while one is sent. */
export const LOG_BATCH = 256;

export class Host {
  readonly #clock: Clock;
  readonly #nodeId: string;
  readonly #ping: HostOptions['ping'];
  readonly #logs: HostOptions['logs'];

  constructor(options: HostOptions) {
    this.#clock = options.clock;
    this.#nodeId = options.nodeId;
    this.#ping = options.ping;
    this.#logs = options.logs;
  }

  ping(): { readonly nodeId: string; readonly nowMs: number } {
    return { nodeId: this.#nodeId, nowMs: this.#clock.wallMs() };
  }

  /** Never rejects: that the other cannot be reached is the answer. */
  async probeOther(request: ProbeRequest): Promise<{ reachable: boolean; error: string }> {
    const timeoutMs = Math.min(PROBE_MAX_MS, Math.max(PROBE_MIN_MS, request.timeoutMs));
    try {
      const work = this.#ping(request.address, timeoutMs);
      const nodeId = await withDeadline(this.#clock, timeoutMs, `ping of ${request.address}`, work);
      if (request.nodeId === '' || nodeId === request.nodeId) return { reachable: true, error: '' };
      throw new SwarmError('not_found', `${request.address} is node ${nodeId} now`);
    } catch (error) {
      return { reachable: false, error: messageOf(error) };
    }
  }

  taskLogs(
    taskId: string,
    query: TaskLogQuery,
    signal: AbortSignal,
  ): AsyncIterable<readonly TaskLogRecord[]> {
    return batches(this.#logs(taskId, query, signal), LOG_BATCH);
  }
}

/** What came while the last batch was on its way goes as one; reads at most `limit` ahead. */
export async function* batches<T>(
  source: AsyncIterable<T>,
  limit: number,
): AsyncIterable<readonly T[]> {
  const iterator = source[Symbol.asyncIterator]();
  let ready: T[] = [];
  let ended = false;
  let failure: { readonly error: unknown } | undefined;
  let wake = (): void => {};
  const pump = (): void => {
    iterator.next().then(
      (next) => {
        if (next.done === true) ended = true;
        else ready.push(next.value);
        wake();
        if (!ended && ready.length < limit) pump();
      },
      (error: unknown) => {
        failure = { error };
        wake();
      },
    );
  };
  pump();
  try {
    for (;;) {
      if (ready.length === 0) {
        if (failure !== undefined) throw failure.error;
        if (ended) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const batch = ready;
      ready = [];
      if (batch.length >= limit && !ended && failure === undefined) pump();
      yield batch;
    }
  } finally {
    // Not waited for: a source that follows ends only when its own signal is aborted.
    iterator.return?.().catch(() => {}); // the reader has gone: nobody is left to tell
  }
}

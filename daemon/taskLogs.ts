/**
 * Logs of tasks wherever they run: one stream per task, from this host's agent or over gRPC from
 * the task's host, handed on as they come. Order holds within a task. A host that cannot be reached
 * ends its tasks' streams with an error only when nothing else is left to tell.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { View } from '../manager/store/types.ts';
import { client, type RpcChannel } from '../proto/rpc.ts';
import { Host } from '../proto/services.ts';
import type { TaskLogQuery, TaskLogRecord } from './types.ts';

/** Streams open at a time for one request. */
const MAX_TASKS = 500;
/** Records waiting for the reader before the streams are held back. */
const MAX_WAITING = 1024;

export interface TaskLogSources {
  readonly log: Log;
  readonly view: View;
  readonly ownNodeId: string;
  readonly own: (
    taskId: string,
    query: TaskLogQuery,
    signal: AbortSignal,
  ) => AsyncIterable<Omit<TaskLogRecord, 'taskId' | 'nodeId'>>;
  readonly channelTo: (address: string) => RpcChannel;
}

/** SwarmError exhausted for more than 500 tasks, unavailable when no host could be asked. */
export async function* readTaskLogs(
  sources: TaskLogSources,
  taskIds: readonly string[],
  query: TaskLogQuery,
  signal: AbortSignal,
  later?: AsyncIterable<string>,
): AsyncGenerator<TaskLogRecord, void, undefined> {
  if (taskIds.length > MAX_TASKS) {
    throw new SwarmError('exhausted', `logs of more than ${MAX_TASKS} tasks: name fewer`);
  }
  const waiting: TaskLogRecord[] = [];
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);
  let open = taskIds.length;
  let told = 0;
  const failures: string[] = [];
  let wake: () => void = () => {};
  let heldBack: (() => void)[] = [];
  const letGo = (): void => {
    const held = heldBack;
    heldBack = [];
    for (const resume of held) resume();
  };

  const pump = async (taskId: string, asked: TaskLogQuery): Promise<void> => {
    try {
      for await (const record of one(sources, taskId, asked, stop)) {
        waiting.push(record);
        told += 1;
        wake();
        if (waiting.length >= MAX_WAITING) {
          await new Promise<void>((resolve) => heldBack.push(resolve));
        }
        if (stop.aborted) break;
      }
    } catch (error) {
      if (!stop.aborted) {
        sources.log.info('task logs unavailable', { taskId, error: messageOf(error) });
        failures.push(messageOf(error));
      }
    } finally {
      open -= 1;
      wake();
    }
  };
  for (const taskId of taskIds) void pump(taskId, query);
  const addLater = async (ids: AsyncIterable<string>): Promise<void> => {
    try {
      for await (const taskId of ids) {
        if (open > MAX_TASKS) {
          sources.log.warn('too many tasks are followed; one more is left out', { taskId });
          continue;
        }
        open += 1;
        // All that it writes is new to this reader.
        void pump(taskId, { ...query, tail: -1 });
      }
    } catch (error) {
      sources.log.warn('new tasks are no longer followed', { error: messageOf(error) });
    } finally {
      open -= 1;
      wake();
    }
  };
  if (later !== undefined) {
    open += 1;
    void addLater(later);
  }
  const onAbort = (): void => wake();
  signal.addEventListener('abort', onAbort);
  try {
    while (!signal.aborted) {
      const record = waiting.shift();
      if (record !== undefined) {
        yield record;
        if (waiting.length === 0) letGo();
        continue;
      }
      if (open === 0) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    if (told === 0 && failures.length > 0 && failures.length === taskIds.length) {
      throw new SwarmError('unavailable', failures[0]);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    ended.abort();
    letGo();
  }
}

async function* one(
  sources: TaskLogSources,
  taskId: string,
  query: TaskLogQuery,
  signal: AbortSignal,
): AsyncGenerator<TaskLogRecord, void, undefined> {
  const task = sources.view.get('task', taskId);
  if (task === undefined) throw new SwarmError('not_found', `task ${taskId} not found`);
  const { nodeId } = task;
  if (nodeId === '') return;
  if (nodeId === sources.ownNodeId) {
    for await (const record of sources.own(taskId, query, signal)) {
      yield { ...record, taskId, nodeId };
    }
    return;
  }
  const node = sources.view.get('node', nodeId);
  if (node === undefined) return;
  const channel = sources.channelTo(`${node.address}:${node.port}`);
  try {
    const request = { ...query, taskId, tail: BigInt(query.tail) };
    for await (const batch of client(Host, channel).taskLogs(request, { signal })) {
      for (const record of batch.records) {
        const stream = record.stderr ? 'stderr' : 'stdout';
        yield { taskId, nodeId, timeNs: record.timeNs, stream, data: record.data };
      }
    }
  } finally {
    channel.close();
  }
}

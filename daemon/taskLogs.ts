/**
 * Logs of tasks wherever they run: one stream per task, from this host's agent or over gRPC from
 * the task's host, merged by time. A host that cannot be reached ends its tasks' streams with an
 * error only when nothing else is left to tell.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { View } from '../manager/store/types.ts';
import { client, type RpcChannel } from '../proto/rpc.ts';
import { Host } from '../proto/services.ts';
import { Merge } from './merge.ts';
import type { TaskLogQuery, TaskLogRecord } from './types.ts';

/** Streams open at a time for one request. */
const MAX_TASKS = 500;
/** A record waits so long for an older one of a host that has not answered yet... */
const HOLD_MS = 2000;
/** ...or, when what is written now is followed, for what other tasks wrote at the same time. */
const FOLLOW_HOLD_MS = 100;

export interface TaskLogSources {
  readonly clock: Clock;
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
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);
  const merge = new Merge<TaskLogRecord>(sources.clock, query.follow ? FOLLOW_HOLD_MS : HOLD_MS);
  const failures: string[] = [];
  let told = 0;

  const pump = async (taskId: string, asked: TaskLogQuery): Promise<void> => {
    const stream = merge.open();
    try {
      for await (const record of one(sources, taskId, asked, stop)) {
        told += 1;
        await stream.push(record);
        if (stop.aborted) break;
      }
    } catch (error) {
      if (!stop.aborted) {
        sources.log.info('task logs unavailable', { taskId, error: messageOf(error) });
        failures.push(messageOf(error));
      }
    } finally {
      stream.end();
    }
  };
  for (const taskId of taskIds) void pump(taskId, query);
  const addLater = async (ids: AsyncIterable<string>): Promise<void> => {
    const isMore = merge.keepOpen();
    try {
      for await (const taskId of ids) {
        if (merge.size > MAX_TASKS) {
          sources.log.warn('too many tasks are followed; one more is left out', { taskId });
          continue;
        }
        // All that it writes is new to this reader.
        void pump(taskId, { ...query, tail: -1 });
      }
    } catch (error) {
      sources.log.warn('new tasks are no longer followed', { error: messageOf(error) });
    } finally {
      isMore.end();
    }
  };
  if (later !== undefined) void addLater(later);
  try {
    yield* merge.read(signal);
    if (told === 0 && failures.length > 0 && failures.length === taskIds.length) {
      throw new SwarmError('unavailable', failures[0]);
    }
  } finally {
    ended.abort();
    merge.close();
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

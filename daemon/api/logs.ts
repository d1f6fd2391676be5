/**
 * Logs of tasks in Docker's wire form: frames of 8 bytes (stream, 0, 0, 0, length) and a line, or
 * the bare bytes when the service has a terminal. With `details` each line carries where it came
 * from, with `timestamps` its time; the order is Docker's: time, details, text.
 */
import { SwarmError } from '../../base/errors.ts';
import type { StoreEvent, StoreReader } from '../../manager/store/types.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task, TaskSpec } from '../../model/types.ts';
import type { TaskLogQuery, TaskLogRecord } from '../types.ts';
import { follow } from './follow.ts';
import { type ApiRequest, type Reply, STREAMED } from './http.ts';
import type { ApiParts } from './parts.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const FRAME_HEADER_BYTES = 8;
const NEWLINE = 0x0a;

/** Logs of one task. */
export function sendTaskLogs(request: ApiRequest, parts: ApiParts, task: Task): Promise<Reply> {
  const records = parts.node.taskLogs([task.id], logQuery(request), request.signal);
  return send(request, records, task.serviceId, task.spec);
}

/** Logs of a service's tasks; when followed, also of those that start meanwhile. */
export function sendServiceLogs(
  request: ApiRequest,
  parts: ApiParts,
  store: StoreReader,
  service: Service,
): Promise<Reply> {
  const query = logQuery(request);
  const { signal } = request;
  const tasks = [...store.tasksOfService(service.id)];
  const started = query.follow ? tasks.filter(hasStarted) : tasks;
  const later = query.follow
    ? startedLater(follow(store.watch(), parts.clock, signal), service.id)
    : undefined;
  const ids = started.map((task) => task.id);
  const records = parts.node.taskLogs(ids, query, signal, later);
  return send(request, records, service.id, service.spec.task);
}

function hasStarted(task: Task): boolean {
  return task.status.state >= TaskState.RUNNING;
}

async function* startedLater(
  events: AsyncIterable<StoreEvent>,
  serviceId: string,
): AsyncGenerator<string> {
  for await (const { table, before, after } of events) {
    if (table !== 'task' || after === undefined) continue;
    const task = after as Task;
    if (task.serviceId !== serviceId || !hasStarted(task)) continue;
    if (before === undefined || !hasStarted(before as Task)) yield task.id;
  }
}

async function send(
  request: ApiRequest,
  records: AsyncIterable<TaskLogRecord>,
  serviceId: string,
  spec: TaskSpec,
): Promise<Reply> {
  const { tty } = spec.container;
  const details = request.flag('details');
  const timestamps = request.flag('timestamps');
  const kind = tty ? 'raw' : 'multiplexed';
  const out = request.stream(`application/vnd.docker.${kind}-stream`);
  for await (const record of records) {
    const prefix =
      (timestamps ? `${timestamp(record.timeNs)} ` : '') +
      (details ? `${origin(record, serviceId)} ` : '');
    await out.write(tty ? line(prefix, record) : frame(prefix, record));
  }
  out.end();
  return STREAMED;
}

function logQuery(request: ApiRequest): TaskLogQuery {
  const stdout = request.flag('stdout');
  const stderr = request.flag('stderr');
  if (!stdout && !stderr) {
    throw new SwarmError('invalid', 'you must choose at least one stream: stdout or stderr');
  }
  if (!['', '0'].includes(request.text('until'))) {
    throw new SwarmError('unsupported', 'until is not supported for logs: use since and tail');
  }
  const tail = request.text('tail');
  if (!['', 'all'].includes(tail) && !/^\d+$/.test(tail)) {
    throw new SwarmError('invalid', `tail: "${tail}" is neither a number nor all`);
  }
  return {
    follow: request.flag('follow'),
    sinceNs: sinceNs(request.text('since')),
    tail: ['', 'all'].includes(tail) ? -1 : Number(tail),
    stdout,
    stderr,
  };
}

/** 'seconds[.nanoseconds]' or RFC 3339 -> Unix nanoseconds. */
function sinceNs(text: string): bigint {
  if (text === '') return 0n;
  const match = /^(\d+)(?:\.(\d{1,9}))?$/.exec(text);
  if (match !== null) {
    return BigInt(match[1]) * NANOSECONDS_PER_SECOND + BigInt((match[2] ?? '').padEnd(9, '0'));
  }
  const ms = Date.parse(text);
  if (!Number.isFinite(ms)) {
    throw new SwarmError('invalid', `since: "${text}" is no time: use Unix seconds or RFC 3339`);
  }
  return BigInt(ms) * 1_000_000n;
}

/** RFC 3339 with nine digits, as Docker's logs have it. */
function timestamp(timeNs: bigint): string {
  const seconds = Number(timeNs / NANOSECONDS_PER_SECOND);
  const fraction = String(timeNs % NANOSECONDS_PER_SECOND).padStart(9, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${fraction}Z`;
}

function origin(record: TaskLogRecord, serviceId: string): string {
  const attributes = {
    'com.docker.swarm.node.id': record.nodeId,
    'com.docker.swarm.service.id': serviceId,
    'com.docker.swarm.task.id': record.taskId,
  };
  return Object.entries(attributes)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join(',');
}

function line(prefix: string, record: TaskLogRecord): Buffer {
  const { data } = record;
  const ended = data.length > 0 && data[data.length - 1] === NEWLINE;
  const parts = [Buffer.from(prefix), data];
  if (!ended) parts.push(Buffer.of(NEWLINE));
  return Buffer.concat(parts);
}

function frame(prefix: string, record: TaskLogRecord): Buffer {
  const payload = line(prefix, record);
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header[0] = record.stream === 'stdout' ? 1 : 2;
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

/** service logs: the API's frames -> lines with the task they came from, as Docker prints them. */
import { SwarmError } from '../../base/errors.ts';
import { type Context, orUndefined } from '../context.ts';
import type { NodeJson, ServiceJson, TaskJson } from '../docker.ts';
import { timeText } from '../system.ts';
import { getService } from './write.ts';

export interface LogFlags {
  readonly follow?: boolean;
  readonly tail: string;
  readonly since?: string;
  readonly timestamps?: boolean;
  readonly raw?: boolean;
  readonly details?: boolean;
  readonly resolve: boolean;
  readonly taskIds: boolean;
  readonly trunc: boolean;
}

const FRAME_HEADER_BYTES = 8;
const STDERR = 2;
const ID_LENGTH = 12;

interface Found {
  readonly path: string;
  readonly service: ServiceJson;
}

/** A service by its name or id, else a task by its id. */
async function findTarget(context: Context, name: string): Promise<Found> {
  try {
    const service = await getService(context, name);
    return { path: `/services/${service.ID}/logs`, service };
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== 'not_found') throw error;
  }
  try {
    const task = await context.client.get<TaskJson>(`/tasks/${encodeURIComponent(name)}`);
    const service = await getService(context, task.ServiceID);
    return { path: `/tasks/${task.ID}/logs`, service };
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== 'not_found') throw error;
    throw new SwarmError('not_found', `no such task or service: ${name}`, { cause: error });
  }
}

export async function serviceLogs(context: Context, name: string, flags: LogFlags): Promise<void> {
  const { path, service } = await findTarget(context, name);
  const tty = service.Spec.TaskTemplate.ContainerSpec.TTY === true;
  const stream = await context.client.stream('GET', path, {
    query: {
      stdout: true,
      stderr: true,
      follow: flags.follow === true,
      tail: flags.tail,
      since: timeText(flags.since, context.clock.wallMs(), '--since'),
      timestamps: flags.timestamps === true,
      details: !tty,
    },
    signal: context.signal,
  });
  if (tty) {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      context.out.write(decoder.decode(chunk as Uint8Array, { stream: true }));
    }
    return;
  }
  const names = new Names(context, service, flags);
  for await (const { isError, bytes } of frames(stream)) {
    const text = bytes.toString('utf8');
    const line = flags.raw === true ? rawLine(text, flags) : await names.line(text);
    (isError ? context.err : context.out).write(line);
  }
}

/** The frames of a stream that carries standard output and error. */
export async function* frames(
  stream: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ isError: boolean; bytes: Buffer }> {
  let rest = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    while (rest.length >= FRAME_HEADER_BYTES) {
      const end = FRAME_HEADER_BYTES + rest.readUInt32BE(4);
      if (rest.length < end) break;
      yield { isError: rest[0] === STDERR, bytes: rest.subarray(FRAME_HEADER_BYTES, end) };
      rest = rest.subarray(end);
    }
  }
}

/** '[time ]details text' -> its parts. */
function parts(text: string, timestamps: boolean): { time: string; details: string; rest: string } {
  const first = timestamps ? text.indexOf(' ') : -1;
  const second = text.indexOf(' ', first + 1);
  return {
    time: first < 0 ? '' : text.slice(0, first),
    details: text.slice(first + 1, second),
    rest: text.slice(second + 1),
  };
}

function rawLine(text: string, flags: LogFlags): string {
  const { time, rest } = parts(text, flags.timestamps === true);
  return time === '' ? rest : `${time} ${rest}`;
}

/** Task and host names of lines, looked up once each. */
class Names {
  readonly #context: Context;
  readonly #service: ServiceJson;
  readonly #flags: LogFlags;
  readonly #prefixes = new Map<string, string>();

  constructor(context: Context, service: ServiceJson, flags: LogFlags) {
    this.#context = context;
    this.#service = service;
    this.#flags = flags;
  }

  async line(text: string): Promise<string> {
    const { time, details, rest } = parts(text, this.#flags.timestamps === true);
    let prefix = this.#prefixes.get(details);
    if (prefix === undefined) {
      prefix = await this.#prefix(details);
      this.#prefixes.set(details, prefix);
    }
    const extra = this.#flags.details === true ? `${details} ` : '';
    return `${time === '' ? '' : `${time} `}${prefix}    | ${extra}${rest}`;
  }

  async #prefix(details: string): Promise<string> {
    const fields = new URLSearchParams(details.replaceAll(',', '&'));
    const taskId = fields.get('com.docker.swarm.task.id') ?? '';
    const nodeId = fields.get('com.docker.swarm.node.id') ?? '';
    const shortId = this.#flags.trunc ? taskId.slice(0, ID_LENGTH) : taskId;
    if (!this.#flags.resolve) return `${shortId}@${nodeId}`;
    const task = await this.#get<TaskJson>(`/tasks/${taskId}`);
    const node = await this.#get<NodeJson>(`/nodes/${nodeId}`);
    const { Name, Mode } = this.#service.Spec;
    // The first slot of a job is 0, which the API leaves out.
    const name = `${Name}.${task?.Slot ?? (Mode?.ReplicatedJob === undefined ? nodeId : 0)}`;
    const id = this.#flags.taskIds ? `.${shortId}` : '';
    return `${name}${id}@${node?.Description.Hostname ?? nodeId}`;
  }

  /** undefined when it is gone meanwhile: its lines are still worth showing. */
  #get<T>(path: string): Promise<T | undefined> {
    return orUndefined(this.#context.client.get<T>(path));
  }
}

/**
 * Requests about containers of tasks that run on other hosts: carried to the API of the host as
 * they are (hijacked connections too), and its answer back. `/tsswarm/tasks/{task}/...` is put into
 * Docker's words first. It reads nothing of what it carries but the ids of execs, to know later
 * where they are. The other side of it is restrictedTo(): all that another manager may ask here.
 */
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { httpStatus, messageOf, SwarmError } from '../../base/errors.ts';
import type { DaemonNode, TaskHost } from '../types.ts';
import { refuse } from './refuse.ts';

/** Execs whose host is known; the oldest are forgotten. */
const EXECS_MAX = 10_000;
/** An answer to an exec's creation is an id and nothing else. */
const EXEC_ANSWER_BYTES = 64 * 1024;
const VERBS = 'json|top|stats|logs|archive|exec|attach|resize|changes|wait|export';
const CONTAINER = new RegExp(`^(/v\\d+\\.\\d+)?/containers/([^/]+)/(${VERBS}|attach/ws)$`);
/** What changes a container is for its own host. */
const CHANGES = 'start|stop|restart|kill|pause|unpause|update|rename';
const CHANGED = new RegExp(`^(?:/v\\d+\\.\\d+)?/containers/([^/]+)(?:/(?:${CHANGES}))?$`);
const EXEC = /^(?:\/v\d+\.\d+)?\/exec\/([^/]+)\/(?:start|resize|json)$/;
const TASK = new RegExp(`^(/v\\d+\\.\\d+)?/tsswarm/tasks/([^/]+)/(${VERBS})$`);
/** Of one connection only; the next one is ours to arrange. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding']);
/** How Docker's clients are told that output comes in frames. */
const FRAMED = 'application/vnd.docker.multiplexed-stream';
const STDERR_FRAME = 2;

export class RemoteTasks {
  readonly #node: DaemonNode;
  readonly #execs = new Map<string, TaskHost>();

  constructor(node: DaemonNode) {
    this.#node = node;
  }

  /** True: it is taken care of. False: it is for this host, perhaps by another path now. */
  async take(incoming: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const target = await this.#target(incoming);
    if (target === undefined) return false;
    if (response.closed) return true; // the caller has gone meanwhile
    if (target instanceof SwarmError) sendError(response, target);
    else this.#carry(target, incoming, response);
    return true;
  }

  /** As take(), of a request to take the connection over. */
  async takeUpgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<boolean> {
    const target = await this.#target(incoming);
    if (target === undefined) return false;
    if (socket.destroyed) return true;
    if (target instanceof SwarmError) refuse(socket, target);
    else this.#join(target, incoming, socket, head);
    return true;
  }

  /** The host that has what the request is about; undefined: this one. */
  async #target(incoming: IncomingMessage): Promise<TaskHost | SwarmError | undefined> {
    const [path, query] = splitUrl(incoming.url ?? '/');
    const { taskHosts } = this.#node;
    try {
      const task = TASK.exec(path);
      if (task !== null) {
        const host = await taskHosts.find(decodeURIComponent(task[2]));
        incoming.url = `${task[1] ?? ''}/containers/${host.containerId}/${task[3]}${query}`;
        return taskHosts.isOwn(host) ? undefined : host;
      }
      const exec = EXEC.exec(path);
      if (exec !== null) return this.#execs.get(exec[1]);
      const changed = CHANGED.exec(path);
      if (changed !== null) return await this.#notHere(decodeURIComponent(changed[1]));
      const container = CONTAINER.exec(path);
      if (container === null) return undefined;
      const host = await taskHosts.elsewhere(decodeURIComponent(container[2]));
      if (host === undefined) return undefined;
      incoming.url = `${container[1] ?? ''}/containers/${host.containerId}/${container[3]}${query}`;
      return host;
    } catch (error) {
      return error instanceof SwarmError ? error : new SwarmError('invalid', messageOf(error));
    }
  }

  /** It is a task's on another host: said so, rather than that there is none. */
  async #notHere(key: string): Promise<SwarmError | undefined> {
    const host = await this.#node.taskHosts.elsewhere(key);
    if (host === undefined) return undefined;
    return new SwarmError(
      'conflict',
      `container ${key} is one of a task on ${host.hostname}: only there it can be changed, and ` +
        'its service will replace it (to start its tasks anew: service update --force)',
    );
  }

  #carry(host: TaskHost, incoming: IncomingMessage, response: ServerResponse): void {
    const { url, method } = incoming;
    const makesExec = method === 'POST' && (url ?? '').split('?', 1)[0].endsWith('/exec');
    const connection = this.#node.taskHosts.connect(host);
    const asked = httpRequest({
      method,
      path: url,
      headers: headersOf(incoming.rawHeaders),
      createConnection: () => connection,
    });
    response.once('close', () => connection.destroy());
    asked.once('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, headersOf(answer.rawHeaders));
      response.flushHeaders();
      if (makesExec) this.#learn(host, answer);
      answer.once('error', () => response.destroy());
      answer.pipe(response);
    });
    asked.once('error', (error) => {
      if (response.headersSent) response.destroy();
      else sendError(response, explained(host, error));
    });
    incoming.pipe(asked);
  }

  /** Where the exec is that the answer names. */
  #learn(host: TaskHost, answer: IncomingMessage): void {
    const parts: Buffer[] = [];
    let size = 0;
    answer.on('data', (part: Buffer) => {
      size += part.length;
      if (size <= EXEC_ANSWER_BYTES) parts.push(part);
    });
    answer.once('end', () => {
      const [, id] = /"Id"\s*:\s*"([^"]+)"/.exec(Buffer.concat(parts).toString()) ?? [];
      if (answer.statusCode !== 201 || id === undefined) return;
      this.#execs.set(id, host);
      const [oldest] = this.#execs.keys();
      if (this.#execs.size > EXECS_MAX) this.#execs.delete(oldest);
    });
  }

  /** The two connections become one, half-closed as either side does it. */
  #join(host: TaskHost, incoming: IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = this.#node.taskHosts.connect(host);
    let heard = false;
    let framed = false;
    connection.once('data', (first: Buffer) => {
      heard = true;
      framed = first.toString('latin1').split('\r\n\r\n', 1)[0].includes(FRAMED);
    });
    connection.on('error', (error) => {
      const lost = explained(host, error);
      if (!heard) refuse(socket, lost);
      else if (framed) socket.end(stderrFrame(`tsswarm: ${lost.message}\n`));
      else socket.destroy();
    });
    socket.on('error', () => connection.destroy());
    socket.once('close', () => connection.destroy());
    connection.write(requestHead(incoming));
    if (head.length > 0) connection.write(head);
    connection.pipe(socket);
    socket.pipe(connection);
  }
}

/** What another manager may ask of this host: containers of its tasks, and execs in them. */
export function isForTasks(node: DaemonNode, url: string): boolean {
  const [path] = splitUrl(url);
  if (EXEC.test(path)) return true;
  const container = CONTAINER.exec(path);
  return container !== null && node.taskHosts.isTask(container[2]);
}

function sendError(response: ServerResponse, error: SwarmError): void {
  response.writeHead(httpStatus(error.code), { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify({ message: error.message })}\n`);
}

function explained(host: TaskHost, error: unknown): SwarmError {
  if (error instanceof SwarmError) return error;
  const what = `the connection to host ${host.hostname} broke: ${messageOf(error)}`;
  return new SwarmError('unavailable', what, { cause: error });
}

function splitUrl(url: string): [path: string, query: string] {
  const at = url.indexOf('?');
  return at < 0 ? [url, ''] : [url.slice(0, at), url.slice(at)];
}

/** Pairs as they came, without those of the connection; one connection carries one request. */
function headersOf(raw: readonly string[]): string[] {
  const headers: string[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    if (!HOP_BY_HOP.has(raw[at].toLowerCase())) headers.push(raw[at], raw[at + 1]);
  }
  return [...headers, 'Connection', 'close'];
}

function requestHead({ method, url, rawHeaders }: IncomingMessage): string {
  let head = `${method} ${url} HTTP/1.1\r\n`;
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    head += `${rawHeaders[at]}: ${rawHeaders[at + 1]}\r\n`;
  }
  return `${head}\r\n`;
}

function stderrFrame(text: string): Buffer {
  const body = Buffer.from(text);
  const head = Buffer.alloc(8);
  head[0] = STDERR_FRAME;
  head.writeUInt32BE(body.length, 4);
  return Buffer.concat([head, body]);
}

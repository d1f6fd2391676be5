/**
 * The Docker Engine API and tsswarm's extensions over HTTP, on unix sockets and TCP. It turns
 * requests into calls of one DaemonNode and errors into Docker's {"message": ...}; it decides
 * nothing.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { MIB } from '../../base/bytes.ts';
import { httpStatus, messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { Slices } from '../../base/slices.ts';
import type { ApiAddress } from '../apiAddresses.ts';
import { API_VERSION, MIN_API_VERSION } from './docker/info.ts';
import { controlOf } from './find.ts';
import { ApiRequest, type Reply, Router, STREAMED } from './http.ts';
import { listenTcp, listenUnix, tcpServer } from './listen.ts';
import { liveMessages } from './live.ts';
import type { ApiParts } from './parts.ts';
import { refuse } from './refuse.ts';
import { isForTasks, RemoteTasks } from './remote.ts';
import { addClusterRoutes } from './routes/cluster.ts';
import { addCommitRoutes } from './routes/commit.ts';
import { addContainerFileRoutes } from './routes/containerFiles.ts';
import { addContainerStreamRoutes } from './routes/containerStreams.ts';
import { addContainerRoutes } from './routes/containers.ts';
import { addDataRoutes } from './routes/data.ts';
import { addDiskUsageRoutes } from './routes/diskUsage.ts';
import { addExecRoutes } from './routes/exec.ts';
import { addImageRoutes } from './routes/images.ts';
import { addInsteadRoutes } from './routes/instead.ts';
import { addManagerRoutes } from './routes/managers.ts';
import { addMetricsRoutes, metricsServer } from './routes/metrics.ts';
import { addNetworkRoutes } from './routes/networks.ts';
import { addNodeRoutes } from './routes/nodes.ts';
import { addRecoveryRoutes } from './routes/recovery.ts';
import { addServiceRoutes } from './routes/services.ts';
import { addSwarmRoutes } from './routes/swarm.ts';
import { addSystemRoutes } from './routes/system.ts';
import { addTaskRoutes } from './routes/tasks.ts';
import { addVolumeRoutes } from './routes/volumes.ts';
import { Turns } from './turns.ts';
import { responseOn, UpgradedRequest } from './upgrade.ts';
import { WatchSockets } from './webSocket.ts';

/** Characters of an error's message. */
const MESSAGE_MAX = 4000;
/** Followed logs, events and watches count too; beyond it a connection is closed at once. */
const MAX_CONNECTIONS = 1024;
const DRAIN_LIMIT_BYTES = 256 * MIB;

export interface Api {
  /**
   * Serves on a unix socket owned by root and `group` when that group exists, else by root alone.
   * A socket nobody answers on is replaced; SwarmError conflict when somebody does.
   */
  listenUnix(path: string, options: { readonly group: string }): Promise<void>;
  /** Serves on TCP; the port. SwarmError unavailable when it cannot be had. */
  listenTcp(address: Extract<ApiAddress, { kind: 'tcp' }>): Promise<number>;
  /** Serves figures alone, in the clear; the port. SwarmError unavailable as above. */
  listenMetrics(host: string, port: number): Promise<number>;
  /** Serves a connection of another manager: what it may ask is about tasks of this host. */
  accept(connection: Duplex): void;
  /** Stops listening and ends what is under way. */
  close(): Promise<void>;
}

export function createApi(options: ApiParts): Api {
  const slices = new Slices(options.clock);
  const router = routerOf(options, slices);
  const servers: Server[] = [];
  const watchers = new WatchSockets(options, slices);
  const turns = new Turns();
  const remote = new RemoteTasks(options.node);
  const here = (incoming: IncomingMessage, response: ServerResponse): void => {
    void serve(router, options.log, incoming, response);
  };
  const listener = (incoming: IncomingMessage, response: ServerResponse): void => {
    turns.take(incoming, response, () => {
      void remote.take(incoming, response).then((isTaken) => {
        if (!isTaken) here(incoming, response);
      });
    });
  };
  const takeOver = async (
    incoming: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<void> => {
    // Whoever takes it listens too; meanwhile a client may go away.
    socket.on('error', () => socket.destroy());
    if (await remote.takeUpgrade(incoming, socket, head)) return;
    if (watchers.take(incoming, socket, head)) return;
    await serveUpgrade(router, options.log, incoming, socket, head);
  };
  const connections = new Set<Socket>();
  const prepare = (server: Server): void => {
    server.maxConnections = MAX_CONNECTIONS;
    // Node ends those that speak HTTP; one that shakes hands, or was taken over, is ended here.
    server.on('connection', (connection: Socket) => {
      connections.add(connection);
      connection.once('close', () => connections.delete(connection));
    });
    server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
      void takeOver(incoming, socket, head);
    });
  };
  const managers = createServer({ requestTimeout: 0 }, (incoming, response) => {
    if (isForTasks(options.node, incoming.url ?? '')) here(incoming, response);
    else void sendError(notForManagers(), options.log, incoming, response);
  });
  managers.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (!isForTasks(options.node, incoming.url ?? '')) refuse(socket, notForManagers());
    else void serveUpgrade(router, options.log, incoming, socket, head);
  });
  return {
    listenUnix: async (path, { group }) => {
      const server = createServer({ requestTimeout: 0 }, listener);
      prepare(server);
      await listenUnix(server, path, group);
      servers.push(server);
    },
    listenTcp: async (address) => {
      const server = tcpServer(address.tls, listener, options.log);
      prepare(server);
      const port = await listenTcp(server, address.host, address.port);
      servers.push(server);
      return port;
    },
    listenMetrics: async (host, port) => {
      const server = metricsServer(options.meter, options.log);
      const bound = await listenTcp(server, host, port);
      servers.push(server);
      return bound;
    },
    accept: (connection) => {
      // Any duplex stream will do, as its documentation says; its types ask for a socket.
      managers.emit('connection', connection as Socket);
    },
    close: async () => {
      watchers.close();
      managers.closeAllConnections();
      for (const server of servers.splice(0)) {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections();
        for (const connection of connections) connection.destroy();
        await closed;
      }
    },
  };
}

function notForManagers(): SwarmError {
  return new SwarmError('not_found', 'no such container of a task on this host');
}

function routerOf(parts: ApiParts, slices: Slices): Router {
  const router = new Router();
  addSystemRoutes(router, parts);
  addSwarmRoutes(router, parts);
  addNodeRoutes(router, parts);
  addRecoveryRoutes(router, parts);
  addServiceRoutes(router, parts, slices);
  addTaskRoutes(router, parts, slices);
  addClusterRoutes(router, parts, slices);
  addManagerRoutes(router, parts);
  addMetricsRoutes(router, parts);
  addContainerRoutes(router, parts);
  addContainerStreamRoutes(router, parts);
  addContainerFileRoutes(router, parts);
  addCommitRoutes(router, parts);
  addExecRoutes(router, parts);
  addVolumeRoutes(router, parts);
  addDiskUsageRoutes(router, parts);
  addInsteadRoutes(router);
  addNetworkRoutes(router, parts);
  addImageRoutes(router, parts);
  addDataRoutes(router, parts);
  router.get('/tsswarm/watch', async (request) => {
    const control = controlOf(parts.node);
    const out = request.stream('application/x-ndjson');
    const messages = liveMessages(parts.node, control, parts.clock, slices, request.signal);
    for await (const message of messages) await out.line(message);
    out.end();
    return STREAMED;
  });
  return router;
}

async function serve(
  router: Router,
  log: Log,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    send(response, await answer(router, incoming, response));
  } catch (error) {
    await sendError(error, log, incoming, response);
  }
}

async function answer(
  router: Router,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<Reply> {
  const { handler, path, query, params, minor } = routed(router, incoming);
  return await handler(new ApiRequest(incoming, response, path, query, params, minor));
}

function routed(router: Router, incoming: IncomingMessage) {
  const [rawPath, rawQuery = ''] = (incoming.url ?? '/').split('?', 2);
  if (rawQuery.includes('%00')) throw new SwarmError('invalid', 'the query holds a NUL character');
  const { path, minor } = withoutVersion(rawPath);
  const found = router.find(incoming.method ?? 'GET', path);
  if (found === undefined) throw new SwarmError('not_found', 'page not found');
  return { ...found, path, minor, query: new URLSearchParams(rawQuery) };
}

/** A request that asks for another protocol; one that does not get it is answered as any other. */
async function serveUpgrade(
  router: Router,
  log: Log,
  incoming: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const response = responseOn(incoming, socket);
  // A client that goes away in the middle is no error of ours; 'close' tells who has to know.
  socket.on('error', () => socket.destroy());
  if (head.length > 0) socket.unshift(head);
  let request: UpgradedRequest | undefined;
  try {
    const { handler, path, query, params, minor } = routed(router, incoming);
    request = new UpgradedRequest(incoming, response, socket, path, query, params, minor);
    const reply = await handler(request);
    if (!request.isTaken) send(response, reply);
  } catch (error) {
    if (request?.isTaken === true) socket.destroy();
    else sendFailure(error, log, incoming, response);
  }
}

function send(response: ServerResponse, reply: Reply): void {
  if (reply.kind === 'streamed') return;
  if (reply.kind === 'empty') {
    response.writeHead(reply.status, reply.status === 204 ? {} : { 'Content-Length': 0 });
    response.end();
    return;
  }
  sendJson(response, reply.status, reply.value);
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': body.length,
    'Api-Version': API_VERSION,
    Ostype: 'linux',
  });
  response.end(body);
}

async function sendError(
  error: unknown,
  log: Log,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // The caller has gone: nobody to tell, and nothing went wrong here.
  if (response.destroyed) return;
  if (!response.headersSent) await drained(incoming);
  if (!incoming.complete) response.shouldKeepAlive = false;
  sendFailure(error, log, incoming, response);
}

function sendFailure(
  error: unknown,
  log: Log,
  incoming: IncomingMessage,
  response: ServerResponse,
): void {
  const status = error instanceof SwarmError ? httpStatus(error.code) : 500;
  if (!(error instanceof SwarmError)) {
    const stack = error instanceof Error ? error.stack : undefined;
    log.error('request failed', { method: incoming.method, url: incoming.url, stack });
  }
  if (response.headersSent) {
    // A stream cannot change its status any more: a cut connection tells the reader.
    response.destroy();
    return;
  }
  sendJson(response, status, { message: brief(messageOf(error)) });
}

/**
 * Reads and drops the rest of a refused body, up to a bound: a client that is answered while it
 * sends often sees only a broken pipe.
 */
function drained(incoming: IncomingMessage): Promise<void> {
  if (incoming.complete || incoming.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= DRAIN_LIMIT_BYTES) return;
      incoming.pause();
      resolve();
    });
    for (const event of ['end', 'close', 'error']) incoming.once(event, () => resolve());
  });
}

/** What a caller sent comes back in messages: not all of it, where that is much. */
function brief(message: string): string {
  if (message.length <= MESSAGE_MAX) return message;
  return `${message.slice(0, MESSAGE_MAX / 2)} ... ${message.slice(-MESSAGE_MAX / 2)}`;
}

/** '/v1.43/info' -> '/info' and 43. SwarmError invalid, in Docker's words, for others. */
function withoutVersion(path: string): { readonly path: string; readonly minor: number } {
  const match = /^\/v(\d+)\.(\d+)(\/.*)$/.exec(path);
  if (match === null) return { path, minor: minorOf(API_VERSION) };
  const [, major, minor, rest] = match;
  const asked = `${major}.${minor}`;
  if (major !== '1' || Number(minor) > minorOf(API_VERSION)) {
    throw new SwarmError(
      'invalid',
      `client version ${asked} is too new. Maximum supported API version is ${API_VERSION}`,
    );
  }
  if (Number(minor) < minorOf(MIN_API_VERSION)) {
    throw new SwarmError(
      'invalid',
      `client version ${asked} is too old. Minimum supported API version is ${MIN_API_VERSION}, ` +
        'please upgrade your client to a newer version',
    );
  }
  return { path: rest, minor: Number(minor) };
}

function minorOf(version: string): number {
  return Number(version.slice(version.indexOf('.') + 1));
}

/** /_ping, /version, /info, /events, and /tsswarm/debug. */
import { SwarmError } from '../../../base/errors.ts';
import { API_VERSION, infoToDocker, swarmHeader, versionToDocker } from '../docker/info.ts';
import { EVENT_FILTERS, type EventQuery, eventsOf } from '../events.ts';
import { Filters } from '../filters.ts';
import { controlIfManager } from '../find.ts';
import { type ApiRequest, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';

export function addSystemRoutes(router: Router, parts: ApiParts): void {
  const { node, clock } = parts;
  router.get('/_ping', (request) => ping(request, parts));
  router.get('/version', async () => json(versionToDocker(node)));
  router.get('/info', async () => json(infoToDocker(node, clock)));
  router.get('/events', (request) => events(request, parts));
  router.get('/tsswarm/debug', async () => json(debug(parts)));
}

async function ping(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { response } = request;
  response.writeHead(200, {
    'Api-Version': API_VERSION,
    'Docker-Experimental': 'false',
    Ostype: 'linux',
    Server: `tsswarm/${parts.node.version} (linux)`,
    Swarm: swarmHeader(parts.node),
    'Cache-Control': 'no-cache, no-store, must-revalidate',
    Pragma: 'no-cache',
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': 2,
  });
  response.end(request.method === 'HEAD' ? undefined : 'OK');
  return STREAMED;
}

/** Unix seconds with a fraction, or RFC 3339 -> Unix ms; undefined when absent. */
function readTime(text: string, name: string): number | undefined {
  if (text === '') return undefined;
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (!Number.isFinite(ms)) {
    throw new SwarmError('invalid', `${name}: "${text}" is no time: use Unix seconds or RFC 3339`);
  }
  return ms;
}

async function events(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const sources = {
    store: controlIfManager(parts.node)?.store,
    local: parts.node.host.containers.events,
  };
  const query: EventQuery = {
    sinceMs: readTime(request.text('since'), 'since'),
    untilMs: readTime(request.text('until'), 'until'),
    filters: Filters.parse(request.query.get('filters'), EVENT_FILTERS),
  };
  const out = request.stream('application/json');
  for await (const event of eventsOf(sources, query, parts.clock, request.signal)) {
    await out.line(event);
  }
  out.end();
  return STREAMED;
}

/** Figures for a person who looks for what is wrong: memory, the store's sizes, Raft. */
function debug(parts: ApiParts): object {
  const store = controlIfManager(parts.node)?.store;
  return {
    memory: process.memoryUsage(),
    uptimeSeconds: process.uptime(),
    local: parts.node.local(),
    ...(store === undefined
      ? {}
      : {
          raft: parts.node.control().raftStatus(),
          store: {
            version: store.version,
            nodes: store.count('node'),
            services: store.count('service'),
            tasks: store.count('task'),
            networks: store.count('network'),
          },
        }),
  };
}

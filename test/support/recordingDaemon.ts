/**
 * A daemon that does nothing but write down what is asked of it: for comparing what the docker
 * client and tsswarm send for the same command. It answers as a manager of a swarm without any
 * object.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Recorded {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

export interface RecordingDaemon {
  readonly directory: string;
  readonly env: NodeJS.ProcessEnv;
  /** What was sent since the last call. */
  take(): Recorded[];
  close(): void;
}

/** `answers`: bodies for GET paths (without version and query) that are not empty lists. */
export async function recordingDaemon(
  answers: Readonly<Record<string, unknown>> = {},
): Promise<RecordingDaemon> {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-record-'));
  const socketPath = join(directory, 'd.sock');
  let recorded: Recorded[] = [];
  let ids = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const url = decodeURIComponent((request.url ?? '').replace(/^\/v[\d.]+/, ''));
      const [path, query = ''] = url.split('?');
      const text = Buffer.concat(chunks).toString('utf8');
      const body: unknown = text === '' ? undefined : JSON.parse(text);
      recorded.push({ method: request.method ?? '', path: url, body });
      response.setHeader('Api-Version', '1.50');
      response.setHeader('Ostype', 'linux');
      response.setHeader('Content-Type', 'application/json');
      ids += 1;
      const answer = answerFor(request.method ?? '', path, query, answers, ids);
      response.statusCode = answer.status;
      response.end(JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const host = `unix://${socketPath}`;
  return {
    directory,
    env: { ...process.env, DOCKER_HOST: host, TSSWARM_HOST: host, DOCKER_CONFIG: directory },
    take: () => {
      const all = recorded;
      recorded = [];
      return all;
    },
    close: () => {
      server.close();
      server.closeAllConnections();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

interface Item {
  readonly SecretName?: string;
  readonly ConfigName?: string;
  readonly Subnet?: string;
  readonly PublishedPort?: number;
  readonly TargetPort?: number;
}

/** Secrets, configs, subnets and ports of a range are sent in any order. */
function byFileName(left: unknown, right: unknown): number {
  const nameOf = (item: unknown): string => {
    const { SecretName, ConfigName, Subnet, PublishedPort, TargetPort } = (item ?? {}) as Item;
    const port = TargetPort === undefined ? '' : `${PublishedPort ?? ''} ${TargetPort}`;
    return SecretName ?? ConfigName ?? Subnet ?? port;
  };
  return nameOf(left) < nameOf(right) ? -1 : nameOf(left) > nameOf(right) ? 1 : 0;
}

/** Lists of texts that docker's client builds from a map, in any order. */
const UNORDERED = new Set(['Env', 'Constraints', 'Nameservers', 'Search', 'Options', 'Groups']);

function inOrder(key: string, item: unknown): unknown {
  return Array.isArray(item) && UNORDERED.has(key) ? [...item].sort() : item;
}

/** Without what says nothing: null, '', false, empty lists and maps. */
export function essence(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(essence).sort(byFileName);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value)
    .map(([key, item]) => [key, inOrder(key, essence(item))] as const)
    .filter(([, item]) => item !== undefined && item !== null && item !== '' && item !== false)
    .filter(([, item]) => typeof item !== 'object' || Object.keys(item as object).length > 0);
  return Object.fromEntries(kept.sort(([left], [right]) => (left < right ? -1 : 1)));
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

function answerFor(
  method: string,
  path: string,
  query: string,
  answers: Readonly<Record<string, unknown>>,
  id: number,
): Answer {
  if (Object.hasOwn(answers, path)) return { status: 200, body: answers[path] };
  if (path === '/_ping') return { status: 200, body: 'OK' };
  if (path === '/info') {
    const Swarm = { NodeID: 'n', LocalNodeState: 'active', ControlAvailable: true };
    return { status: 200, body: { ID: 'x', Swarm } };
  }
  if (path === '/version') return { status: 200, body: { ApiVersion: '1.50' } };
  if (method === 'POST') {
    const made = path.endsWith('/create');
    return made
      ? { status: 201, body: { ID: `id${id}`, Id: `id${id}` } }
      : { status: 200, body: {} };
  }
  // Secrets and configs are looked up by name: each that is asked for is there.
  const named = /^\/(secrets|configs)$/.test(path) ? /filters=(.*)/.exec(query)?.[1] : undefined;
  if (named !== undefined) {
    const name = (JSON.parse(named) as { name?: Record<string, boolean> | string[] }).name ?? {};
    const names = Array.isArray(name) ? name : Object.keys(name);
    return { status: 200, body: names.map((Name) => ({ ID: `of-${Name}`, Spec: { Name } })) };
  }
  if (/^\/(services|tasks|nodes|networks|secrets|configs)$/.test(path)) {
    return { status: 200, body: [] };
  }
  return { status: 404, body: { message: `no such object: ${path}` } };
}

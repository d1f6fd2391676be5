/**
 * The Docker API of a lab host over its socket, as a benchmark needs it: few calls, kept-alive
 * connections, and waiting for a service's replicas without loading the hosts by asking too often.
 */
import { Agent, request } from 'node:http';
import { SystemClock } from '../../base/clock.ts';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/until.ts';

export const clock = new SystemClock();
const POLL_MS = 5;
const API = '/v1.44';

const agents = new Map<string, Agent>();

function agentOf(socketPath: string): Agent {
  const found = agents.get(socketPath) ?? new Agent({ keepAlive: true, maxSockets: 4 });
  agents.set(socketPath, found);
  return found;
}

export function socketOf(host: string): string {
  return hostLayout(Number(host.slice(1))).socket;
}

/** JSON in and out; rejects with the API's message for a status of 400 or more. */
export function call<T>(
  host: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = 30_000,
): Promise<T> {
  return callAt(socketOf(host), method, `${API}${path}`, body, timeoutMs);
}

/** The same at any daemon's socket; `path` with the version. */
export function callAt<T>(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  timeoutMs = 30_000,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        socketPath,
        agent: agentOf(socketPath),
        method,
        path,
        timeout: timeoutMs,
        headers: { 'content-type': 'application/json' },
      },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on('data', (part: Buffer) => parts.push(part));
        answer.on('end', () => {
          const text = Buffer.concat(parts).toString();
          const value = text === '' ? undefined : JSON.parse(text);
          if ((answer.statusCode ?? 500) >= 400) reject(new Error(value?.message ?? text));
          else resolve(value as T);
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer`)));
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

export interface ApiTask {
  readonly ID: string;
  readonly NodeID: string;
  readonly Slot: number;
  readonly DesiredState: string;
  readonly Status: {
    readonly State: string;
    readonly ContainerStatus?: { readonly PID?: number };
  };
}

export function tasksOf(host: string, service: string): Promise<ApiTask[]> {
  const filters = encodeURIComponent(
    JSON.stringify({ service: [service], 'desired-state': ['running'] }),
  );
  return call(host, 'GET', `/tasks?filters=${filters}`);
}

/** The tasks of the service that run and should, as `host` sees them. */
export async function runningTasks(host: string, service: string): Promise<ApiTask[]> {
  return (await tasksOf(host, service)).filter((task) => task.Status.State === 'running');
}

export interface ServiceRequest {
  readonly name: string;
  readonly replicas: number;
  readonly image: string;
  readonly args?: readonly string[];
  readonly constraints?: readonly string[];
}

/** Creates a replicated service without a network and with restart delay 0; its id. */
export async function createService(host: string, wanted: ServiceRequest): Promise<string> {
  const made = await call<{ ID: string }>(host, 'POST', '/services/create', {
    Name: wanted.name,
    TaskTemplate: {
      ContainerSpec: { Image: wanted.image, Args: wanted.args ?? [] },
      RestartPolicy: { Condition: 'any', Delay: 0 },
      Placement: { Constraints: wanted.constraints ?? [] },
      Networks: [{ Target: 'none' }],
    },
    Mode: { Replicated: { Replicas: wanted.replicas } },
  });
  return made.ID;
}

export function poll<T>(
  what: string,
  timeoutMs: number,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  return until(what, timeoutMs, ask, POLL_MS);
}

/** Removes a service and waits until its tasks are gone. */
export async function removeService(host: string, id: string): Promise<void> {
  await call(host, 'DELETE', `/services/${id}`);
  const filters = encodeURIComponent(JSON.stringify({ service: [id] }));
  await poll('tasks gone', 60_000, async () => {
    const left = await call<ApiTask[]>(host, 'GET', `/tasks?filters=${filters}`);
    return left.length === 0 ? true : undefined;
  });
}

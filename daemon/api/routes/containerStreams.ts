/** What flows out of containers: attach, logs, stats; and looks inside: top, changes, resize. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { hasCode, messageOf, SwarmError } from '../../../base/errors.ts';
import type { DetailedStats } from '../../../runtime/container/types.ts';
import type { Managed } from '../../containers/managed.ts';
import { sendContainerLogs, writeLogs } from '../containerLogs.ts';
import { emptyStats, statsToDocker } from '../docker/containerStats.ts';
import { type ApiRequest, empty, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import {
  headTaken,
  joinStreams,
  MULTIPLEXED_STREAM,
  parseDetachKeys,
  RAW_STREAM,
} from '../streams.ts';
import { found } from './containers.ts';

const run = promisify(execFile);
const STATS_PERIOD_MS = 1000;
const PS_TIMEOUT_MS = 10_000;

export function addContainerStreamRoutes(router: Router, parts: ApiParts): void {
  router.post('/containers/{id}/attach', (request) => attach(request, parts));
  router.get('/containers/{id}/attach/ws', async () => {
    throw new SwarmError('unsupported', 'attach over WebSocket is not supported: use /attach');
  });
  router.get('/containers/{id}/logs', (request) =>
    sendContainerLogs(request, found(parts, request).container),
  );
  router.get('/containers/{id}/stats', (request) => stats(request, parts));
  router.get('/containers/{id}/top', (request) => top(request, parts));
  router.get('/containers/{id}/changes', async (request) => {
    const changes = await found(parts, request).container.changes();
    const kinds = { modified: 0, added: 1, deleted: 2 };
    const out = changes.map(({ path, kind }) => ({ Path: path, Kind: kinds[kind] }));
    return json(out.length === 0 ? null : out);
  });
  router.post('/containers/{id}/resize', async (request) => {
    const { rows, columns } = sizeOf(request);
    await found(parts, request).container.resize(rows, columns);
    return empty();
  });
}

/** ?h=rows&w=columns */
export function sizeOf(request: ApiRequest): { readonly rows: number; readonly columns: number } {
  const [rows, columns] = [Number(request.text('h')), Number(request.text('w'))];
  if (Number.isSafeInteger(rows) && Number.isSafeInteger(columns) && rows >= 0 && columns >= 0) {
    return { rows, columns };
  }
  throw new SwarmError('invalid', 'resize: h and w must be whole numbers');
}

async function attach(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const managed = found(parts, request);
  const { container } = managed;
  const { tty = false, openStdin = false } = container.config;
  const detachKeys = parseDetachKeys(request.text('detachKeys'));
  const options = {
    tty,
    stdin: request.flag('stdin') && openStdin,
    stdout: request.flag('stdout'),
    stderr: request.flag('stderr'),
    detachKeys,
  };
  if (container.paused) {
    throw new SwarmError(
      'conflict',
      `container ${managed.name} is paused, unpause the container before attach`,
    );
  }
  const isStreamed = request.flag('stream');
  const streams = isStreamed ? await managed.attach({ stdin: options.stdin }) : undefined;
  const connection = request.takeConnection(tty ? RAW_STREAM : MULTIPLEXED_STREAM);
  try {
    await headTaken(request, parts.clock);
    if (request.flag('logs')) await writeLogs(connection.output, container, options);
  } catch (error) {
    streams?.close();
    throw error;
  }
  if (streams === undefined) {
    connection.output.end();
    connection.input.resume();
    return STREAMED;
  }
  const how = await joinStreams(connection, streams, options);
  if (how === 'detached') {
    const { name, labels, image } = container.config;
    const attributes = { ...labels, name, image: image.reference };
    parts.node.host.containers.events.emit('container', 'detach', managed.id, attributes);
  }
  return STREAMED;
}

async function stats(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const managed = found(parts, request);
  const stream = request.text('stream') === '' || request.flag('stream');
  if (!stream) {
    const before = await sample(managed);
    if (before === undefined) return json(emptyStats(managed.id, managed.name));
    if (request.flag('one-shot')) {
      return json(statsToDocker(managed.id, managed.name, before, undefined));
    }
    await parts.clock.sleep(STATS_PERIOD_MS);
    const now = (await sample(managed)) ?? before;
    return json(statsToDocker(managed.id, managed.name, now, before));
  }
  const out = request.stream('application/json');
  let before: DetailedStats | undefined;
  while (!request.signal.aborted) {
    const now = await sample(managed);
    if (now === undefined && ['removing', 'dead'].includes(managed.view().status)) break;
    await out.line(
      now === undefined
        ? emptyStats(managed.id, managed.name)
        : statsToDocker(managed.id, managed.name, now, before),
    );
    before = now;
    await parts.clock.sleep(STATS_PERIOD_MS);
    if (isGone(managed, parts)) break;
  }
  out.end();
  return STREAMED;
}

function isGone(managed: Managed, parts: ApiParts): boolean {
  try {
    parts.node.host.containers.find(managed.id);
    return false;
  } catch (error) {
    if (hasCode(error, 'not_found')) return true;
    throw error;
  }
}

async function sample(managed: Managed): Promise<DetailedStats | undefined> {
  if (managed.container.state !== 'running') return undefined;
  try {
    return await managed.container.detailedStats();
  } catch (error) {
    // It ended in the moment.
    if (managed.container.state !== 'running') return undefined;
    throw error;
  }
}

async function top(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { container, name } = found(parts, request);
  if (container.state !== 'running') {
    throw new SwarmError('conflict', `container ${name} is not running`);
  }
  const args = (request.text('ps_args') || '-ef').split(/\s+/).filter((word) => word !== '');
  const pids = new Set((await container.processes()).map(String));
  const { stdout } = await ps(args);
  const [head = '', ...lines] = stdout.split('\n').filter((line) => line !== '');
  const titles = head.trim().split(/\s+/);
  const pidAt = titles.indexOf('PID');
  if (pidAt < 0) throw new SwarmError('invalid', "Couldn't find PID field in ps output");
  const processes = lines
    .map((line) => {
      const words = line.trim().split(/\s+/);
      // The last column is the command: it may have spaces.
      return [...words.slice(0, titles.length - 1), words.slice(titles.length - 1).join(' ')];
    })
    .filter((words) => pids.has(words[pidAt]));
  return json({ Titles: titles, Processes: processes });
}

async function ps(args: readonly string[]): Promise<{ readonly stdout: string }> {
  try {
    return await run('ps', [...args], { timeout: PS_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 });
  } catch (error) {
    throw new SwarmError('invalid', `error running ps: ${messageOf(error)}`, { cause: error });
  }
}

/** Files of containers: archives in both directions (docker cp), the whole root (docker export). */
import { Readable } from 'node:stream';
import { SwarmError } from '../../../base/errors.ts';
import type { FileStat } from '../../../runtime/container/types.ts';
import { type ApiRequest, empty, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { room } from '../streams.ts';
import { found } from './containers.ts';

const STAT_HEADER = 'X-Docker-Container-Path-Stat';
const TAR = 'application/x-tar';

export function addContainerFileRoutes(router: Router, parts: ApiParts): void {
  router.get('/containers/{id}/archive', (request) => readArchive(request, parts));
  router.add('PUT', '/containers/{id}/archive', (request) => writeArchive(request, parts));
  router.get('/containers/{id}/export', (request) => exportRoot(request, parts));
}

function pathOf(request: ApiRequest): string {
  const path = request.text('path');
  if (path !== '') return path;
  throw new SwarmError('invalid', "missing parameter 'path'");
}

async function readArchive(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { container } = found(parts, request);
  const path = pathOf(request);
  const { response } = request;
  if (request.method === 'HEAD') {
    response.writeHead(200, { [STAT_HEADER]: statHeader(await container.statPath(path)) });
    response.end();
    return STREAMED;
  }
  const { stat, tar } = await container.readArchive(path);
  response.writeHead(200, { 'Content-Type': TAR, [STAT_HEADER]: statHeader(stat) });
  await send(request, tar);
  return STREAMED;
}

/** Go's os.FileMode keeps the kind of a file in bits of its own. */
const GO_MODES: readonly (readonly [number, number])[] = [
  [0o040000, 0x80000000], // directory
  [0o120000, 0x08000000], // symbolic link
  [0o060000, 0x04000000], // block device
  [0o010000, 0x02000000], // pipe
  [0o140000, 0x01000000], // socket
  [0o020000, 0x04200000], // character device
];
const KIND_MASK = 0o170000;

function statHeader(stat: FileStat): string {
  const kind = GO_MODES.find(([posix]) => (stat.mode & KIND_MASK) === posix)?.[1] ?? 0;
  const special =
    ((stat.mode & 0o4000) !== 0 ? 0x00800000 : 0) +
    ((stat.mode & 0o2000) !== 0 ? 0x00400000 : 0) +
    ((stat.mode & 0o1000) !== 0 ? 0x00100000 : 0);
  const json = {
    name: stat.name,
    size: stat.sizeBytes,
    mode: kind + special + (stat.mode & 0o777),
    mtime: new Date(stat.modifiedAtMs).toISOString(),
    linkTarget: stat.linkTarget,
  };
  return Buffer.from(JSON.stringify(json)).toString('base64');
}

async function send(request: ApiRequest, tar: Readable): Promise<void> {
  const { response, signal } = request;
  signal.addEventListener('abort', () => tar.destroy(), { once: true });
  // It may have gone while the first file was looked for.
  if (signal.aborted) tar.destroy();
  for await (const chunk of tar) {
    if (!response.write(chunk)) await room(response);
  }
  response.end();
}

async function writeArchive(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const managed = found(parts, request);
  const path = pathOf(request);
  const body = Readable.from(request.upload(), { objectMode: false });
  await managed.container.writeArchive(path, body, {
    noOverwriteDirNonDir: request.flag('noOverwriteDirNonDir'),
    copyUidGid: request.flag('copyUIDGID'),
  });
  return empty();
}

async function exportRoot(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { container } = found(parts, request);
  request.response.writeHead(200, { 'Content-Type': TAR });
  await send(request, container.exportRoot());
  return STREAMED;
}

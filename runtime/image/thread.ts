/**
 * The worker thread of jobs.ts: takes archives apart into files with their digests, and unpacks
 * layers. Everything it makes lies in the directory the job names, which the main thread moves into
 * place or removes; so killing the process at any point leaves only leftovers there.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { check, define } from '../sys/libc.ts';
import { decompress } from './compression.ts';
import { diskError } from './disk.ts';
import type {
  Ingested,
  IngestedFile,
  IngestJob,
  Job,
  JobResult,
  LayerFacts,
  Order,
  Report,
  UnpackJob,
} from './jobs.ts';
import { readTar } from './tar.ts';
import { cleanName, LayerUnpacker } from './unpack.ts';

/** An uncompressed layer; beyond it, a bomb. */
const MAX_LAYER_BYTES = 256 * 1024 ** 3;
/** Files of an image archive: layers, configurations, manifests. */
const MAX_ARCHIVE_FILES = 20_000;
const READ_BYTES = 512 * 1024;
const PROGRESS_BYTES = 4 * 1024 * 1024;

const syncfs = define<(fd: number) => number>('', 'int syncfs(int fd)');

interface Feed {
  readonly chunks: (Uint8Array | null)[];
  failure: string | undefined;
  wake: () => void;
}

assert(parentPort !== null, 'thread.ts runs as a worker thread only');
const port = parentPort;
const feeds = new Map<number, Feed>();

function report(message: Report): void {
  port.postMessage(message);
}

port.on('message', (order: Order) => {
  if ('job' in order) {
    if (order.job.kind === 'ingest') {
      feeds.set(order.id, { chunks: [], failure: undefined, wake: () => {} });
    }
    void run(order.id, order.job);
    return;
  }
  const feed = feeds.get(order.id);
  if (feed === undefined) return; // the job has failed and said so
  if ('failed' in order) feed.failure = order.failed;
  else feed.chunks.push(order.chunk);
  feed.wake();
});

async function run(id: number, job: Job): Promise<void> {
  try {
    report({ id, result: await resultOf(id, job) });
  } catch (error) {
    const told = diskError(error, job.directory);
    const code = told instanceof SwarmError ? told.code : 'internal';
    report({ id, error: { code, message: messageOf(told) } });
  } finally {
    feeds.delete(id);
  }
}

function resultOf(id: number, job: Job): Promise<JobResult> {
  switch (job.kind) {
    case 'unpack':
      return unpack(id, job);
    case 'ingest':
      return ingest(id, job);
    case 'sync':
      syncFileSystem(job.directory);
      return Promise.resolve(true);
  }
}

function syncFileSystem(directory: string): void {
  const fd = fs.openSync(directory, 'r');
  try {
    check(syncfs(fd), `write ${directory} to disk`);
  } finally {
    fs.closeSync(fd);
  }
}

async function* fed(id: number): AsyncGenerator<Uint8Array> {
  const feed = feeds.get(id);
  assert(feed !== undefined, 'an ingest job without its feed');
  for (;;) {
    if (feed.failure !== undefined) throw new SwarmError('invalid', feed.failure);
    const chunk = feed.chunks.shift();
    if (chunk === null) return;
    if (chunk !== undefined) {
      report({ id, taken: true });
      yield chunk;
      continue;
    }
    await new Promise<void>((resolve) => {
      feed.wake = resolve;
    });
  }
}

async function unpack(id: number, job: UnpackJob): Promise<LayerFacts> {
  const root = `${job.directory}/fs`;
  fs.mkdirSync(root, { recursive: true, mode: 0o755 });
  fs.chmodSync(root, 0o755);
  const hash = createHash('sha256');
  let totalBytes = 0;
  async function* source(): AsyncGenerator<Uint8Array> {
    for await (const chunk of decompress(counted(id, job.blobPath))) {
      totalBytes += chunk.byteLength;
      if (totalBytes > MAX_LAYER_BYTES) {
        throw new SwarmError('exhausted', 'a layer of more than 256 GiB: refused');
      }
      hash.update(chunk);
      yield chunk;
    }
  }
  const unpacker = new LayerUnpacker(root);
  for await (const entry of readTar(source())) await unpacker.add(entry);
  const found = `sha256:${hash.digest('hex')}`;
  if (found !== job.diffId) {
    throw new SwarmError(
      'corrupt',
      `a layer does not have the content its image promises (${found} instead of ${job.diffId})`,
    );
  }
  unpacker.finish();
  const facts: LayerFacts = {
    diffId: job.diffId,
    sizeBytes: unpacker.sizeBytes,
    newestMs: unpacker.newestMs,
    opaqueRoot: unpacker.opaqueRoot,
  };
  fs.writeFileSync(`${job.directory}/layer.json`, JSON.stringify(facts));
  if (job.durable) syncFileSystem(job.directory);
  return facts;
}

async function* counted(id: number, path: string): AsyncGenerator<Uint8Array> {
  let doneBytes = 0;
  let toldBytes = 0;
  const fd = fs.openSync(path, 'r');
  try {
    for (;;) {
      // Read here and now: on a busy host each way to another thread and back costs a turn.
      const chunk = Buffer.allocUnsafeSlow(READ_BYTES);
      const bytes = fs.readSync(fd, chunk, 0, READ_BYTES, null);
      if (bytes === 0) return;
      yield chunk.subarray(0, bytes);
      doneBytes += bytes;
      if (doneBytes - toldBytes < PROGRESS_BYTES) continue;
      toldBytes = doneBytes;
      report({ id, currentBytes: doneBytes });
    }
  } finally {
    fs.closeSync(fd);
  }
}

async function ingest(id: number, job: IngestJob): Promise<Ingested> {
  const source = decompress(fed(id));
  const files: IngestedFile[] = [];
  if (job.as === 'raw') {
    files.push(await writeFile('', `${job.directory}/0`, source));
    return { files, links: [] };
  }
  const links: [string, string][] = [];
  for await (const entry of readTar(source)) {
    const { header } = entry;
    const name = cleanName(header.name).join('/');
    if (files.length + links.length >= MAX_ARCHIVE_FILES) {
      throw new SwarmError('invalid', `an image archive of more than ${MAX_ARCHIVE_FILES} files`);
    }
    if (header.type === 'file') {
      files.push(await writeFile(name, `${job.directory}/${files.length}`, entry.body));
    } else if (header.type === 'link') {
      links.push([name, cleanName(header.linkName).join('/')]);
    } else if (header.type === 'symlink') {
      // Old `docker save` writes a layer it wrote before as '../<id>/layer.tar'.
      const folder = name.includes('/') ? name.slice(0, name.lastIndexOf('/')) : '';
      links.push([name, cleanName(`${folder}/${header.linkName}`).join('/')]);
    }
  }
  return { files, links };
}

async function writeFile(
  name: string,
  path: string,
  source: AsyncIterable<Uint8Array>,
): Promise<IngestedFile> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const fd = fs.openSync(path, 'wx', 0o600);
  try {
    for await (const chunk of source) {
      hash.update(chunk);
      for (let at = 0; at < chunk.byteLength; ) {
        at += fs.writeSync(fd, chunk, at, chunk.byteLength - at);
      }
      sizeBytes += chunk.byteLength;
    }
  } finally {
    fs.closeSync(fd);
  }
  return { name, path, digest: `sha256:${hash.digest('hex')}`, sizeBytes };
}

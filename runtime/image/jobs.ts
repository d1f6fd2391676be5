/**
 * The heavy work of images (decompressing, hashing archives, unpacking layers) in worker threads,
 * so that the daemon's loop never waits for it. A few, started when needed and ended after a while
 * of idleness; each unpacks one layer at a time. This is the main thread's side; thread.ts is the
 * other. It decides nothing about images.
 */
import { Worker } from 'node:worker_threads';
import { assert } from '../../base/assert.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { type ErrorCode, isErrorCode, messageOf, SwarmError } from '../../base/errors.ts';

export interface UnpackJob {
  readonly kind: 'unpack';
  readonly blobPath: string;
  /** Must be the digest of the uncompressed bytes. */
  readonly diffId: string;
  /** Made by the job: gets fs/ and layer.json. */
  readonly directory: string;
  /** Whether it is on disk when the job is done; else a `sync` has to follow. */
  readonly durable: boolean;
}

/** Brings all that was written to the file system of `directory` to its disk. */
export interface SyncJob {
  readonly kind: 'sync';
  readonly directory: string;
}

export interface LayerFacts {
  readonly diffId: string;
  readonly sizeBytes: number;
  readonly newestMs: number;
  /** Hides all layers below. */
  readonly opaqueRoot: boolean;
}

/** Takes the stream apart: an archive into its files, or ('raw') the uncompressed stream itself. */
export interface IngestJob {
  readonly kind: 'ingest';
  readonly as: 'archive' | 'raw';
  /** An existing directory of its own; files are named 0, 1, 2, ... */
  readonly directory: string;
}

export interface IngestedFile {
  /** In the archive, cleaned ('a/b'); '' for raw. */
  readonly name: string;
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface Ingested {
  readonly files: readonly IngestedFile[];
  /** Name -> name, of links within the archive. */
  readonly links: readonly (readonly [string, string])[];
}

export type Job = UnpackJob | IngestJob | SyncJob;

export type JobResult = LayerFacts | Ingested | true;

/** Main to thread. */
export type Order =
  | { readonly id: number; readonly job: Job }
  | { readonly id: number; readonly chunk: Uint8Array | null }
  | { readonly id: number; readonly failed: string };

/** Thread to main. */
export type Report =
  | { readonly id: number; readonly result: JobResult }
  | { readonly id: number; readonly error: { readonly code: string; readonly message: string } }
  | { readonly id: number; readonly taken: true }
  | { readonly id: number; readonly currentBytes: number };

/** Chunks under way to the thread, so that a fast sender does not fill the memory. */
export const CHUNKS_UNDER_WAY = 8;
const MAX_CHUNK_BYTES = 1024 * 1024;
const IDLE_MS = 5000;
const MAX_WAITING = 1000;
const THREAD_HEAP_MIB = 256;
/** What is made for each piece of data is gone with it: a collection then has little to do. */
const THREAD_YOUNG_MIB = 48;
/** As many as layers come at once: on few processors they still use each other's waits. */
const THREADS = 3;

interface Pending {
  resolve(result: JobResult): void;
  reject(error: unknown): void;
  onProgress: (currentBytes: number) => void;
  taken: () => void;
}

/** One worker thread and what it has to do. */
class Thread {
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #idle: Timer | undefined;
  #lastId = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get load(): number {
    return this.#pending.size;
  }

  start(
    job: Job,
    onProgress: (currentBytes: number) => void,
    taken: () => void = () => {},
  ): { id: number; done: Promise<JobResult> } {
    this.#lastId += 1;
    const id = this.#lastId;
    const done = new Promise<JobResult>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress, taken });
    });
    this.#idle?.cancel();
    this.#worker ??= this.#spawn();
    this.#worker.ref();
    this.send({ id, job });
    return { id, done };
  }

  send(order: Order, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker?.postMessage(order, transfer); // without a thread the job has failed already
  }

  #spawn(): Worker {
    const worker = new Worker(new URL('./thread.js', import.meta.url), {
      name: 'images',
      execArgv: [],
      resourceLimits: {
        maxOldGenerationSizeMb: THREAD_HEAP_MIB,
        maxYoungGenerationSizeMb: THREAD_YOUNG_MIB,
      },
    });
    worker.on('message', (report: Report) => this.#take(report));
    const lost = (why: string): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#failAll(new SwarmError('internal', `the image thread ended: ${why}`));
    };
    worker.on('error', (error) => lost(messageOf(error)));
    worker.on('exit', (code) => lost(`exit code ${code}`));
    return worker;
  }

  #take(report: Report): void {
    const pending = this.#pending.get(report.id);
    if (pending === undefined) return; // a chunk taken after its job has failed
    if ('taken' in report) {
      pending.taken();
    } else if ('currentBytes' in report) {
      pending.onProgress(report.currentBytes);
    } else {
      this.#pending.delete(report.id);
      if ('result' in report) pending.resolve(report.result);
      else pending.reject(errorOf(report.error));
      this.#restWhenIdle();
    }
  }

  #restWhenIdle(): void {
    if (this.#pending.size > 0) return;
    const worker = this.#worker;
    worker?.unref();
    this.#idle?.cancel();
    this.#idle = this.#clock.afterIdle(IDLE_MS, () => {
      assert(this.#pending.size === 0, 'the image thread is ended while it works');
      this.#worker = undefined;
      void worker?.terminate();
    });
  }

  #failAll(error: SwarmError): void {
    for (const [id, pending] of [...this.#pending]) {
      this.#pending.delete(id);
      pending.reject(error);
    }
  }

  /** Ends the thread; what runs fails as cancelled. */
  async close(): Promise<void> {
    this.#idle?.cancel();
    const worker = this.#worker;
    this.#worker = undefined;
    this.#failAll(new SwarmError('cancelled', 'the image store was closed'));
    await worker?.terminate();
  }
}

export class Jobs {
  readonly #threads: readonly Thread[];
  /** Threads that unpack nothing, and those who wait for one. */
  readonly #free: Thread[];
  readonly #waiting: ((thread: Thread) => void)[] = [];

  constructor(clock: Clock) {
    this.#threads = Array.from({ length: THREADS }, () => new Thread(clock));
    this.#free = [...this.#threads];
  }

  async unpack(job: UnpackJob, onProgress: (currentBytes: number) => void): Promise<LayerFacts> {
    const thread = await this.#claim();
    try {
      return (await thread.start(job, onProgress).done) as LayerFacts;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(thread);
      else next(thread);
    }
  }

  #claim(): Promise<Thread> {
    const free = this.#free.shift();
    if (free !== undefined) return Promise.resolve(free);
    if (this.#waiting.length >= MAX_WAITING) {
      const why = `more than ${MAX_WAITING} layers are waiting to be unpacked; try later`;
      return Promise.reject(new SwarmError('exhausted', why));
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async sync(directory: string): Promise<void> {
    await this.#leastBusy().start({ kind: 'sync', directory }, () => {}).done;
  }

  /** Feeds `source` to the thread. Errors of `source` pass through unchanged. */
  async ingest(job: IngestJob, source: AsyncIterable<Uint8Array>): Promise<Ingested> {
    let underWay = 0;
    let wake = (): void => {};
    let over = false;
    const taken = (): void => {
      underWay -= 1;
      wake();
    };
    const thread = this.#leastBusy();
    const { id, done } = thread.start(job, () => {}, taken);
    done.then(
      () => {},
      () => {
        over = true;
        wake();
      },
    );
    let failure: { readonly error: unknown } | undefined;
    try {
      for await (const chunk of pieces(source)) {
        while (underWay >= CHUNKS_UNDER_WAY && !over) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        if (over) break;
        underWay += 1;
        // A copy of exactly these bytes: cloning would take the whole buffer they are part of.
        const copy = new Uint8Array(chunk);
        thread.send({ id, chunk: copy }, [copy.buffer]);
      }
      if (!over) thread.send({ id, chunk: null });
    } catch (error) {
      failure = { error };
      if (!over) thread.send({ id, failed: messageOf(error) });
    }
    try {
      return (await done) as Ingested;
    } catch (error) {
      throw failure === undefined ? error : failure.error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  #leastBusy(): Thread {
    return this.#threads.reduce((best, thread) => (thread.load < best.load ? thread : best));
  }
}

async function* pieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength; at += MAX_CHUNK_BYTES) {
      yield chunk.subarray(at, at + MAX_CHUNK_BYTES);
    }
  }
}

function errorOf(error: { readonly code: string; readonly message: string }): SwarmError {
  const code: ErrorCode = isErrorCode(error.code) ? error.code : 'internal';
  return new SwarmError(code, error.message);
}

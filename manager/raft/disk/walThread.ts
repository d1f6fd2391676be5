/**
 * The log's own thread: writes one batch at a time and says when it is durable, so that no sync
 * ever holds up the main thread. Batches that find no room wait here until a `retry` finds some.
 * Any other error is reported as fatal and nothing more is written. Talks to wal.ts only.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../../../base/assert.ts';
import { SystemClock } from '../../../base/clock.ts';
import { messageOf } from '../../../base/errors.ts';
import { type Random, SystemRandom } from '../../../base/random.ts';
import { type Files, hostFiles } from './files.ts';
import { SegmentWriter, type WriterBatch, type WriterStart } from './segmentWriter.ts';
import { LineEnd, type LineStart } from './threadLine.ts';

export type ThreadRequest =
  | { readonly kind: 'write'; readonly batch: WriterBatch }
  | { readonly kind: 'retry' }
  | { readonly kind: 'purge'; readonly index: number }
  | { readonly kind: 'rekey'; readonly key: Uint8Array }
  | { readonly kind: 'close' };

export type ThreadReply =
  | { readonly kind: 'written'; readonly tookMs: number; readonly roomBytes: number }
  | { readonly kind: 'space'; readonly full: boolean; readonly roomBytes: number }
  /** After a purge or a new key: see SegmentWriter.staleUntil. */
  | { readonly kind: 'purged' | 'rekeyed'; readonly staleUntil: number | undefined }
  | { readonly kind: 'fatal'; readonly message: string }
  | { readonly kind: 'closed' };

/** This thread's end of the way to wal.ts. */
export interface ThreadPort {
  postMessage(reply: ThreadReply): void;
  on(event: 'message', listener: (request: ThreadRequest) => void): unknown;
  /** What goes on between requests. */
  until?(work: Promise<void>): void;
  /** The thread ends when it has nothing else to do. */
  close(): void;
}

if (parentPort !== null) {
  const clock = new SystemClock();
  const nowMs = (): number => clock.nowMs();
  const { start, memory } = workerData as LineStart;
  serve(new LineEnd(parentPort, memory), start, hostFiles, new SystemRandom(), nowMs);
}

/** `nowMs`: only to tell how long writes take. */
export function serve(
  port: ThreadPort,
  start: WriterStart,
  files: Files,
  random: Random,
  nowMs: () => number = () => 0,
): void {
  const writer = new SegmentWriter(start, random, files);
  let waiting: WriterBatch | undefined;
  let failed = false;
  const reply = (message: ThreadReply): void => port.postMessage(message);
  const fail = (error: unknown): void => {
    failed = true;
    reply({ kind: 'fatal', message: messageOf(error) });
  };
  const wantSpare = (): void => {
    if (writer.spareReady) return;
    const making = writer.makeSpare().then((made) => {
      if (failed) return;
      reply({ kind: 'space', full: !made, roomBytes: writer.roomBytes });
      if (made) attempt(writeWaiting);
    }, fail);
    port.until?.(making);
  };
  const writeWaiting = (): void => {
    if (waiting === undefined || failed) return;
    if (writer.fits(waiting)) {
      const startedMs = nowMs();
      writer.write(waiting);
      waiting = undefined;
      const tookMs = nowMs() - startedMs;
      reply({ kind: 'written', tookMs, roomBytes: writer.roomBytes });
    }
    wantSpare();
  };
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      fail(error);
    }
  };
  port.on('message', (request: ThreadRequest) => {
    if (failed) return;
    switch (request.kind) {
      case 'write':
        assert(waiting === undefined, 'wal: two batches at once');
        waiting = request.batch;
        attempt(writeWaiting);
        break;
      case 'retry':
        wantSpare();
        break;
      case 'purge':
        attempt(() => {
          writer.purge(request.index);
          reply({ kind: 'purged', staleUntil: writer.staleUntil });
          wantSpare();
        });
        break;
      case 'rekey':
        writer.rekey(request.key);
        reply({ kind: 'rekeyed', staleUntil: writer.staleUntil });
        break;
      case 'close': {
        const closing = writer.close().then(() => {
          reply({ kind: 'closed' });
          port.close();
        }, fail);
        port.until?.(closing);
        break;
      }
    }
  });
  wantSpare();
}

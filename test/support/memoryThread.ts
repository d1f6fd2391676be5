/**
 * The log's writer on files in memory, in this thread: requests and replies pass between turns of
 * the event loop, as between threads. Nothing of it is ever lost.
 */
import { EventEmitter } from 'node:events';
import { SystemRandom } from '../../base/random.ts';
import type { Files } from '../../manager/raft/disk/files.ts';
import type { StartThread } from '../../manager/raft/disk/wal.ts';
import { serve } from '../../manager/raft/disk/walThread.ts';

export function threadOn(files: Files): StartThread {
  return (start) => {
    const outside = new EventEmitter();
    const inside = new EventEmitter();
    const exit = async (): Promise<void> => {
      setImmediate(() => outside.emit('exit'));
    };
    const port = {
      postMessage: (reply: unknown) => setImmediate(() => outside.emit('message', reply)),
      on: (event: string, listener: (request: never) => void) =>
        inside.on(event, listener as () => void),
      close: () => void exit(),
    };
    serve(port, start, files, new SystemRandom());
    return {
      postMessage: (request) => setImmediate(() => inside.emit('message', request)),
      on: (event: string, listener: (value: never) => void) =>
        outside.on(event, listener as () => void),
      terminate: exit,
    };
  };
}

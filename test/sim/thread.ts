/**
 * The log's thread in the simulation: the production's serve() on the simulated files, in the same
 * process, with messages that arrive later. It dies with its process.
 */
import type { StartThread, WalThread } from '../../manager/raft/disk/wal.ts';
import {
  serve,
  type ThreadPort,
  type ThreadReply,
  type ThreadRequest,
} from '../../manager/raft/disk/walThread.ts';
import type { SimDisk } from './disk.ts';
import type { SimProcess } from './process.ts';
import type { Dice } from './schedule.ts';

/** One way between the threads: in order, each message some time later. */
class Lane<T> {
  readonly #process: SimProcess;
  #lastMs = 0;
  listener: (message: T) => void = () => {};

  constructor(process: SimProcess) {
    this.#process = process;
  }

  send(message: T, delayMs: number): void {
    const { schedule } = this.#process;
    this.#lastMs = Math.max(this.#lastMs, schedule.nowMs + delayMs);
    schedule.at(this.#lastMs, this.#process, () => this.listener(message));
  }
}

/** What a hand-over between threads takes. */
const HAND_OVER_MS = 0.02;

export function threadStarter(process: SimProcess, disk: SimDisk, dice: Dice): StartThread {
  return (start): WalThread => {
    const requests = new Lane<ThreadRequest>(process);
    const replies = new Lane<ThreadReply>(process);
    const ended = new Lane<undefined>(process);
    const port: ThreadPort = {
      postMessage: (reply) => replies.send(reply, HAND_OVER_MS),
      on: (_event, listener) => {
        requests.listener = listener;
      },
      close: () => ended.send(undefined, 2 * HAND_OVER_MS),
    };
    serve(port, start, disk.filesFor(process), dice);
    return {
      postMessage: (request) => requests.send(request, HAND_OVER_MS + disk.faults.delayMs()),
      on: (event: string, listener: (value: never) => void) => {
        if (event === 'message') replies.listener = listener as (reply: ThreadReply) => void;
        if (event === 'exit') ended.listener = listener as () => void;
      },
      terminate: () => {
        requests.listener = () => {};
        replies.listener = () => {};
        ended.send(undefined, HAND_OVER_MS);
        return Promise.resolve();
      },
    };
  };
}

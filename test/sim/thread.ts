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
  /** Under way. */
  size = 0;
  listener: (message: T) => void = () => {};

  constructor(process: SimProcess) {
    this.#process = process;
  }

  send(message: T, delayMs: number): void {
    const { schedule } = this.#process;
    this.#lastMs = Math.max(this.#lastMs, schedule.nowMs + delayMs);
    this.size += 1;
    schedule.at(this.#lastMs, this.#process, () => {
      this.size -= 1;
      this.listener(message);
    });
  }
}

/** What a hand-over between threads takes. */
const HAND_OVER_MS = 0.02;
/** Of the batches that are asked for so: as often the answer comes while the log waits for it. */
const ANSWERED_AT_ONCE = 3;

export function threadStarter(process: SimProcess, disk: SimDisk, dice: Dice): StartThread {
  return (start): WalThread => {
    const requests = new Lane<ThreadRequest>(process);
    const replies = new Lane<ThreadReply>(process);
    const ended = new Lane<undefined>(process);
    let asked = 0;
    /** Of the batch that is waited for. */
    let answers: ThreadReply[] | undefined;
    const port: ThreadPort = {
      postMessage: (reply) => {
        if (answers === undefined) replies.send(reply, HAND_OVER_MS);
        else answers.push(reply);
      },
      on: (_event, listener) => {
        requests.listener = listener;
      },
      close: () => ended.send(undefined, 2 * HAND_OVER_MS),
    };
    serve(port, start, disk.filesFor(process), dice);
    return {
      postMessage: (request) => requests.send(request, HAND_OVER_MS + disk.faults.delayMs()),
      ask: (request, _transfer, patienceMs) => {
        asked += 1;
        const delayMs = disk.faults.delayMs();
        const isBusy = requests.size > 0 || replies.size > 0 || delayMs > patienceMs;
        if (isBusy || asked % ANSWERED_AT_ONCE !== 0) {
          requests.send(request, HAND_OVER_MS + delayMs);
          return undefined;
        }
        answers = [];
        requests.listener(request);
        // It may have died in the sync, and hears nothing then.
        process.requireAlive();
        const given = answers;
        answers = undefined;
        if (given.length === 1 && given[0].kind === 'written') return given[0];
        for (const reply of given) replies.send(reply, HAND_OVER_MS);
        return undefined;
      },
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

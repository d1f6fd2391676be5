/**
 * The line between the log and its thread, both ends. A thread that has nothing to do sleeps on
 * shared memory instead of in its event loop: a batch is laid there and a wake-up is all it costs,
 * a third of what a message between threads does. Who can wait a moment for the answer gets it the
 * same way. What is large, or asked of a thread that is about something else, goes as a message.
 * Requests keep their order; of answers, one in the memory may pass one that is a message. It knows
 * nothing of what it carries but the form of a batch.
 *
 * STATE is looping -> asleep (park, in the thread) -> looping (a message was posted) or called (a
 * batch was laid down) -> asleep or looping (the batch is done). Only the thread falls asleep.
 * ANSWER is none -> awaited (ask) -> given (the thread's answer is in the memory) or none (it goes,
 * or went, as a message).
 */
import { type MessagePort, Worker, type WorkerOptions } from 'node:worker_threads';
import { KIB } from '../../../base/bytes.ts';
import type { WriterBatch, WriterStart } from './segmentWriter.ts';
import type { WalThread } from './wal.ts';
import type { ThreadPort, ThreadReply, ThreadRequest } from './walThread.ts';

/** Larger batches are rare, and a message carries those without a copy. */
const MEMORY_BYTES = 64 * KIB;
/** Words of the memory's head: the states, messages posted and taken, the batch's parts. */
const STATE = 0;
const POSTED = 1;
const TAKEN = 2;
const HEAD_BYTES = 3;
const BODY_BYTES = 4;
const ANSWER = 5;
const WORDS = 6;
/** After the words what exceeds one: of a batch, and of an answer. */
const MAX_INDEX = 0;
const TOOK_MS = 1;
const ROOM_BYTES = 2;
const FLOATS = 3;
const CONTENT_AT = WORDS * 4 + FLOATS * 8;

const LOOPING = 0;
const ASLEEP = 1;
const CALLED = 2;

const NONE = 0;
const AWAITED = 1;
const GIVEN = 2;

type Written = ThreadReply & { readonly kind: 'written' };

class LineMemory {
  readonly words: Int32Array;
  readonly #floats: Float64Array;
  readonly #content: Uint8Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, WORDS);
    this.#floats = new Float64Array(buffer, WORDS * 4, FLOATS);
    this.#content = new Uint8Array(buffer, CONTENT_AT);
  }

  /** False: it is too large. */
  lay({ head, body, maxIndex }: WriterBatch): boolean {
    if (head.length + body.length > this.#content.length) return false;
    this.#content.set(head);
    this.#content.set(body, head.length);
    this.words[HEAD_BYTES] = head.length;
    this.words[BODY_BYTES] = body.length;
    this.#floats[MAX_INDEX] = maxIndex;
    return true;
  }

  /** A copy of its own. */
  take(): WriterBatch {
    const bodyAt = this.words[HEAD_BYTES];
    const end = bodyAt + this.words[BODY_BYTES];
    const head = this.#content.slice(0, bodyAt);
    return { head, body: this.#content.slice(bodyAt, end), maxIndex: this.#floats[MAX_INDEX] };
  }

  /** In the thread: whether the answer was still awaited. */
  give({ tookMs, roomBytes }: Written): boolean {
    this.#floats[TOOK_MS] = tookMs;
    this.#floats[ROOM_BYTES] = roomBytes;
    if (Atomics.compareExchange(this.words, ANSWER, AWAITED, GIVEN) !== AWAITED) return false;
    Atomics.notify(this.words, ANSWER);
    return true;
  }

  /** Outside: the answer where it comes in time; otherwise it comes as a message. */
  awaited(patienceMs: number): Written | undefined {
    Atomics.wait(this.words, ANSWER, AWAITED, patienceMs);
    if (Atomics.exchange(this.words, ANSWER, NONE) !== GIVEN) return undefined;
    const [tookMs, roomBytes] = [this.#floats[TOOK_MS], this.#floats[ROOM_BYTES]];
    return { kind: 'written', tookMs, roomBytes };
  }
}

export interface LineStart {
  readonly start: WriterStart;
  readonly memory: SharedArrayBuffer;
}

export function makeLineMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(CONTENT_AT + MEMORY_BYTES);
}

/** The log's end: a Worker that runs `file`, whose workerData is a LineStart. */
export function startOnLine(
  file: URL,
  start: WriterStart,
  options: WorkerOptions,
  memory = makeLineMemory(),
): WalThread {
  const line = new LineMemory(memory);
  const { words } = line;
  const workerData: LineStart = { start, memory };
  const worker = new Worker(file, { ...options, workerData });
  /** Whether it sleeps, with no message under way that goes first. */
  const isAsleep = (): boolean =>
    Atomics.load(words, STATE) === ASLEEP &&
    Atomics.load(words, TAKEN) === Atomics.load(words, POSTED);
  const wake = (state: number): boolean => {
    // It may have found a message by itself meanwhile.
    if (Atomics.compareExchange(words, STATE, ASLEEP, state) !== ASLEEP) return false;
    Atomics.notify(words, STATE);
    return true;
  };
  const call = (request: ThreadRequest, answer: number): boolean => {
    if (request.kind !== 'write' || !isAsleep() || !line.lay(request.batch)) return false;
    Atomics.store(words, ANSWER, answer);
    return wake(CALLED);
  };
  const post = (request: ThreadRequest, transfer: ArrayBuffer[]): void => {
    // Counted first: a thread that falls asleep just now looks at the count before it does.
    Atomics.add(words, POSTED, 1);
    worker.postMessage(request, transfer);
    wake(LOOPING);
  };
  return {
    postMessage: (request: ThreadRequest, transfer: ArrayBuffer[]) => {
      if (!call(request, NONE)) post(request, transfer);
    },
    ask: (request: ThreadRequest, transfer: ArrayBuffer[], patienceMs: number) => {
      if (call(request, AWAITED)) return line.awaited(patienceMs);
      Atomics.store(words, ANSWER, NONE);
      post(request, transfer);
      return undefined;
    },
    on: (event: string, listener: (value: never) => void) =>
      worker.on(event, listener as () => void),
    terminate: () => worker.terminate(),
  };
}

/** The thread's end. */
export class LineEnd implements ThreadPort {
  readonly #port: MessagePort;
  readonly #line: LineMemory;
  #listener: (request: ThreadRequest) => void = () => {};
  /** Works under way that need the event loop. */
  #works = 0;
  /** Answers of a batch, until the other side may lay down the next. */
  #held: ThreadReply[] | undefined;

  constructor(port: MessagePort, memory: SharedArrayBuffer) {
    this.#port = port;
    this.#line = new LineMemory(memory);
  }

  on(_event: 'message', listener: (request: ThreadRequest) => void): void {
    this.#listener = listener;
    this.#port.on('message', (request: ThreadRequest) => {
      Atomics.add(this.#line.words, TAKEN, 1);
      listener(request);
      this.#park();
    });
  }

  postMessage(reply: ThreadReply): void {
    if (this.#held === undefined) this.#port.postMessage(reply);
    else this.#held.push(reply);
  }

  until(work: Promise<void>): void {
    this.#works += 1;
    void work.then(() => {
      this.#works -= 1;
      this.#park();
    });
  }

  close(): void {
    this.#works += 1;
    this.#port.close();
  }

  /** Sleeps, and does what it is called for, until there is something for the event loop. */
  #park(): void {
    const { words } = this.#line;
    while (this.#works === 0) {
      Atomics.store(words, STATE, ASLEEP);
      this.#answer();
      if (Atomics.load(words, POSTED) === Atomics.load(words, TAKEN)) {
        // A wake-up may come late: that of a batch which was seen and done before it.
        while (Atomics.load(words, STATE) === ASLEEP) Atomics.wait(words, STATE, ASLEEP);
      } else {
        // Unless it was called just now: that came first.
        Atomics.compareExchange(words, STATE, ASLEEP, LOOPING);
      }
      if (Atomics.load(words, STATE) !== CALLED) return;
      this.#held = [];
      this.#listener({ kind: 'write', batch: this.#line.take() });
    }
    Atomics.store(words, STATE, LOOPING);
    this.#answer();
  }

  #answer(): void {
    const replies = this.#held;
    if (replies === undefined) return;
    this.#held = undefined;
    const [first] = replies;
    if (replies.length === 1 && first.kind === 'written' && this.#line.give(first)) return;
    // Who waits for more than this, or for another answer, need not wait on.
    const { words } = this.#line;
    if (Atomics.compareExchange(words, ANSWER, AWAITED, NONE) === AWAITED) {
      Atomics.notify(words, ANSWER);
    }
    for (const reply of replies) this.#port.postMessage(reply);
  }
}

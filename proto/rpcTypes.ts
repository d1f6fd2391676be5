/**
 * The shapes of calls, derived from a service's descriptor: what a handler gets and gives, what a
 * caller gets and gives, and the queue that incoming messages wait in. No gRPC library in here.
 */
import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import type { PeerIdentity } from './credentials.ts';

/** What every generated service descriptor is; `DescService` itself wants untyped methods. */
export type ServiceDescriptor = Omit<DescService, 'method'> & {
  readonly method: Record<string, DescMethod>;
};

export interface MethodName {
  /** Full name, e.g. 'tsswarm.v1.Dispatcher'. */
  readonly service: string;
  /** As in the proto file, e.g. 'Heartbeat'. */
  readonly method: string;
}

/** What a handler knows of its call. */
export interface CallContext {
  /** undefined only where the authorizer lets callers without a certificate pass. */
  readonly peer: PeerIdentity | undefined;
  /** Aborted when the caller goes away or cancels. */
  readonly signal: AbortSignal;
  /** Without port. */
  readonly remoteAddress: string;
}

/** Resolves when there is room for more; rejects ('cancelled') once the caller is gone. */
export type Send<Out> = (message: Out) => Promise<void>;

type Input<M> = M extends { input: infer I extends DescMessage } ? MessageShape<I> : never;
type InputInit<M> = M extends { input: infer I extends DescMessage } ? MessageInitShape<I> : never;
type Output<M> = M extends { output: infer O extends DescMessage } ? MessageShape<O> : never;
type OutputInit<M> = M extends { output: infer O extends DescMessage }
  ? MessageInitShape<O>
  : never;

type Handler<M> = M extends { methodKind: 'unary' }
  ? (request: Input<M>, context: CallContext) => Promise<OutputInit<M>>
  : M extends { methodKind: 'server_streaming' }
    ? (request: Input<M>, send: Send<OutputInit<M>>, context: CallContext) => Promise<void>
    : M extends { methodKind: 'bidi_streaming' }
      ? (
          requests: AsyncIterable<Input<M>>,
          send: Send<OutputInit<M>>,
          context: CallContext,
        ) => Promise<void>
      : never;

/** Some or all methods of a service; those left out answer 'unsupported'. */
export type Handlers<S extends ServiceDescriptor> = {
  readonly [K in keyof S['method']]?: Handler<S['method'][K]>;
};

export interface CallOptions {
  /** Bound of a unary call (default 10 s); of a stream only when given. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Messages from the other side; ends when it ended well, throws SwarmError otherwise. */
export interface Incoming<In> extends AsyncIterable<In> {
  cancel(): void;
}

export interface Conversation<Out, In> extends Incoming<In> {
  send(message: Out): Promise<void>;
  /** No more messages from here. */
  end(): void;
}

type Caller<M> = M extends { methodKind: 'unary' }
  ? (request: InputInit<M>, options?: CallOptions) => Promise<Output<M>>
  : M extends { methodKind: 'server_streaming' }
    ? (request: InputInit<M>, options?: CallOptions) => Incoming<Output<M>>
    : M extends { methodKind: 'bidi_streaming' }
      ? (options?: CallOptions) => Conversation<InputInit<M>, Output<M>>
      : never;

/** A service as its callers see it. */
export type Client<S extends ServiceDescriptor> = {
  readonly [K in keyof S['method']]: Caller<S['method'][K]>;
};

/** What a queue of incoming messages holds back and lets go on. */
export interface FlowControl {
  pause(): void;
  resume(): void;
}

/** Messages waiting for their reader before the sender is held back. */
const QUEUE_HIGH_WATER = 32;

/** Incoming messages between a library's events and one `for await` reader. */
export class MessageQueue<In> {
  readonly #flow: FlowControl;
  #messages: In[] = [];
  #paused = false;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(flow: FlowControl) {
    this.#flow = flow;
  }

  push(message: In): void {
    this.#messages.push(message);
    if (!this.#paused && this.#messages.length >= QUEUE_HIGH_WATER) {
      this.#paused = true;
      this.#flow.pause();
    }
    this.#wake?.();
  }

  /** No more messages; `error` is thrown to the reader after the ones that wait. First one wins. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  async *read(onLeave: () => void): AsyncGenerator<In, void, undefined> {
    try {
      for (;;) {
        const batch = this.#messages;
        this.#messages = [];
        if (this.#paused) {
          this.#paused = false;
          this.#flow.resume();
        }
        yield* batch;
        if (this.#messages.length > 0) continue;
        if (this.#ended) {
          if (this.#error !== undefined) throw this.#error;
          return;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      onLeave();
    }
  }
}

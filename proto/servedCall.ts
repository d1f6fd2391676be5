/**
 * What a handler knows of its call. What few handlers ask for is made when they ask, as most calls
 * are short and many: a signal and its listeners cost a leader 5 % of its time. No gRPC library in
 * here.
 */
import type { PeerIdentity } from './credentials.ts';
import type { CallContext } from './rpcTypes.ts';

/** The library's call. */
interface Underlying {
  readonly cancelled: boolean;
  getPeer(): string;
  once(event: 'cancelled', listener: () => void): unknown;
  on(event: 'error', listener: () => void): unknown;
}

export class ServedCall implements CallContext {
  readonly peer: PeerIdentity | undefined;
  readonly #call: Underlying;
  #abort: AbortController | undefined;

  constructor(call: Underlying, peer: PeerIdentity | undefined) {
    this.#call = call;
    this.peer = peer;
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      const abort = new AbortController();
      this.#abort = abort;
      if (this.#call.cancelled) abort.abort();
      this.#call.once('cancelled', () => abort.abort());
      this.#call.on('error', () => abort.abort());
    }
    return this.#abort.signal;
  }

  get remoteAddress(): string {
    return this.#call.getPeer().replace(/:\d+$/, '');
  }
}

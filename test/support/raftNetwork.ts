/**
 * An in-process network of byte streams for Raft's transport: addresses, cuts (silent, one way or
 * both), refused connections. Used by tests only; delivers in order, a turn later, never loses
 * within an uncut stream.
 */
import { SwarmError } from '../../base/errors.ts';
import type { PeerDialer, PeerStream, StreamKind } from '../../manager/raft/wire.ts';

export type Acceptor = (stream: PeerStream, kind: StreamKind) => void;

class End implements PeerStream {
  other: End | undefined = undefined;
  readonly #passes: () => boolean;
  #data: ((bytes: Uint8Array) => void) | undefined = undefined;
  #close: ((error: Error | undefined) => void) | undefined = undefined;
  #closed = false;

  constructor(passes: () => boolean) {
    this.#passes = passes;
  }

  write(bytes: Uint8Array): boolean {
    const { other } = this;
    const copy = Uint8Array.from(bytes);
    setImmediate(() => {
      if (other !== undefined && !other.#closed && this.#passes()) other.#data?.(copy);
    });
    return true;
  }

  onDrain(): void {}

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#data = listener;
  }

  onClose(listener: (error: Error | undefined) => void): void {
    this.#close = listener;
  }

  close(reason?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    setImmediate(() => {
      if (this.#passes()) this.other?.end(reason);
      this.#close?.(undefined);
    });
  }

  end(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#close?.(error);
  }
}

function refused(address: string): SwarmError {
  const message = `cannot reach ${address}: connection refused`;
  return new SwarmError('unavailable', message, { detail: { reason: 'refused' } });
}

export class RaftNetwork {
  readonly #acceptors = new Map<string, Acceptor>();
  readonly #cut = new Set<string>();
  readonly #ends: End[] = [];

  listen(address: string, acceptor: Acceptor): void {
    this.#acceptors.set(address, acceptor);
  }

  close(address: string): void {
    this.#acceptors.delete(address);
  }

  /** Nothing passes from `from` to `to` any more, silently. */
  cutOneWay(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`);
  }

  /** Nothing passes between `address` and the others. */
  isolate(address: string): void {
    for (const other of this.#acceptors.keys()) {
      if (other === address) continue;
      this.cutOneWay(address, other);
      this.cutOneWay(other, address);
    }
  }

  /** All streams break; new ones pass. */
  breakStreams(): void {
    for (const end of this.#ends.splice(0))
      end.end(new SwarmError('unavailable', 'the connection broke'));
  }

  heal(): void {
    this.#cut.clear();
  }

  #passes(from: string, to: string): boolean {
    return !this.#cut.has(`${from}>${to}`);
  }

  dialerOf(from: string): PeerDialer {
    return {
      openStream: (address, kind) => {
        const near = new End(() => this.#passes(from, address));
        const far = new End(() => this.#passes(address, from));
        near.other = far;
        far.other = near;
        this.#ends.push(near, far);
        setImmediate(() => {
          const acceptor = this.#acceptors.get(address);
          if (acceptor === undefined) near.end(refused(address));
          else if (this.#passes(from, address)) acceptor(far, kind);
        });
        return near;
      },
    };
  }
}

/**
 * Raft's streams, each on a connection of its own, so that a snapshot never holds up a heartbeat:
 * messages over links, snapshots over gRPC; the dialling side and the accepting side, behind the
 * authorizer. Managers before links speak gRPC for both, and are spoken to so. Bytes pass through
 * untouched.
 */
import { MIB } from '../base/bytes.ts';
import { messageOf } from '../base/errors.ts';
import type { Link } from '../proto/link.ts';
import { client, type Handlers, type Incoming, type RpcChannel } from '../proto/rpc.ts';
import { Raft } from '../proto/services.ts';
import type { PeerDialer, PeerStream, StreamKind } from './raft/wire.ts';

/** Written and not yet taken by the connection; above it the writer is held back. */
const HIGH_WATER_BYTES = 2 * MIB;

interface Frames {
  readonly frames: Uint8Array;
}

/** A PeerStream over promises: what `send` has not taken counts against the high water mark. */
class LinkStream implements PeerStream {
  readonly #send: (message: Frames) => Promise<void>;
  readonly #finish: (reason?: Error) => void;
  #outstandingBytes = 0;
  #held = false;
  #closed = false;
  #over = false;
  #onDrain: () => void = () => {};
  #onData: (bytes: Uint8Array) => void = () => {};
  #onClose: (error: Error | undefined) => void = () => {};

  constructor(send: (message: Frames) => Promise<void>, finish: (reason?: Error) => void) {
    this.#send = send;
    this.#finish = finish;
  }

  write(bytes: Uint8Array): boolean {
    if (this.#closed) return true;
    this.#outstandingBytes += bytes.length;
    this.#send({ frames: bytes }).then(
      () => this.#taken(bytes.length),
      () => this.#taken(bytes.length), // why it failed comes through the reading side
    );
    this.#held = this.#outstandingBytes >= HIGH_WATER_BYTES;
    return !this.#held;
  }

  #taken(bytes: number): void {
    this.#outstandingBytes -= bytes;
    if (!this.#held || this.#outstandingBytes >= HIGH_WATER_BYTES / 2) return;
    this.#held = false;
    this.#onDrain();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#onData = listener;
  }

  onClose(listener: (error: Error | undefined) => void): void {
    this.#onClose = listener;
  }

  close(reason?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#finish(reason);
  }

  /** Feeds the listeners until the other side ends; they are set before the first message comes. */
  async pump(messages: AsyncIterable<Frames>): Promise<void> {
    let failure: Error | undefined;
    try {
      for await (const { frames } of messages) this.#onData(frames);
    } catch (error) {
      failure = error instanceof Error ? error : new Error(messageOf(error));
    }
    if (this.#over) return;
    this.#over = true;
    const closedHere = this.#closed;
    this.close();
    this.#onClose(closedHere ? undefined : failure);
  }
}

/**
 * Both make a new connection each time, which is closed with its stream; `onOtherProtocol` is
 * called where something older listens.
 */
export function raftDialer(
  channelTo: (address: string) => RpcChannel,
  linkTo: (address: string, onOtherProtocol: () => void) => Link,
): PeerDialer {
  /** Where links are not known; tried again once a stream there has ended. */
  const older = new Set<string>();
  return {
    openStream(address: string, kind: StreamKind): PeerStream {
      if (kind === 'messages' && !older.delete(address)) {
        return linkTo(address, () => older.add(address));
      }
      const channel = channelTo(address);
      const raft = client(Raft, channel);
      const talk = kind === 'messages' ? raft.messages() : raft.snapshot();
      const stream = new LinkStream(
        (message) => talk.send(message),
        // Messages may be lost, so nobody waits for a path that died; a snapshot's end is awaited.
        () => (kind === 'messages' ? talk.cancel() : talk.end()),
      );
      void stream.pump(talk as Incoming<Frames>).finally(() => channel.close());
      return stream;
    },
  };
}

/** The two streaming methods of service Raft: snapshots, and messages of managers before links. */
export function raftStreamHandlers(
  accept: (stream: PeerStream, kind: StreamKind) => void,
): Pick<Handlers<typeof Raft>, 'messages' | 'snapshot'> {
  const serve = async (
    kind: StreamKind,
    requests: AsyncIterable<Frames>,
    send: (message: Frames) => Promise<void>,
  ): Promise<void> => {
    let finish = (_reason?: Error): void => {};
    const closedHere = new Promise<void>((resolve, reject) => {
      finish = (reason) => (reason === undefined ? resolve() : reject(reason));
    });
    const stream = new LinkStream(send, (reason) => finish(reason));
    accept(stream, kind);
    // The call ends with this function: when either side has closed.
    await Promise.race([stream.pump(requests), closedHere]);
  };
  return {
    messages: (requests, send) => serve('messages', requests, send),
    snapshot: (requests, send) => serve('snapshot', requests, send),
  };
}

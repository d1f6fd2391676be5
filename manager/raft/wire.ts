/**
 * What the Raft transport needs of a connection: ordered bytes messages both ways. proto/rpc.ts
 * provides it over gRPC (one connection of its own per peer and kind), tests over memory. The
 * adapter has authenticated the other end as a manager of this swarm before it hands a stream over.
 */
export type StreamKind = 'messages' | 'snapshot';

export interface PeerStream {
  /** Queues one message; false = the buffer is full, wait for the drain. No-op once closed. */
  write(bytes: Uint8Array): boolean;
  onDrain(listener: () => void): void;
  onData(listener: (bytes: Uint8Array) => void): void;
  /** Called once; `error` says why unless the other end closed in good order. */
  onClose(listener: (error: Error | undefined) => void): void;
  /** No more will be written; the other end sees onClose, with `reason` if given. Idempotent. */
  close(reason?: Error): void;
}

export interface PeerDialer {
  /**
   * Opens a stream to `address`; errors, also of dialling, come through onClose. Listeners are set
   * in the same turn. A connect attempt must give up within a second or so.
   */
  openStream(address: string, kind: StreamKind): PeerStream;
}

/**
 * Raft's transport over streams between managers (wire.ts): a Peer per member for messages, a
 * stream of its own for each snapshot. What an incoming stream says of its sender is checked
 * against its hello; that the other end is a manager at all has been proved before it comes here.
 * No retries but those of dialling: Raft itself repeats what is lost.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { APPLY_THREAD } from './core/types.ts';
import { decodeHello, encodeHello, type Hello, REMOVED_NODE } from './hello.ts';
import { SNAPSHOT_BYTES_PER_S, SNAPSHOT_REDIAL_MS, SNAPSHOT_REDIALS } from './limits.ts';
import { ACK, Peer, type PeerOptions, readBatch } from './peer.ts';
import { ByteRate, SnapshotCut, sendSnapshotStream } from './snapshotStream.ts';
import { readSnapshotHead, SnapshotTransfer } from './snapshotTransfer.ts';
import type { MemberAddress, RaftTransport, SnapshotChunks, TransportHandler } from './types.ts';
import type { PeerDialer, PeerStream, StreamKind } from './wire.ts';

export interface StreamTransportOptions {
  readonly self: MemberAddress;
  readonly dialer: PeerDialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Well below what a sender waits for (MAX_SILENCE_MS): a word of its own per batch costs more. */
const ACK_DELAY_MS = 100;
/** A process that ends lets go of its connections and of its port one after the other. */
const LOOK_AFTER_MS = 20;
const LOOK_LIMIT_MS = 1000;
/**
 * Streams accepted at once from one member, the oldest closed first: it needs two, but those of a
 * path that died linger until TCP gives them up.
 */
const MAX_ACCEPTED_PER_PEER = 6;
/** Streams accepted at once of which the sender is not known yet, or known: members are few. */
const MAX_ACCEPTED = 128;
/** In an error's detail: the id of the member that was taken out. */
const REMOVED = 'removedRaftId';

function removed(id: number): SwarmError {
  const message = `raft member ${id} was taken out of the managers`;
  return new SwarmError('forbidden', message, { detail: { [REMOVED]: String(id) } });
}

export class StreamTransport implements RaftTransport {
  readonly #options: StreamTransportOptions;
  readonly #peers = new Map<number, Peer>();
  /** With the sender's id once it has said it; in the order they came. */
  readonly #accepted = new Map<PeerStream, number>();
  readonly #sending = new Set<PeerStream>();
  readonly #rate: ByteRate;
  /** The last snapshot that began to arrive; over or not. */
  #transfer: SnapshotTransfer | undefined = undefined;
  #handler: TransportHandler | undefined = undefined;
  #stopped = false;

  constructor(options: StreamTransportOptions) {
    this.#options = options;
    this.#rate = new ByteRate(options.clock, SNAPSHOT_BYTES_PER_S);
  }

  start(handler: TransportHandler): void {
    this.#handler = handler;
  }

  send(to: number, address: string, message: Uint8Array): void {
    if (this.#stopped) return;
    let peer = this.#peers.get(to);
    if (peer === undefined) {
      peer = new Peer(to, address, this.#peerOptions());
      this.#peers.set(to, peer);
    }
    peer.send(address, message);
  }

  flush(): void {
    for (const peer of this.#peers.values()) peer.flush();
  }

  #peerOptions(): PeerOptions {
    const onUnreachable = (id: number): void => {
      // Later, as the core may be in the middle of what made it send.
      queueMicrotask(() => {
        if (!this.#stopped) this.#handler?.onUnreachable(id);
      });
    };
    const onRefused = (error: SwarmError): void => this.#refused(error);
    return { ...this.#options, onUnreachable, onRefused };
  }

  #refused(error: SwarmError): void {
    const isOut = error.detail[REMOVED] === String(this.#options.self.id);
    if (!isOut && error.detail[REMOVED_NODE] === undefined) return;
    queueMicrotask(() => {
      if (!this.#stopped) this.#handler?.onRemoved(error);
    });
  }

  announce(to: number, address: string): void {
    this.#greet({ id: to, address }, (error) => this.#refused(error));
  }

  /** A stream of its own, that ends with the first word of the other; `refused` says why not. */
  #greet({ id, address }: MemberAddress, refused: (error: SwarmError) => void): void {
    if (this.#stopped) return;
    const { clock, dialer, self } = this.#options;
    const stream = dialer.openStream(address, 'messages');
    const given = clock.afterIdle(LOOK_LIMIT_MS, () => stream.close());
    stream.onData(() => stream.close());
    stream.onClose((error) => {
      given.cancel();
      if (error instanceof SwarmError) refused(error);
    });
    stream.write(encodeHello({ from: self, to: id }));
  }

  async sendSnapshot(
    to: number,
    address: string,
    message: Uint8Array,
    chunks: SnapshotChunks,
  ): Promise<void> {
    const { dialer, self, clock, log } = this.#options;
    let gainedBytes = 0;
    for (let dials = 1; ; dials += 1) {
      if (this.#stopped) throw new SwarmError('unavailable', 'the transport is stopped');
      const stream = dialer.openStream(address, 'snapshot');
      this.#sending.add(stream);
      try {
        stream.write(encodeHello({ from: self, to }));
        await sendSnapshotStream(stream, clock, this.#rate, message, chunks);
        return;
      } catch (error) {
        if (!(error instanceof SnapshotCut)) throw error;
        if (error.ackedBytes > gainedBytes) dials = 0;
        gainedBytes = Math.max(gainedBytes, error.ackedBytes);
        if (dials >= SNAPSHOT_REDIALS) throw error;
        log.info('raft: goes on with a snapshot', { to, at: gainedBytes, why: error.message });
      } finally {
        this.#sending.delete(stream);
      }
      await clock.sleep(SNAPSHOT_REDIAL_MS);
    }
  }

  setPeers(peers: readonly MemberAddress[]): void {
    const ids = new Set(peers.map((peer) => peer.id));
    for (const [id, peer] of this.#peers) {
      // Before any configuration is known (joining), whoever spoke to us is a peer.
      if (ids.has(id) || ids.size === 0) continue;
      peer.close();
      this.#peers.delete(id);
    }
    // Who has applied its own removal has nothing more to say for which it could be told.
    for (const [stream, from] of this.#accepted) {
      if (from === 0 || this.#handler?.wasRemoved(from) !== true) continue;
      this.#accepted.delete(stream);
      stream.close(removed(from));
    }
  }

  /** The server side: a stream another manager opened. */
  acceptStream(stream: PeerStream, kind: StreamKind): void {
    const handler = this.#handler;
    if (this.#stopped || handler === undefined || this.#accepted.size >= MAX_ACCEPTED) {
      stream.close();
      return;
    }
    this.#accepted.set(stream, 0);
    let hello: Hello | undefined;
    let transfer: SnapshotTransfer | undefined;
    let due: Timer | undefined;
    const acknowledge = (): void => {
      due ??= this.#options.clock.afterIdle(ACK_DELAY_MS, () => {
        due = undefined;
        stream.write(ACK);
      });
    };
    stream.onData((bytes) => {
      try {
        if (hello === undefined) {
          hello = this.#readHello(bytes);
          if (handler.wasRemoved(hello.from.id)) throw removed(hello.from.id);
          this.#admit(stream, hello.from.id);
          if (kind === 'messages') stream.write(ACK);
          handler.onHello(hello.from);
        } else if (kind === 'snapshot') {
          if (transfer === undefined) {
            transfer = this.#transferOf(handler, hello.from, readSnapshotHead(bytes));
            transfer.attach(stream);
          } else {
            transfer.take(stream, bytes);
          }
        } else {
          if (handler.wasRemoved(hello.from.id)) throw removed(hello.from.id);
          for (const message of readBatch(bytes)) handler.onMessage(hello.from, message);
          acknowledge();
        }
      } catch (error) {
        if (!(error instanceof SwarmError)) throw error;
        this.#options.log.warn('raft: stream refused', { kind, why: messageOf(error) });
        this.#accepted.delete(stream);
        transfer?.detach(stream);
        stream.close(error);
      }
    });
    stream.onClose(() => {
      this.#accepted.delete(stream);
      if (hello !== undefined && handler.follows(hello.from.id)) this.#lookFor(hello.from);
      due?.cancel();
      transfer?.detach(stream);
    });
  }

  /** A process that ended has let go of its port; one that is busy, or far, has not. */
  #lookFor(member: MemberAddress): void {
    this.#options.clock.afterIdle(LOOK_AFTER_MS, () =>
      this.#greet(member, (error) => {
        const isGone = error.detail['reason'] === 'refused' && !this.#stopped;
        if (isGone) this.#handler?.onGone(member.id);
      }),
    );
  }

  /** The transfer that this head goes on with, or a new one. */
  #transferOf(
    handler: TransportHandler,
    from: MemberAddress,
    message: Uint8Array,
  ): SnapshotTransfer {
    const former = this.#transfer;
    if (former?.isUsable && former.isOf(from.id, message)) return former;
    if (former?.isDetached) {
      former.fail(new SwarmError('unavailable', 'another snapshot arrives in its place'));
    }
    const { clock } = this.#options;
    this.#transfer = new SnapshotTransfer(from.id, message, clock, async (head, chunks) => {
      // One that was given up leaves its file first.
      if (former?.isUsable === false) await former.over;
      await handler.onSnapshot(from, head, chunks);
    });
    return this.#transfer;
  }

  #admit(stream: PeerStream, from: number): void {
    this.#accepted.set(stream, from);
    const same = [...this.#accepted].filter(([, id]) => id === from);
    for (const [oldest] of same.slice(0, Math.max(0, same.length - MAX_ACCEPTED_PER_PEER))) {
      this.#accepted.delete(oldest);
      oldest.close();
    }
  }

  #readHello(bytes: Uint8Array): Hello {
    const hello = decodeHello(bytes);
    if (hello.to !== this.#options.self.id) {
      throw new SwarmError(
        'invalid',
        `manager ${hello.from.id} (${hello.from.address}) looks for member ${hello.to} here`,
      );
    }
    if (hello.from.id < 1 || hello.from.id >= APPLY_THREAD) {
      throw new SwarmError('invalid', `raft id ${hello.from.id} is none`);
    }
    return hello;
  }

  stop(): Promise<void> {
    this.#stopped = true;
    for (const peer of this.#peers.values()) peer.close();
    this.#peers.clear();
    for (const stream of [...this.#accepted.keys(), ...this.#sending]) stream.close();
    this.#transfer?.fail(new SwarmError('unavailable', 'the transport is stopped'));
    return Promise.resolve();
  }
}

/**
 * Linearizable reads (Raft thesis 6.4): a read takes the commit index of the moment it reaches the
 * leader, and is released once a quorum has answered a heartbeat sent after that. Reads are
 * numbered in order, a heartbeat carries the number of the newest one, so one round confirms them
 * all.
 */
import { type JointConfig, jointCommitted } from './quorum.ts';
import { EMPTY_BYTES, type Message } from './types.ts';

export interface PendingRead {
  readonly request: Message;
  /** The commit index when it came: what the reader must have applied. */
  readonly index: number;
}

const TWO_TO_32 = 4_294_967_296;

export class ReadOnly {
  readonly #acks = new Map<number, number>();
  #unconfirmed: PendingRead[] = [];
  #confirmed = 0;

  add(index: number, request: Message): void {
    this.#unconfirmed.push({ request, index });
  }

  /** A heartbeat that carried `context` was answered by `from`. */
  acknowledge(from: number, context: Uint8Array): void {
    if (context.length !== 8) return;
    const view = new DataView(context.buffer, context.byteOffset, context.byteLength);
    const position = view.getUint32(4, true) * TWO_TO_32 + view.getUint32(0, true);
    this.#acks.set(from, Math.max(this.#acks.get(from) ?? 0, position));
  }

  /** The reads that a quorum has confirmed by now, in order. */
  advance(voters: JointConfig): readonly PendingRead[] {
    const position = jointCommitted(voters, (id) => this.#acks.get(id));
    if (position <= this.#confirmed || !Number.isFinite(position)) return [];
    const released = this.#unconfirmed.slice(0, position - this.#confirmed);
    this.#unconfirmed = this.#unconfirmed.slice(position - this.#confirmed);
    this.#confirmed = position;
    return released;
  }

  /** Eight bytes, little endian: the number of the newest read; empty when none waits. */
  heartbeatContext(): Uint8Array {
    if (this.#unconfirmed.length === 0) return EMPTY_BYTES;
    const position = this.#confirmed + this.#unconfirmed.length;
    const context = new Uint8Array(8);
    const view = new DataView(context.buffer);
    view.setUint32(0, position % TWO_TO_32, true);
    view.setUint32(4, Math.floor(position / TWO_TO_32), true);
    return context;
  }

  get waiting(): number {
    return this.#unconfirmed.length;
  }
}

/**
 * Connections kept for repeated calls to the same address, at most so many; the least used longest
 * ago is closed. It makes no calls itself.
 */
import type { RpcChannel } from '../proto/rpc.ts';

/** A leader talks to a handful of managers and a few probe helpers at a time. */
const MAX_CHANNELS = 32;

export class KeptChannels {
  readonly #open: (address: string, role?: 'manager') => RpcChannel;
  /** In order of use, the latest last. */
  readonly #channels = new Map<string, RpcChannel>();

  constructor(open: (address: string, role?: 'manager') => RpcChannel) {
    this.#open = open;
  }

  to(address: string, role?: 'manager'): RpcChannel {
    const key = `${role ?? 'any'}/${address}`;
    const channel = this.#channels.get(key) ?? this.#open(address, role);
    this.#channels.delete(key);
    this.#channels.set(key, channel);
    if (this.#channels.size > MAX_CHANNELS) {
      const [oldest] = this.#channels.keys();
      this.#channels.get(oldest)?.close();
      this.#channels.delete(oldest);
    }
    return channel;
  }

  /** The next call of each address opens a new connection, with the certificate of then. */
  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }
}

/**
 * One connection of a manager to another host's API, as a stream of bytes inside the gRPC that both
 * speak anyway. Bytes are waited for on both sides, the end of one direction leaves the other
 * open, and whoever goes ends both. It knows no HTTP, and who may call was decided before.
 */
import { Duplex } from 'node:stream';
import { MIB } from '../base/bytes.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { client, type Handlers, type Incoming, type RpcChannel } from '../proto/rpc.ts';
import { Host } from '../proto/services.ts';

/** Larger writes are cut; a message may have 16 MiB. */
const MESSAGE_BYTES = MIB;

interface Bytes {
  readonly data: Uint8Array;
}

interface Far {
  send(bytes: Bytes): Promise<void>;
  /** No more bytes from here. */
  end(): void;
  /** This side has gone. */
  leave(): void;
}

/** Bytes that arrive are pushed when asked for; bytes that are written go out one after another. */
class Tunnel extends Duplex {
  readonly #far: Far;
  #wanted: (() => void) | undefined;

  constructor(far: Far) {
    super({ allowHalfOpen: true });
    this.#far = far;
  }

  /** Takes in what comes until it ends; never rejects. */
  async takeIn(bytes: AsyncIterable<Bytes>, explain: (error: unknown) => Error): Promise<void> {
    try {
      for await (const { data } of bytes) {
        if (this.destroyed) return;
        if (this.push(data)) continue;
        await new Promise<void>((resolve) => {
          this.#wanted = resolve;
        });
      }
      this.push(null);
    } catch (error) {
      this.destroy(explain(error));
    }
  }

  override _read(): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#send(chunk).then(
      () => done(),
      (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
    );
  }

  async #send(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length; at += MESSAGE_BYTES) {
      await this.#far.send({ data: chunk.subarray(at, at + MESSAGE_BYTES) });
    }
  }

  override _final(done: () => void): void {
    this.#far.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this._read();
    this.#far.leave();
    done(error);
  }
}

/** Through a channel of its own, which is closed with it. `name`: what the host is called. */
export function openTunnel(channel: RpcChannel, name: string): Duplex {
  const conversation = client(Host, channel).api();
  const tunnel = new Tunnel({
    send: (bytes) => conversation.send(bytes),
    end: () => conversation.end(),
    leave: () => {
      conversation.cancel();
      channel.close();
    },
  });
  const explain = (error: unknown): Error =>
    new SwarmError('unavailable', `host ${name} cannot be reached: ${messageOf(error)}`, {
      cause: error,
    });
  void tunnel.takeIn(conversation as Incoming<Bytes>, explain);
  return tunnel;
}

/** Hands every connection that a manager opens to `accept`. */
export function tunnelHandlers(accept: (connection: Duplex) => void): Handlers<typeof Host> {
  return {
    async api(incoming, send, context) {
      let leave = (): void => {};
      const left = new Promise<void>((resolve) => {
        leave = resolve;
      });
      const tunnel = new Tunnel({ send, end: leave, leave });
      const onGone = (): void => void tunnel.destroy();
      context.signal.addEventListener('abort', onGone, { once: true });
      tunnel.on('error', () => {
        // The other side has gone; what was served over it is told by the stream's end.
      });
      void tunnel.takeIn(incoming, (error) => new SwarmError('cancelled', messageOf(error)));
      accept(tunnel);
      await left;
      context.signal.removeEventListener('abort', onGone);
      tunnel.destroy();
    },
  };
}

/**
 * The part of a call that is the same on both sides: a method's path, its messages as bytes,
 * writing with back-pressure, and the guard that ends a call at its deadline. No gRPC library in
 * here.
 */
import { type EventEmitter, setMaxListeners } from 'node:events';
import {
  type DescMethod,
  fromBinary,
  type Message,
  type MessageInitShape,
} from '@bufbuild/protobuf';
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import { encodeBriefly } from './encode.ts';
import { type CallOptions, MessageQueue } from './rpcTypes.ts';

export type AnyMessage = Message;

export function encoder(method: DescMethod['input']): (message: AnyMessage) => Buffer {
  return (message) => encodeBriefly(method, message as MessageInitShape<typeof method>);
}

export function decoder(method: DescMethod['input']): (bytes: Buffer) => AnyMessage {
  return (bytes) => fromBinary(method, bytes);
}

export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** '10.0.0.1:2377' -> 'ipv4:10.0.0.1:2377', so that no resolver is asked about a number. */
export function targetOf(address: string): string {
  if (/^\d+\.\d+\.\d+\.\d+:\d+$/.test(address)) return `ipv4:${address}`;
  if (/^\[[0-9a-fA-F:.]+\]:\d+$/.test(address)) return `ipv6:${address}`;
  return `dns:${address}`;
}

export function cancelled(): SwarmError {
  return new SwarmError('cancelled', 'the call was cancelled');
}

interface Readable {
  pause(): unknown;
  resume(): unknown;
  on(event: 'data', listener: (message: AnyMessage) => void): unknown;
  on(event: 'end', listener: () => void): unknown;
}

export function readAll(call: Readable, signal: AbortSignal): AsyncIterable<AnyMessage> {
  const queue = new MessageQueue<AnyMessage>({
    pause: () => void call.pause(),
    resume: () => void call.resume(),
  });
  signal.addEventListener('abort', () => queue.end(cancelled()), { once: true });
  call.on('data', (message: AnyMessage) => queue.push(message));
  call.on('end', () => queue.end());
  return queue.read(() => {});
}

interface Writable extends EventEmitter {
  write(message: AnyMessage): boolean;
}

export function writeTo(call: Writable, message: AnyMessage, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.reject(cancelled());
  if (call.write(message)) return Promise.resolve();
  // Several writers may wait for one stream: how many is theirs to bound, and no leak.
  setMaxListeners(0, signal, call);
  return new Promise((resolve, reject) => {
    const drained = (): void => {
      signal.removeEventListener('abort', aborted);
      resolve();
    };
    const aborted = (): void => {
      call.off('drain', drained);
      reject(cancelled());
    };
    call.once('drain', drained);
    signal.addEventListener('abort', aborted, { once: true });
  });
}

export interface Guard {
  /** Why the call was ended from here; undefined while it was not. */
  reason(): SwarmError | undefined;
  release(): void;
}

/** Ends `call` at its deadline or when the caller's signal says so. */
export function guard(
  call: { cancel(): void },
  channel: { readonly address: string; readonly clock: Clock },
  method: DescMethod,
  options: CallOptions,
  defaultTimeoutMs: number | undefined,
): Guard {
  let reason: SwarmError | undefined;
  const stop = (why: SwarmError): void => {
    reason ??= why;
    call.cancel();
  };
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  const timer =
    timeoutMs === undefined
      ? undefined
      : channel.clock.afterIdle(timeoutMs, () => {
          const what = `${channel.address} did not answer ${method.name}`;
          stop(new SwarmError('timeout', `${what} within ${timeoutMs} ms`));
        });
  const aborted = (): void => stop(cancelled());
  if (options.signal?.aborted === true) queueMicrotask(aborted);
  options.signal?.addEventListener('abort', aborted, { once: true });
  return {
    reason: () => reason,
    release: () => {
      timer?.cancel();
      options.signal?.removeEventListener('abort', aborted);
    },
  };
}

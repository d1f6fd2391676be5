/**
 * The client of `bench state`: a process that makes unary gRPC calls over mutual TLS, on one
 * connection to each member, as it is told over the IPC channel. The same program for tsswarm and
 * for etcd; only the bytes of its requests differ (stateWire).
 */
import { SystemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { RpcChannel } from '../../proto/rpc.ts';
import {
  type Call,
  DIALECTS,
  ETCD_STATUS,
  type Key,
  leads,
  READ_ANSWER_BYTES,
} from './stateWire.ts';

export type Side = keyof typeof DIALECTS;

export type Order =
  | {
      readonly kind: 'open';
      readonly side: Side;
      readonly credentials: NodeCredentials;
      /** Of keys; no two processes may write the same. */
      readonly prefix: string;
    }
  | {
      readonly kind: 'run';
      readonly address: string;
      readonly operation: 'write' | 'read';
      readonly clients: number;
      readonly durationMs: number;
    }
  /** Connects, so that what follows is not about connections. */
  | { readonly kind: 'connect'; readonly addresses: readonly string[] }
  /** Writes anywhere until a write is acknowledged. */
  | { readonly kind: 'first'; readonly addresses: readonly string[] }
  /** Which of etcd's members leads; '' = none. */
  | { readonly kind: 'leader'; readonly addresses: readonly string[] };

export interface Ran {
  /** Of each call, milliseconds. */
  readonly latencies: readonly number[];
  readonly tookMs: number;
}

export interface Reply {
  readonly result?: unknown;
  readonly error?: string;
}

/** Between attempts while nobody may lead, and how long each may take: some go to the dead leader. */
const ATTEMPT_EVERY_MS = 10;
const ATTEMPT_LIMIT_MS = 400;
const FIRST_LIMIT_MS = 30_000;
const CALL_LIMIT_MS = 20_000;
const CONNECT_LIMIT_MS = 5000;

const clock = new SystemClock();
const channels = new Map<string, RpcChannel>();
const keys: Key[] = [];
let side: Side = 'etcd';
let credentials: NodeCredentials | undefined;
let prefix = '';
let counter = 0;

function pass(value: Buffer): Buffer {
  return value;
}

function ask(address: string, call: Call, limitMs = CALL_LIMIT_MS): Promise<Buffer> {
  if (credentials === undefined) throw new Error('open first');
  const trust = { kind: 'node', credentials } as const;
  const channel = channels.get(address) ?? new RpcChannel(address, trust, { clock });
  channels.set(address, channel);
  const options = { deadline: clock.wallMs() + limitMs };
  return new Promise((resolve, reject) => {
    const { path, request } = call;
    channel.grpcClient().makeUnaryRequest(path, pass, pass, request, options, (error, answer) => {
      if (error === null && answer !== undefined) resolve(answer);
      else reject(new Error(`${address} ${path}: ${messageOf(error)}`));
    });
  });
}

function newKey(): Key {
  counter += 1;
  return { name: `${prefix}-${counter}`, id: '', version: 0 };
}

async function write(address: string, key: Key, isNew: boolean, limitMs?: number): Promise<void> {
  const dialect = DIALECTS[side];
  counter += 1;
  const call = isNew ? dialect.create(key, counter) : dialect.update(key, counter);
  dialect.written(key, await ask(address, call, limitMs));
}

async function read(address: string, key: Key): Promise<void> {
  const answer = await ask(address, DIALECTS[side].read(key));
  if (answer.length < READ_ANSWER_BYTES) throw new Error(`${key.name}: the value is not there`);
}

async function run(order: Order & { kind: 'run' }): Promise<Ran> {
  const { address, operation, clients, durationMs } = order;
  while (keys.length < clients) {
    const key = newKey();
    await write(address, key, true);
    keys.push(key);
  }
  const latencies: number[] = [];
  const startMs = clock.nowMs();
  const endMs = startMs + durationMs;
  const client = async (key: Key): Promise<void> => {
    for (let fromMs = clock.nowMs(); fromMs < endMs; ) {
      await (operation === 'write' ? write(address, key, false) : read(address, key));
      const nowMs = clock.nowMs();
      latencies.push(nowMs - fromMs);
      fromMs = nowMs;
    }
  };
  await Promise.all(keys.slice(0, clients).map(client));
  return { latencies, tookMs: clock.nowMs() - startMs };
}

/** Attempts go out at every address until one is acknowledged; the others fail, or come too late. */
async function first(addresses: readonly string[]): Promise<void> {
  const endMs = clock.nowMs() + FIRST_LIMIT_MS;
  let last = 'nothing was tried';
  let done = (): void => {};
  const acknowledged = new Promise<boolean>((resolve) => {
    done = () => resolve(true);
  });
  while (clock.nowMs() < endMs) {
    for (const address of addresses) {
      write(address, newKey(), true, ATTEMPT_LIMIT_MS).then(done, (error: unknown) => {
        last = messageOf(error);
      });
    }
    const pause = clock.sleep(ATTEMPT_EVERY_MS).then(() => false);
    if (await Promise.race([acknowledged, pause])) return;
  }
  throw new Error(`no write was acknowledged: ${last}`);
}

/** A refusal is an answer too. */
async function connect(addresses: readonly string[]): Promise<void> {
  const absent: Key = { name: `${prefix}-none`, id: 'none', version: 0 };
  for (const address of addresses) {
    await ask(address, DIALECTS[side].read(absent), CONNECT_LIMIT_MS).catch((error: unknown) => {
      if (!messageOf(error).includes('not found')) throw error;
    });
  }
}

async function leader(addresses: readonly string[]): Promise<string> {
  for (const address of addresses) {
    if (leads(await ask(address, ETCD_STATUS, CONNECT_LIMIT_MS))) return address;
  }
  return '';
}

async function perform(order: Order): Promise<unknown> {
  switch (order.kind) {
    case 'open':
      ({ side, credentials, prefix } = order);
      return undefined;
    case 'run':
      return run(order);
    case 'connect':
      return connect(order.addresses);
    case 'first':
      return first(order.addresses);
    case 'leader':
      return leader(order.addresses);
  }
}

process.on('message', (order: Order) => {
  perform(order).then(
    (result) => process.send?.({ result } satisfies Reply),
    (error: unknown) => process.send?.({ error: messageOf(error) } satisfies Reply),
  );
});
process.on('disconnect', () => process.exit(0));

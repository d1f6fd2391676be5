/**
 * Streams between managers: batches in order, a dead path found by its silence and dialled anew, a
 * stranger turned away, snapshots whole or not at all. In memory; no sockets.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import { silentLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { StreamTransport } from '../../../manager/raft/transport.ts';
import type { MemberAddress, TransportHandler } from '../../../manager/raft/types.ts';
import { FastClock } from '../../support/raftCluster.ts';
import { RaftNetwork } from '../../support/raftNetwork.ts';

const clock = new FastClock();
const REMOVED = 8;
const LEADER = 2;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

interface End {
  readonly self: MemberAddress;
  readonly transport: StreamTransport;
  readonly received: string[];
  readonly unreachable: number[];
  readonly gone: number[];
  onSnapshot: TransportHandler['onSnapshot'];
  toldRemoved: boolean;
}

function end(network: RaftNetwork, id: number): End {
  const self = { id, address: `10.0.0.${id}:2377` };
  const dialer = network.dialerOf(self.address);
  const random = new SystemRandom();
  const transport = new StreamTransport({ self, dialer, clock, random, log: silentLog });
  const received: string[] = [];
  const unreachable: number[] = [];
  const gone: number[] = [];
  const onSnapshot = (): Promise<void> => Promise.reject(new Error('not expected'));
  const made: End = {
    self,
    transport,
    received,
    unreachable,
    gone,
    onSnapshot,
    toldRemoved: false,
  };
  transport.start({
    onMessage: (from, bytes) => received.push(`${from.id}:${text(bytes)}`),
    onSnapshot: (from, bytes, chunks) => made.onSnapshot(from, bytes, chunks),
    onUnreachable: (lost) => unreachable.push(lost),
    follows: (leader) => leader === LEADER,
    onGone: (leader) => gone.push(leader),
    wasRemoved: (removed) => removed === REMOVED,
    onRemoved: () => {
      made.toldRemoved = true;
    },
  });
  network.listen(self.address, (stream, kind) => transport.acceptStream(stream, kind));
  return made;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = clock.nowMs() + 60_000;
  while (!condition()) {
    assert.ok(clock.nowMs() < deadline, 'it did not happen in time');
    await new SystemClock().sleep(2);
  }
}

test('messages arrive in the order they were sent', async () => {
  const network = new RaftNetwork();
  const [one, two] = [end(network, 1), end(network, 2)];
  const expected: string[] = [];
  for (let at = 0; at < 500; at += 1) {
    one.transport.send(2, two.self.address, Buffer.from(`m${at}`));
    expected.push(`1:m${at}`);
  }
  await until(() => two.received.length === 500);
  assert.deepEqual(two.received, expected);
  await Promise.all([one.transport.stop(), two.transport.stop()]);
});

test('a path that falls silent is given up, reported, and used again once healed', async () => {
  const network = new RaftNetwork();
  const [one, two] = [end(network, 1), end(network, 2)];
  const speak = (): void => one.transport.send(2, two.self.address, Buffer.from('beat'));
  speak();
  await until(() => two.received.length === 1);
  network.isolate(two.self.address);
  await until(() => {
    speak();
    return one.unreachable.length > 0;
  });
  network.heal();
  const before = two.received.length;
  await until(() => {
    speak();
    return two.received.length > before;
  });
  await Promise.all([one.transport.stop(), two.transport.stop()]);
});

test('a member that is not there is dialled with back-off, not again and again', async () => {
  const network = new RaftNetwork();
  const one = end(network, 1);
  const startMs = clock.nowMs();
  while (clock.nowMs() - startMs < 2_000) {
    one.transport.send(9, '10.0.0.9:2377', Buffer.from('x'));
    await new SystemClock().sleep(1);
  }
  const dials = one.unreachable.length;
  assert.ok(dials >= 2 && dials <= 25, `${dials} dials in two seconds`);
  await one.transport.stop();
});

test('a stream meant for another member is closed and nothing of it is taken', async () => {
  const network = new RaftNetwork();
  const [one, two] = [end(network, 1), end(network, 2)];
  one.transport.send(7, two.self.address, Buffer.from('for seven'));
  await until(() => one.unreachable.includes(7));
  assert.deepEqual(two.received, []);
  await Promise.all([one.transport.stop(), two.transport.stop()]);
});

test('a member that was taken out is told so, and nothing of it is taken', async () => {
  const network = new RaftNetwork();
  const [one, gone] = [end(network, 1), end(network, REMOVED)];
  gone.transport.send(1, one.self.address, Buffer.from('vote for me'));
  await until(() => gone.toldRemoved);
  assert.deepEqual(one.received, []);
  await Promise.all([one.transport.stop(), gone.transport.stop()]);
});

async function* parts(count: number, bytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < count; at += 1) yield new Uint8Array(bytes).fill(at + 1);
}

test('a snapshot larger than the window arrives whole and is acknowledged', async () => {
  const network = new RaftNetwork();
  const [one, two] = [end(network, 1), end(network, 2)];
  let bytes = 0;
  let head = '';
  two.onSnapshot = async (_from, message, chunks) => {
    head = text(message);
    for await (const chunk of chunks) bytes += chunk.length;
  };
  await one.transport.sendSnapshot(2, two.self.address, Buffer.from('head'), parts(20, 700_000));
  assert.equal(head, 'head');
  assert.equal(bytes, 20 * 700_000);
  await Promise.all([one.transport.stop(), two.transport.stop()]);
});

test('a snapshot that is refused or broken off fails at both ends', async () => {
  const network = new RaftNetwork();
  const [one, two] = [end(network, 1), end(network, 2)];
  two.onSnapshot = () => Promise.reject(new Error('no room'));
  await assert.rejects(
    one.transport.sendSnapshot(2, two.self.address, Buffer.from('head'), parts(1, 10)),
    /no room/,
  );
  let broken: unknown;
  two.onSnapshot = async (_from, _message, chunks) => {
    try {
      for await (const chunk of chunks) assert.ok(chunk.length > 0);
    } catch (error) {
      broken = error;
      throw error;
    }
  };
  async function* dying(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(1000);
    throw new Error('the disk failed');
  }
  await assert.rejects(
    one.transport.sendSnapshot(2, two.self.address, Buffer.from('head'), dying()),
    /the disk failed/,
  );
  await until(() => broken !== undefined);
  await Promise.all([one.transport.stop(), two.transport.stop()]);
});

test('a leader that hangs up is looked for, and gone only when nobody listens there', async () => {
  const network = new RaftNetwork();
  const [one, three] = [end(network, 1), end(network, 3)];
  let asked = 0;
  const raise = (): End => {
    const two = end(network, LEADER);
    network.listen(two.self.address, (stream, kind) => {
      asked += 1;
      two.transport.acceptStream(stream, kind);
    });
    two.transport.send(1, one.self.address, Buffer.from('hello'));
    three.transport.send(1, one.self.address, Buffer.from('hello'));
    return two;
  };
  const first = raise();
  await until(() => one.received.length === 2);
  await first.transport.stop();
  await until(() => asked === 1);
  assert.deepEqual(one.gone, []);
  const second = raise();
  await until(() => one.received.length === 4);
  network.close(second.self.address);
  network.close(three.self.address);
  await Promise.all([second.transport.stop(), three.transport.stop()]);
  await until(() => one.gone.length > 0);
  assert.deepEqual(one.gone, [LEADER]);
});

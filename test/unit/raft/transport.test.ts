/**
 * Streams between managers: batches in order, a dead path found by its silence and dialled anew, a
 * stranger turned away, snapshots whole or not at all. In memory; no sockets.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { ByteRate } from '../../../manager/raft/snapshotStream.ts';
import { StreamTransport } from '../../../manager/raft/transport.ts';
import type {
  MemberAddress,
  SnapshotChunks,
  TransportHandler,
} from '../../../manager/raft/types.ts';
import { FastClock } from '../../support/raftCluster.ts';
import { RaftNetwork } from '../../support/raftNetwork.ts';
import { until as bounded } from '../../support/until.ts';

const clock = new FastClock();
const REMOVED = 8;
const LEADER = 2;
const WAIT_MS = 60_000;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

interface End {
  readonly self: MemberAddress;
  readonly transport: StreamTransport;
  readonly received: string[];
  readonly unreachable: number[];
  readonly hellos: string[];
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
  const hellos: string[] = [];
  const gone: number[] = [];
  const onSnapshot = (): Promise<void> => Promise.reject(new Error('not expected'));
  const made: End = {
    self,
    transport,
    received,
    unreachable,
    hellos,
    gone,
    onSnapshot,
    toldRemoved: false,
  };
  transport.start({
    onMessage: (from, bytes) => received.push(`${from.id}:${text(bytes)}`),
    onSnapshot: (from, bytes, chunks) => made.onSnapshot(from, bytes, chunks),
    onHello: (from) => hellos.push(`${from.id}@${from.address}`),
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

const until = (condition: () => boolean): Promise<boolean> =>
  bounded('what is waited for', WAIT_MS, condition);

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
  const tookMs = (): number => clock.nowMs() - startMs;
  await until(() => {
    one.transport.send(9, '10.0.0.9:2377', Buffer.from('x'));
    return tookMs() >= 2_000 && one.unreachable.length >= 5;
  });
  const dials = one.unreachable.length;
  assert.ok(dials <= 25 * (tookMs() / 2_000), `${dials} dials in ${tookMs()} ms`);
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

test('a member that says where it is needs no message for it, and hears that it is out', async () => {
  const network = new RaftNetwork();
  const [one, three, gone] = [end(network, 1), end(network, 3), end(network, REMOVED)];
  three.transport.announce(1, one.self.address);
  await until(() => one.hellos.length === 1);
  gone.transport.announce(1, one.self.address);
  await until(() => gone.toldRemoved);
  assert.deepEqual([one.hellos, one.received], [[`3@${three.self.address}`], []]);
  assert.equal(three.toldRemoved, false);
  await Promise.all([one, three, gone].map(({ transport }) => transport.stop()));
});

function parts(count: number, bytes: number): SnapshotChunks {
  return async function* (fromByte) {
    for (let at = 0; at < count; at += 1) {
      const skip = Math.max(0, fromByte - at * bytes);
      if (skip < bytes) yield new Uint8Array(bytes).fill(at + 1).subarray(skip);
    }
  };
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
    one.transport.sendSnapshot(2, two.self.address, Buffer.from('head'), dying),
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

/** Its timers alone would keep no process running. */
async function settled<T>(work: Promise<T>): Promise<T> {
  let isOver = false;
  const over = (): void => {
    isOver = true;
  };
  work.then(over, over);
  await until(() => isOver);
  return work;
}

/** Notes from where each stream went on, and what the receiver was given. */
function resumable(network: RaftNetwork) {
  const [one, two] = [end(network, 1), end(network, 2)];
  const froms: number[] = [];
  const whole = parts(40, 500_000);
  const chunks: SnapshotChunks = (fromByte) => {
    froms.push(fromByte);
    return whole(fromByte);
  };
  const found = { bytes: 0, sum: 0, calls: 0, gate: async (): Promise<void> => {} };
  two.onSnapshot = async (_from, _message, given) => {
    found.calls += 1;
    found.bytes = 0;
    found.sum = 0;
    for await (const chunk of given) {
      await found.gate();
      const first = (1000 - (found.bytes % 1000)) % 1000;
      for (let at = first; at < chunk.length; at += 1000) found.sum += chunk[at];
      found.bytes += chunk.length;
    }
  };
  const send = (): Promise<void> =>
    settled(one.transport.sendSnapshot(2, two.self.address, Buffer.from('head'), chunks));
  const stop = (): Promise<unknown> => Promise.all([one.transport.stop(), two.transport.stop()]);
  return { one, two, froms, found, send, stop };
}
const SUM = (500 * 40 * 41) / 2;

test('a snapshot whose stream is cut goes on where it was, and is given out once', async () => {
  const network = new RaftNetwork();
  const { froms, found, send, stop } = resumable(network);
  let cuts = 0;
  found.gate = async () => {
    if (found.bytes < (cuts + 1) * 5_000_000 || cuts >= 3) return;
    cuts += 1;
    network.breakStreams();
  };
  await send();
  assert.equal(cuts, 3);
  assert.equal(found.calls, 1);
  assert.deepEqual([found.bytes, found.sum], [20_000_000, SUM]);
  assert.equal(froms.length, 4);
  assert.equal(froms[0], 0);
  for (const [at, from] of froms.slice(1).entries()) {
    assert.ok(from >= (at + 1) * 5_000_000, `stream ${at + 2} began at ${from}`);
  }
  await stop();
});

test('a snapshot whose path falls silent goes on once it is healed', async () => {
  const network = new RaftNetwork();
  const { two, froms, found, send, stop } = resumable(network);
  let cut = false;
  found.gate = async () => {
    if (cut || found.bytes < 8_000_000) return;
    cut = true;
    network.isolate(two.self.address);
    setTimeout(() => network.heal(), 100); // so long it is silent: no wait for anything
  };
  await send();
  assert.equal(found.calls, 1);
  assert.deepEqual([found.bytes, found.sum], [20_000_000, SUM]);
  assert.ok(froms.length >= 2 && froms[froms.length - 1] >= 8_000_000, String(froms));
  await stop();
});

test('what was stored while nobody could be told is not sent again', async () => {
  const network = new RaftNetwork();
  const { froms, found, send, stop } = resumable(network);
  let broken = false;
  found.gate = async () => {
    // All of it has been sent: the end is on its way, or there.
    if (broken || found.bytes < 20_000_000 - 500_000) return;
    await clock.sleep(40);
    broken = true;
    network.breakStreams();
  };
  await send();
  assert.equal(found.calls, 1);
  assert.equal(found.bytes, 20_000_000);
  assert.equal(froms.filter((from) => from < 19_000_000).length, 1);
  await stop();
});

test('a snapshot that does not come back makes way for another one', async () => {
  const network = new RaftNetwork();
  const { one, two, found, send, stop } = resumable(network);
  const third = end(network, 3);
  const errors: unknown[] = [];
  const { onSnapshot } = two;
  two.onSnapshot = (from, message, chunks) =>
    onSnapshot(from, message, chunks).catch((error: unknown) => {
      errors.push(error);
      throw error;
    });
  found.gate = async () => {
    if (found.bytes < 5_000_000) return;
    found.gate = async () => {};
    await one.transport.stop();
  };
  await assert.rejects(send(), /stopped|closed|cut/);
  const message = Buffer.from('another head');
  await third.transport.sendSnapshot(2, two.self.address, message, parts(40, 500_000));
  assert.equal(errors.length, 1);
  assert.equal(found.calls, 2);
  assert.deepEqual([found.bytes, found.sum], [20_000_000, SUM]);
  await Promise.all([stop(), third.transport.stop()]);
});

/**
 * Begins a snapshot, loses its sender in a way of the test's own, and tells why it was given up.
 */
async function givenUp(lose: (network: RaftNetwork, sender: End) => void): Promise<string> {
  const network = new RaftNetwork();
  const { one, two, found, send, stop } = resumable(network);
  let failed: unknown;
  const { onSnapshot } = two;
  two.onSnapshot = (from, message, chunks) =>
    onSnapshot(from, message, chunks).catch((error: unknown) => {
      failed = error;
      throw error;
    });
  found.gate = async () => {
    found.gate = async () => {};
    lose(network, one);
    await one.transport.stop();
  };
  await assert.rejects(send());
  await until(() => failed !== undefined);
  await stop();
  return String(failed);
}

test('a snapshot whose sender never comes back is given up', async () => {
  const why = /broke off after \d+ bytes, and its sender did not come back/;
  assert.match(await givenUp(() => {}), why);
  // Gone without a word: no stream ends.
  assert.match(await givenUp((network, sender) => network.isolate(sender.self.address)), why);
});

test('snapshots leave no faster than their rate, all receivers together', async () => {
  const startMs = clock.nowMs();
  const rate = new ByteRate(clock, 10_000_000);
  await Promise.all(
    [1, 2].map(async () => {
      for (let at = 0; at < 10; at += 1) await rate.take(500_000);
    }),
  );
  // The last one goes when the nine and ten before it are through.
  const tookMs = clock.nowMs() - startMs;
  assert.ok(tookMs >= 900, `${tookMs} ms`);
});

/**
 * A member's data key is changed while it works: what follows is sealed with the new one, what
 * older ones sealed is replaced by a snapshot, and only then are they forgotten. Whenever it is
 * stopped meanwhile, the keys that are kept at that moment open what is on the disk.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { silentLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { SEAL_KEY_BYTES, Seal } from '../../../base/seal.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { recoverWal } from '../../../manager/raft/disk/recovery.ts';
import { RaftNode } from '../../../manager/raft/node.ts';
import { StreamTransport } from '../../../manager/raft/transport.ts';
import { MemoryFiles } from '../../support/memoryFiles.ts';
import { threadOn } from '../../support/memoryThread.ts';
import { FastClock, ListMachine } from '../../support/raftCluster.ts';
import { RaftNetwork } from '../../support/raftNetwork.ts';
import { until } from '../../support/until.ts';

const random = new SystemRandom();
const newKey = (): Uint8Array => random.bytes(SEAL_KEY_BYTES);
const SELF = { id: 1, address: '10.0.0.1:2377' };
const DIRECTORY = '/member';
const SEGMENT_BYTES = 64 * 1024;
const WAIT_MS = 60_000;
const clock = new FastClock();

const opened = new Set<Member>();

afterEach(async () => {
  for (const member of opened) await member.stop();
});

class Member {
  readonly machine = new ListMachine();
  /** As the key file has them: the one in use first. */
  keys: readonly Uint8Array[];
  settled = 0;
  #node: RaftNode | undefined;

  private constructor(keys: readonly Uint8Array[]) {
    this.keys = keys;
  }

  static async open(
    files: MemoryFiles,
    keys: readonly Uint8Array[],
    first = false,
  ): Promise<Member> {
    const member = new Member(keys);
    opened.add(member);
    const [key, ...olderKeys] = keys;
    const onFatal = (error: Error): void => {
      throw error;
    };
    const common = { clock, random, log: silentLog, onFatal };
    const dialer = new RaftNetwork().dialerOf(SELF.address);
    const disk = await DiskStore.open({
      ...common,
      ...{ directory: DIRECTORY, nodeId: SELF.id, segmentBytes: SEGMENT_BYTES },
      ...{ files, startThread: threadOn(files) },
      ...(key === undefined ? {} : { seal: { key, olderKeys, random } }),
    });
    const node = await RaftNode.open({
      ...common,
      ...{ id: SELF.id, dir: DIRECTORY, disk, stateMachine: member.machine },
      transport: new StreamTransport({ self: SELF, dialer, clock, random, log: silentLog }),
      ...(first ? { bootstrap: { voters: [SELF] } } : {}),
      onSealSettled: () => {
        member.settled += 1;
        member.keys = member.keys.slice(0, 1);
      },
    });
    member.#node = node;
    await until('it leads', WAIT_MS, () => node.isLeader);
    return member;
  }

  /** As the daemon does: the new key is kept, then used. */
  rotate(): void {
    const key = newKey();
    this.keys = [key, ...this.keys];
    this.#node?.rotateSealKey(key);
  }

  async write(count: number): Promise<void> {
    const texts = Array.from({ length: count }, (_, at) => `${at} ${'x'.repeat(800)}`);
    await Promise.all(texts.map((text) => this.#node?.propose(Buffer.from(text))));
  }

  async stop(): Promise<void> {
    opened.delete(this);
    await this.#node?.stop({ transfer: false });
  }
}

test('a key is changed while writes go on, and the old one opens nothing any more', async () => {
  const files = new MemoryFiles();
  const old = newKey();
  let member = await Member.open(files, [old], true);
  await member.write(300);
  const writing = member.write(100);
  member.rotate();
  await Promise.all([writing, member.write(100)]);
  await until('the old key is forgotten', WAIT_MS, () => member.keys.length === 1);
  await member.write(1);
  const { commands } = member.machine;
  assert.equal(commands.length, 501);
  const { keys } = member;
  await member.stop();
  member = await Member.open(files, keys);
  assert.deepEqual(member.machine.commands, commands);
  assert.equal(member.settled, 0);
  await member.stop();
  const oldSeal = new Seal(old, random);
  assert.throws(() => recoverWal(`${DIRECTORY}/wal`, oldSeal, files), /sealed with another key/);
});

test('a member that ends at any moment of the change opens with the keys it kept', async () => {
  const files = new MemoryFiles();
  const moments: { files: MemoryFiles; keys: readonly Uint8Array[]; count: number }[] = [];
  const member = await Member.open(files, [newKey()], true);
  await member.write(200);
  files.onChange = () => {
    const { keys, machine } = member;
    moments.push({ files: files.copy(), keys, count: machine.commands.length });
  };
  for (let round = 0; round < 2; round += 1) {
    member.rotate();
    const writing = member.write(2);
    // The second is changed before it is settled.
    if (round === 1) member.rotate();
    await writing;
    await member.write(2);
    await until('it settles', WAIT_MS, () => member.keys.length === 1);
    await member.write(1);
  }
  files.onChange = () => {};
  const { commands } = member.machine;
  await member.stop();
  const kept = new Set(moments.map(({ keys }) => keys.length));
  assert.deepEqual([...kept].sort(), [1, 2, 3]);
  for (const [at, moment] of moments.entries()) {
    const again = await Member.open(moment.files, moment.keys);
    const found = again.machine.commands;
    assert.ok(found.length >= moment.count, `moment ${at}: ${found.length} of ${moment.count}`);
    assert.deepEqual(found, commands.slice(0, found.length));
    await until(`moment ${at} settles`, WAIT_MS, () => again.keys.length === 1);
    await again.stop();
    const settled = await Member.open(moment.files, again.keys);
    assert.deepEqual(settled.machine.commands, found);
    await settled.stop();
  }
});

test('what was written before there was a key is sealed by and by', async () => {
  const files = new MemoryFiles();
  const clear = await Member.open(files, [], true);
  await clear.write(3);
  await clear.stop();
  const inClear = (): boolean =>
    ['wal', 'snap'].some((room) =>
      files
        .list(`${DIRECTORY}/${room}`)
        .some((name) => files.read(`${DIRECTORY}/${room}/${name}`).includes('xxxx')),
    );
  assert.ok(inClear());
  const member = await Member.open(files, [newKey()]);
  await until('it is settled', WAIT_MS, () => member.settled === 1);
  assert.ok(!inClear());
  assert.deepEqual(member.machine.commands, clear.machine.commands);
  await member.stop();
});

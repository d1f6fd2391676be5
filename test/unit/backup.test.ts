/**
 * The file of a backup: what goes in comes out, sealed or not; and a file that was cut, garbled,
 * made by a newer program or sealed with another key is one error and never half believed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { SystemRandom } from '../../base/random.ts';
import { inspectBackup, readBackup, saveBackup } from '../../daemon/backup.ts';
import { unlockKeyText } from '../../daemon/keyFile.ts';
import { Replica } from '../../manager/replica.ts';
import { cluster, node } from '../support/objects.ts';

const clock = new SystemClock();
const random = new SystemRandom();
const KEY = 'ab'.repeat(32);
const OTHER = 'cd'.repeat(32);

function replicaOf(unlockKey: string): Replica {
  const replica = new Replica({ clock });
  replica.attach({
    propose: async () => ({ index: 0, term: 0 }),
    readIndex: async () => 0,
    isLeader: true,
  });
  const changes = [
    { kind: 'create', table: 'cluster', object: { ...cluster(), unlockKey } },
    { kind: 'create', table: 'node', object: node('manager-one', 1, { role: 'manager' }) },
    { kind: 'create', table: 'node', object: node('w1', 2) },
  ] as const;
  const { rejected } = replica.store.apply(7, 1_700_000_000_000, { atomic: true, changes });
  assert.deepEqual(rejected, []);
  return replica;
}

async function fileOf(unlockKey = ''): Promise<Buffer> {
  const replica = replicaOf(unlockKey);
  const parts: Uint8Array[] = [];
  const term = (): number => 3;
  const options = { clock, random, replica, hostname: 'h1', term };
  for await (const part of await saveBackup(options)) parts.push(part);
  return Buffer.concat(parts);
}

/** In parts of seven bytes, so that nothing rests on how it comes. */
async function* streamOf(file: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += 7) yield file.subarray(at, at + 7);
}

const read = (file: Uint8Array, unlockKey = '') =>
  readBackup(streamOf(file), { clock, random, unlockKey });
const inspect = (file: Uint8Array, unlockKey = '') =>
  inspectBackup(streamOf(file), { clock, random, unlockKey });

async function refusal(work: Promise<unknown>): Promise<SwarmError> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof SwarmError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was refused' });
}

test('a backup holds the store as of one version', async () => {
  const file = await fileOf();
  const { head, replica } = await read(file);
  assert.deepEqual([head.version, head.term, head.hostname, head.sealed], [7, 3, 'h1', false]);
  assert.equal(head.counts.node, 2);
  assert.equal(replica.store.hash(), replicaOf('').store.hash());
  const { bytes, opened } = await inspect(file);
  assert.deepEqual([bytes, opened], [file.length, true]);
});

test('what changes after the call is not in it', async () => {
  const replica = replicaOf('');
  const options = { clock, random, replica, hostname: 'h1', term: () => 3 };
  const file = await saveBackup(options);
  const changes = [{ kind: 'remove', table: 'node', id: 'w1' }] as const;
  replica.store.apply(8, 1_700_000_000_001, { atomic: true, changes });
  const parts: Uint8Array[] = [];
  for await (const part of file) parts.push(part);
  const restored = (await read(Buffer.concat(parts))).replica.store;
  assert.deepEqual([restored.version, restored.count('node')], [7, 2]);
});

test('a backup that nobody goes on reading holds no old records', async () => {
  const replica = replicaOf('');
  const options = { clock, random, replica, hostname: 'h1', term: () => 3 };
  for (const read of [0, 1]) {
    const file = (await saveBackup(options))[Symbol.asyncIterator]();
    for (let part = 0; part < read; part += 1) await file.next();
    assert.equal(replica.store.pins, 1);
    await file.return?.();
    assert.equal(replica.store.pins, 0, `after ${read} parts`);
  }
});

test('a locked swarm’s backup is sealed: nothing of it is read without the key of that time', async () => {
  const file = await fileOf(KEY);
  // Long enough that sealed bytes do not hold it by chance.
  assert.ok((await fileOf()).includes('manager-one'));
  assert.ok(!file.includes('manager-one'));
  assert.deepEqual((await inspect(file)).opened, false);
  assert.equal((await inspect(file, unlockKeyText(KEY))).opened, true);
  assert.match((await refusal(read(file))).message, /sealed with the unlock key.*give that key/);
  const wrong = await refusal(read(file, unlockKeyText(OTHER)));
  assert.match(wrong.message, /this is another key/);
  const { replica } = await read(file, unlockKeyText(KEY));
  assert.equal(replica.store.cluster()?.unlockKey, KEY);
});

test('a file cut anywhere, or with any byte changed, is refused in one line', async () => {
  for (const unlockKey of ['', KEY]) {
    const file = await fileOf(unlockKey);
    const given = unlockKey === '' ? '' : unlockKeyText(unlockKey);
    for (let at = 0; at < file.length; at += 1) {
      await refusal(read(file.subarray(0, at), given));
      const garbled = Buffer.from(file);
      garbled[at] ^= 0x41;
      await refusal(read(garbled, given));
      await refusal(inspect(garbled));
    }
    await refusal(read(Buffer.concat([file, Buffer.from([0])]), given));
  }
});

test('a newer format is named, and what is no backup is called that', async () => {
  const file = await fileOf();
  file.writeUInt32LE(2, 8);
  const newer = await refusal(inspect(file));
  assert.equal(newer.code, 'unsupported');
  assert.match(newer.message, /has format 2, and this tsswarm knows 1/);
  assert.match((await refusal(inspect(Buffer.from('x')))).message, /this is no backup/);
});

test('a head that is no head is damage', async () => {
  for (const head of ['null', '3', '{}', '{"sealed":false,"version":-5,"counts":null}']) {
    const start = Buffer.alloc(16);
    start.write('TSSWMBAK');
    start.writeUInt32LE(1, 8);
    start.writeUInt32LE(head.length, 12);
    const error = await refusal(inspect(Buffer.concat([start, Buffer.from(head)])));
    assert.equal(error.code, 'corrupt');
    assert.match(error.message, /a damaged head/);
  }
});

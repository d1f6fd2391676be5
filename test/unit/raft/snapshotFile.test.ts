/**
 * One snapshot's file: whatever of it is damaged or missing, it is refused by file and offset and
 * never half believed; it takes its place only when it is whole.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../../base/errors.ts';
import { SeededRandom } from '../../../base/random.ts';
import { Seal } from '../../../base/seal.ts';
import { EMPTY_CONF_STATE } from '../../../manager/raft/core/types.ts';
import {
  SnapshotReader,
  snapshotPath,
  writeSnapshot,
} from '../../../manager/raft/disk/snapshotFile.ts';
import { MemoryFiles } from '../../support/memoryFiles.ts';

const DIRECTORY = '/snap';
const META = { index: 70, term: 3, confState: EMPTY_CONF_STATE, data: Buffer.from('members') };
const CHUNKS = ['first', 'the second chunk', 'third'];
const FILE = snapshotPath(DIRECTORY, META);

async function* chunks(): AsyncGenerator<Uint8Array> {
  for (const chunk of CHUNKS) yield Buffer.from(chunk);
}

async function written(files: MemoryFiles, seal: Seal | undefined): Promise<Buffer> {
  await writeSnapshot(files, DIRECTORY, META, chunks(), 'own.part', seal);
  assert.deepEqual(files.list(DIRECTORY).length, 1);
  return files.read(FILE);
}

async function read(files: MemoryFiles, seal: Seal | undefined): Promise<string[]> {
  const reader = await SnapshotReader.open(files, DIRECTORY, META, seal);
  const found: string[] = [];
  try {
    for await (const chunk of reader.chunks()) found.push(Buffer.from(chunk).toString());
  } finally {
    await reader.close();
  }
  return found;
}

for (const sealed of [false, true]) {
  const how = sealed ? 'sealed' : 'in the clear';
  const seal = sealed ? new Seal(new Uint8Array(32).fill(3), new SeededRandom(1)) : undefined;
  const isRefusal = (error: unknown): boolean => {
    assert.ok(hasCode(error, 'corrupt'), String(error));
    assert.ok(error.message.startsWith(FILE), error.message);
    assert.match(error.message, /at byte \d+; .*let it join again/);
    return true;
  };

  test(`a snapshot ${how} with any one bit flipped is refused`, async () => {
    const files = new MemoryFiles();
    const whole = await written(files, seal);
    assert.deepEqual(await read(files, seal), CHUNKS);
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      files.put(FILE, damaged);
      await assert.rejects(read(files, seal), isRefusal, `bit ${bit}`);
    }
  });

  test(`a snapshot ${how} that ends early, wherever, is refused`, async () => {
    const files = new MemoryFiles();
    const whole = await written(files, seal);
    for (let cut = 0; cut < whole.length; cut += 1) {
      files.put(FILE, whole.subarray(0, cut));
      await assert.rejects(read(files, seal), isRefusal, `cut at ${cut}`);
    }
  });
}

test('a snapshot is synced before it takes its name, and its name is synced', async () => {
  const done: string[] = [];
  const files = new (class extends MemoryFiles {
    override async create(file: string) {
      const made = await super.create(file);
      const sync = async (): Promise<void> => void done.push('sync');
      return { ...made, sync };
    }
    override rename(from: string, to: string): void {
      done.push('rename');
      super.rename(from, to);
    }
    override syncDirectory(): void {
      done.push('directory');
    }
  })();
  await written(files, undefined);
  assert.deepEqual(done, ['sync', 'rename', 'directory']);
});

test('a snapshot that breaks off leaves nothing, and the one before it as it was', async () => {
  const files = new MemoryFiles();
  const before = Buffer.from(await written(files, undefined));
  async function* breaks(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('some');
    throw new Error('cut off');
  }
  await assert.rejects(writeSnapshot(files, DIRECTORY, META, breaks(), 'own.part'), /cut off/);
  assert.equal(files.list(DIRECTORY).length, 1);
  assert.deepEqual(files.read(FILE), before);
});

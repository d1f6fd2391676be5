/**
 * The crash matrix of the log: for every append of a recorded run, every class of what a crash may
 * leave of the sectors that were not synced yet, cuts at every byte, and bit rot. A log opens to
 * what was acknowledged (with or without the append under way), or is refused; what opened is
 * appended to and opens again.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { hasCode } from '../../../base/errors.ts';
import { SeededRandom } from '../../../base/random.ts';
import { Seal } from '../../../base/seal.ts';
import { ByteWriter } from '../../../manager/raft/bytes.ts';
import { SECTOR_BYTES } from '../../../manager/raft/disk/frame.ts';
import { encodeHead, writeEntryRecord } from '../../../manager/raft/disk/records.ts';
import { recoverWal, segmentName, type WalState } from '../../../manager/raft/disk/recovery.ts';
import { SegmentWriter } from '../../../manager/raft/disk/segmentWriter.ts';
import { MemoryFiles } from '../../support/memoryFiles.ts';
import {
  differs,
  type Moment,
  RUN_NODE,
  RUN_SEGMENT_BYTES,
  recordRun,
  runEntry,
} from '../../support/walRun.ts';

const DIRECTORY = '/raft';
const pathOf = (name: string): string => path.join(DIRECTORY, name);
const KEY = new Uint8Array(32).fill(9);
/** Every fate of each of so many sectors; of more, subsets that stand for a class. */
const ALL_FATES_UP_TO = 4;

/** The write that was under way between two moments: its bytes, and what was there before. */
interface UnderWay {
  readonly name: string;
  readonly old: Buffer;
  readonly written: Buffer;
  readonly from: number;
  readonly until: number;
  /** Whole sectors that the write touches. */
  readonly sectors: readonly number[];
}

/** What a crash made of a sector. */
type Fate = 'written' | 'old' | 'zero' | 'random' | 'ones';
const FATES: readonly Fate[] = ['written', 'old', 'zero', 'random', 'ones'];
const GARBAGE: readonly Fate[] = ['random', 'ones'];

for (const key of [undefined, KEY]) {
  describe(`the log, ${key === undefined ? 'in the clear' : 'sealed'},`, () => {
    const files = new MemoryFiles();
    let moments: Moment[] = [];

    before(async () => {
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-matrix-'));
      try {
        moments = await recordRun(directory, key);
      } finally {
        fs.rmSync(directory, { recursive: true, force: true });
      }
    });

    const random = new SeededRandom(4);
    const recover = (): WalState => {
      const state = recoverWal(DIRECTORY, key && new Seal(key, random), files);
      assert.ok(state !== undefined, 'the log is gone');
      return state;
    };

    /** Leaves the segments of `moment` and nothing else. */
    const lay = (moment: Moment): void => {
      files.clear();
      for (const [name, bytes] of moment.files) files.put(pathOf(name), Buffer.from(bytes));
    };

    /** Opens what a crash left; the index of the moment it is at, or undefined: refused. */
    const reopen = (at: number, name: string, bytes: Buffer, how: string): number | undefined => {
      const file = pathOf(name);
      files.put(file, bytes);
      let state: WalState;
      try {
        state = recover();
      } catch (error) {
        assert.ok(hasCode(error, 'corrupt'), `${how}: ${error}`);
        assert.ok(error.message.includes(file), error.message);
        assert.match(error.message, /at byte \d+; .*remove its raft directory/);
        return undefined;
      }
      const before = at === 0 ? 'nothing before' : differs(state, moments[at - 1].promised);
      const after = differs(state, moments[at].promised);
      const wrong = `${how}: neither before (${before}) nor after (${after})`;
      assert.ok(before === undefined || after === undefined, wrong);
      return after === undefined ? at : at - 1;
    };

    const underWay = (at: number): UnderWay => {
      const [before, after] = [moments[at - 1], moments[at]];
      lay(before);
      const { endOffset, segments } = recover();
      lay(after);
      const next = recover();
      const name = [...after.files.keys()].at(-1) ?? '';
      const written = after.files.get(name) ?? Buffer.alloc(0);
      const opens = next.segments.at(-1)?.number !== segments.at(-1)?.number;
      const old = opens ? Buffer.alloc(written.length) : (before.files.get(name) ?? written);
      const from = opens ? 0 : endOffset;
      const until = next.endOffset;
      const sectors: number[] = [];
      for (let sector = Math.floor(from / SECTOR_BYTES); sector * SECTOR_BYTES < until; sector += 1)
        sectors.push(sector);
      return { name, old, written, from, until, sectors };
    };

    const garbled = (write: UnderWay, fates: readonly Fate[]): Buffer => {
      const bytes = Buffer.from(write.written);
      for (const [at, fate] of fates.entries()) {
        const from = write.sectors[at] * SECTOR_BYTES;
        const until = from + SECTOR_BYTES;
        if (fate === 'old') write.old.copy(bytes, from, from, until);
        else if (fate === 'random') bytes.set(random.bytes(SECTOR_BYTES), from);
        else if (fate !== 'written') bytes.fill(fate === 'zero' ? 0 : 255, from, until);
      }
      return bytes;
    };

    test('opens to what was acknowledged at every moment of the run', () => {
      for (const [at, moment] of moments.entries()) {
        lay(moment);
        assert.equal(differs(recover(), moment.promised), undefined, moment.what);
        if (at > 0) assert.ok(underWay(at).sectors.length > 0, moment.what);
      }
      assert.ok(moments.some(({ files }) => files.size > 1));
      assert.ok((moments.at(-1)?.files.has('0000000000000001.wal') ?? true) === false);
    });

    test('loses nothing acknowledged, whichever sectors a crash left out or garbled', async () => {
      const counts = { before: 0, after: 0, refused: 0 };
      for (let at = 1; at < moments.length; at += 1) {
        const write = underWay(at);
        lay(moments[at]);
        for (const fates of allFates(write.sectors.length)) {
          const how = `${moments[at].what}: sectors ${fates}`;
          const found = reopen(at, write.name, garbled(write, fates), how);
          const lost = fates.every((fate) => !GARBAGE.includes(fate));
          if (found === undefined) assert.ok(!lost, `${how}: refused`);
          else await appendAndReopen(found, how);
          if (found === undefined) counts.refused += 1;
          else counts[found === at ? 'after' : 'before'] += 1;
          lay(moments[at]);
        }
      }
      assert.ok(Math.min(counts.before, counts.refused) > 100, JSON.stringify(counts));
    });

    test('opens to what was acknowledged when a write broke off at any byte', () => {
      for (let at = 1; at < moments.length; at += 1) {
        const { name, written, old, from, until } = underWay(at);
        lay(moments[at]);
        for (let cut = from; cut < until; cut += 1) {
          const bytes = Buffer.concat([written.subarray(0, cut), old.subarray(cut)]);
          const how = `${moments[at].what}: cut at ${cut}`;
          assert.notEqual(reopen(at, name, bytes, how), undefined, how);
        }
      }
    });

    test('is refused when a segment is shorter than it was made, wherever it ends', () => {
      for (const moment of moments.filter((_, at) => at % 3 === 0 || at === moments.length - 1)) {
        lay(moment);
        for (const [name, bytes] of moment.files) {
          for (let cut = 0; cut < bytes.length; cut += 1) {
            files.put(pathOf(name), bytes.subarray(0, cut));
            assert.throws(recover, (error) => hasCode(error, 'corrupt'), `${name} cut at ${cut}`);
          }
          files.put(pathOf(name), Buffer.from(bytes));
        }
      }
    });

    test('is refused for one flipped bit, wherever something was written', () => {
      const last = moments[moments.length - 1];
      lay(last);
      const { endOffset, segments } = recover();
      for (const [name, bytes] of last.files) {
        const isLast = name === segmentName(segments.at(-1)?.number ?? 0);
        const damaged = Buffer.from(bytes);
        files.put(pathOf(name), damaged);
        for (let at = 0; at < (isLast ? endOffset : bytes.length); at += 1) {
          damaged[at] ^= 1 << (at % 8);
          assert.throws(recover, (error) => hasCode(error, 'corrupt'), `${name}: flip at ${at}`);
          damaged[at] = bytes[at];
        }
      }
    });

    /** After a crash at moment `at`: an entry is appended, and found with all before it. */
    const appendAndReopen = async (at: number, how: string): Promise<void> => {
      const { promised } = moments[at];
      const state = recover();
      const { segments, endOffset, nextSequence, hardState, snapshot, nodeId } = state;
      const writer = new SegmentWriter(
        {
          directory: DIRECTORY,
          segmentBytes: RUN_SEGMENT_BYTES,
          segments,
          endOffset,
          nextSequence,
          sealKey: key,
        },
        random,
        files,
      );
      const entry = runEntry(promised.last.index + 1, 50, promised.last.term);
      const body = new ByteWriter();
      writeEntryRecord(body, entry);
      const head = encodeHead({ nodeId, hardState, snapshot, last: promised.last });
      const batch = { head, body: body.take(), maxIndex: entry.index };
      if (!writer.fits(batch)) assert.ok(await writer.makeSpare());
      writer.write(batch);
      await writer.close();
      const entries = new Map(promised.entries).set(entry.index, entry);
      const last = { index: entry.index, term: entry.term };
      const then = recover();
      assert.equal(then.nodeId, RUN_NODE);
      assert.equal(differs(then, { ...promised, entries, last }), undefined, `${how}, appended to`);
      assert.equal(then.tornCopy, undefined, 'repaired once and for all');
    };
  });
}

/** Every combination for few sectors; for many each fate for singles, pairs, prefixes, suffixes. */
function allFates(count: number): Fate[][] {
  if (count <= ALL_FATES_UP_TO) {
    let found: Fate[][] = [[]];
    for (let at = 0; at < count; at += 1) {
      found = found.flatMap((fates) => FATES.map((fate) => [...fates, fate]));
    }
    return found;
  }
  const subsets: ((at: number) => boolean)[] = [];
  for (let one = 0; one < count; one += 1) {
    subsets.push(
      (at) => at <= one,
      (at) => at >= one,
    );
    for (let other = one; other < count; other += 1) {
      subsets.push((at) => at === one || at === other);
    }
  }
  const sectors = Array.from({ length: count }, (_, at) => at);
  return subsets.flatMap((within) =>
    FATES.map((fate) => sectors.map((at) => (within(at) ? fate : 'written'))),
  );
}

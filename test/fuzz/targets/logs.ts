/**
 * A container's log as the reader finds it after anything: frames and JSON lines that are cut,
 * changed or somebody else's. Reading ends, gives only whole records, the end of the log is the end
 * of all of it, and what is asked for in time and number is kept to.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../../base/clock.ts';
import { Signal } from '../../../base/queue.ts';
import type { Random } from '../../../base/random.ts';
import { decodeExitRecord, encodeExitRecord } from '../../../runtime/container/exitRecord.ts';
import {
  encodeLogRecord,
  FRAMES,
  JSON_LINES,
  type LogFormat,
} from '../../../runtime/container/logFormats.ts';
import { logFileName } from '../../../runtime/container/logPacking.ts';
import { readLogs } from '../../../runtime/container/logs.ts';
import type { LogQuery, LogRecord } from '../../../runtime/container/types.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

const directory = mkdtempSync(join(tmpdir(), 'fuzz-logs-'));
const clock = new SystemClock();
const changed = new Signal();

function frame(random: Random): Uint8Array {
  return encodeLogRecord({
    stream: random.below(2) === 0 ? 'stdout' : 'stderr',
    partial: random.below(4) === 0,
    timeNs: BigInt(random.below(2 ** 31)) * 1_000_000_000n,
    data: random.bytes(random.below(random.below(20) === 0 ? 16_384 : 60)),
  });
}

function line(random: Random): Uint8Array {
  const time = new Date(random.below(2 ** 31) * 1000).toISOString();
  const log = `${Buffer.from(random.bytes(random.below(40))).toString('latin1')}\n`;
  const stream = one(random, ['stdout', 'stderr', 'other']);
  return Buffer.from(`${JSON.stringify({ log, stream, time })}\n`);
}

async function read(dir: string, format: LogFormat, query: LogQuery): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  const source = { format, changed, isOver: () => true, clock };
  for await (const record of readLogs(dir, query, source)) records.push(record);
  return records;
}

async function check(dir: string, format: LogFormat, random: Random): Promise<void> {
  const all = await read(dir, format, {});
  for (const { data, timeNs } of all)
    assert.ok(data.length >= 0 && timeNs >= 0n && timeNs < 2n ** 64n);
  const tail = random.below(6);
  const last = await read(dir, format, { tail });
  assert.ok(last.length <= tail);
  const sinceNs = all[random.below(all.length + 1)]?.timeNs ?? 5n;
  const later = await read(dir, format, { sinceNs, stderr: false });
  const wanted = all.filter(({ timeNs, stream }) => timeNs >= sinceNs && stream === 'stdout');
  assert.deepEqual(later, wanted);
}

export const target: FuzzTarget = {
  words: ['\n', '{"log":"', '\\n","stream":"stdout","time":"', '2026-01-01T00:00:00Z"}\n', '\\u'],
  generate(random) {
    const make = random.below(2) === 0 ? frame : line;
    return Buffer.concat(Array.from({ length: random.below(12) }, () => make(random)));
  },
  async run(input, random) {
    const cut = random.below(input.length + 1);
    for (const [name, format] of Object.entries({ frames: FRAMES, lines: JSON_LINES })) {
      const dir = join(directory, name);
      mkdirSync(dir);
      try {
        writeFileSync(join(dir, logFileName(1)), input.subarray(0, cut));
        writeFileSync(join(dir, logFileName(2)), input.subarray(cut));
        await check(dir, format, random);
      } finally {
        rmSync(dir, { recursive: true });
      }
    }
    const record = decodeExitRecord(input);
    const again = decodeExitRecord(encodeExitRecord(record));
    assert.deepEqual(again, record);
  },
  close: () => rmSync(directory, { recursive: true, force: true }),
};

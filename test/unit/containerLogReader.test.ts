/** The log reader against files written as the shim writes them, the shim played by the test. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdtempSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { Signal } from '../../base/queue.ts';
import { encodeLogRecord, FRAMES } from '../../runtime/container/logFormats.ts';
import { logFileName } from '../../runtime/container/logPacking.ts';
import { readLogs } from '../../runtime/container/logs.ts';
import type { LogQuery, LogRecord } from '../../runtime/container/types.ts';

class Writer {
  readonly dir = mkdtempSync(join(tmpdir(), 'container-log-'));
  readonly changed = new Signal();
  isOver = false;
  #file = 1;

  record(timeNs: number, text: string, stream: LogRecord['stream'] = 'stdout'): void {
    const data = Buffer.from(text);
    const record = { timeNs: BigInt(timeNs), stream, data, partial: false };
    appendFileSync(this.path, encodeLogRecord(record));
  }

  get path(): string {
    return join(this.dir, logFileName(this.#file));
  }

  rotate(): void {
    this.#file += 1;
    writeFileSync(this.path, '');
  }

  end(): void {
    this.isOver = true;
    this.changed.emit();
  }

  read(query: LogQuery = {}): AsyncGenerator<LogRecord> {
    return readLogs(this.dir, query, {
      clock: new SystemClock(),
      format: FRAMES,
      isOver: () => this.isOver,
      changed: this.changed,
    });
  }

  async texts(query: LogQuery = {}): Promise<string[]> {
    const texts: string[] = [];
    for await (const record of this.read(query)) texts.push(Buffer.from(record.data).toString());
    return texts;
  }
}

async function withWriter(body: (writer: Writer) => Promise<void>): Promise<void> {
  const writer = new Writer();
  try {
    await body(writer);
  } finally {
    rmSync(writer.dir, { recursive: true });
  }
}

function fill(writer: Writer): void {
  for (let i = 1; i <= 9; i += 1) {
    writer.record(i * 10, `line ${i}`, i % 2 === 0 ? 'stderr' : 'stdout');
    if (i % 3 === 0) writer.rotate();
  }
}

test('records come back whole and in order across files', () =>
  withWriter(async (writer) => {
    fill(writer);
    const records: LogRecord[] = [];
    for await (const record of writer.read()) records.push(record);
    assert.deepEqual(
      records.map((record) => [Number(record.timeNs), record.stream, record.partial]),
      [1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => [i * 10, i % 2 === 0 ? 'stderr' : 'stdout', false]),
    );
  }));

test('a log that is not there is empty', () =>
  withWriter(async (writer) => {
    assert.deepEqual(await writer.texts(), []);
    assert.deepEqual(await writer.texts({ tail: 5 }), []);
  }));

test('since, until, stream and tail limit what is given', () =>
  withWriter(async (writer) => {
    fill(writer);
    assert.deepEqual(await writer.texts({ sinceNs: 30n, untilNs: 50n }), [
      'line 3',
      'line 4',
      'line 5',
    ]);
    assert.deepEqual(await writer.texts({ tail: 2 }), ['line 8', 'line 9']);
    assert.deepEqual(await writer.texts({ tail: 3, stdout: false }), [
      'line 4',
      'line 6',
      'line 8',
    ]);
    assert.deepEqual(await writer.texts({ tail: 2, untilNs: 40n }), ['line 3', 'line 4']);
    assert.deepEqual(await writer.texts({ tail: 100, stderr: false, sinceNs: 60n }), [
      'line 7',
      'line 9',
    ]);
  }));

test('a frame that is torn is not there yet, and ends nothing before it', () =>
  withWriter(async (writer) => {
    writer.record(1, 'whole');
    writer.record(2, 'torn by a crash');
    truncateSync(writer.path, statSync(writer.path).size - 3);
    assert.deepEqual(await writer.texts(), ['whole']);
    assert.deepEqual(await writer.texts({ tail: 1 }), ['whole']);
    writer.rotate();
    writer.record(3, 'after');
    assert.deepEqual(await writer.texts(), ['whole', 'after']);
    assert.deepEqual(await writer.texts({ tail: 2 }), ['whole', 'after']);
  }));

test('following gives what is written later, over a rotation, until the end', () =>
  withWriter(async (writer) => {
    writer.record(1, 'early');
    const reader = writer.read({ follow: true });
    const next = async (): Promise<string> => {
      const result = await reader.next();
      return result.done === true ? 'end' : Buffer.from(result.value.data).toString();
    };
    assert.equal(await next(), 'early');
    const pending = next();
    writer.record(2, 'later');
    assert.equal(await pending, 'later');
    writer.record(3, 'last of this file');
    writer.rotate();
    writer.record(4, 'first of the next');
    assert.equal(await next(), 'last of this file');
    assert.equal(await next(), 'first of the next');
    const ending = next();
    writer.end();
    assert.equal(await ending, 'end');
  }));

test('a follower that fell behind goes on with the oldest file that is left', () =>
  withWriter(async (writer) => {
    writer.record(1, 'one');
    const reader = writer.read({ follow: true });
    assert.equal(Buffer.from((await reader.next()).value?.data ?? []).toString(), 'one');
    for (let i = 2; i <= 5; i += 1) {
      const old = writer.path;
      writer.rotate();
      writer.record(i, `file ${i}`);
      if (i <= 4) rmSync(old);
    }
    writer.end();
    const rest: string[] = [];
    for await (const record of reader) rest.push(Buffer.from(record.data).toString());
    assert.deepEqual(rest, ['file 4', 'file 5']);
  }));

test('a log of many windows is read whole, forwards and from its tail', () =>
  withWriter(async (writer) => {
    const lines = Array.from({ length: 3000 }, (_, i) => `${i} ${'x'.repeat((i * 7) % 300)}`);
    lines.forEach((line, i) => {
      writer.record(i, line);
    });
    assert.deepEqual(await writer.texts(), lines);
    for (const tail of [1, 999, 2999, 3000]) {
      assert.deepEqual(await writer.texts({ tail }), lines.slice(-tail));
    }
  }));

test('aborting ends a follower that waits', () =>
  withWriter(async (writer) => {
    const abort = new AbortController();
    const reading = writer.texts({ follow: true, signal: abort.signal });
    abort.abort();
    assert.deepEqual(await reading, []);
  }));

test('a damaged place in a file ends the search for the tail', () =>
  withWriter(async (writer) => {
    writer.record(1, 'before');
    appendFileSync(writer.path, Buffer.alloc(100_000));
    writer.record(2, 'after');
    assert.deepEqual(await writer.texts({ tail: 5 }), ['after']);
    assert.deepEqual(await writer.texts({ tail: 1 }), ['after']);
  }));

/**
 * What a log trusts at its start: the last batch may be in the system's memory only, because the
 * process died before its sync, or because that sync failed and the system took it for written.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import { silentLog } from '../../../base/log.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { type Files, hostFiles } from '../../../manager/raft/disk/files.ts';

test('the last batch of a log is written and synced once more before it counts', async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-reopen-'));
  const written: [from: number, until: number][] = [];
  const done: string[] = [];
  const files: Files = {
    ...hostFiles,
    openInPlace: (file) => {
      const opened = hostFiles.openInPlace(file);
      return {
        sizeBytes: opened.sizeBytes,
        write: (bytes, at) => {
          opened.write(bytes, at);
          written.push([at, at + bytes.length]);
          done.push('write');
        },
        syncData: () => {
          opened.syncData();
          done.push('sync');
        },
        close: () => opened.close(),
      };
    },
    syncDirectory: (of) => {
      hostFiles.syncDirectory(of);
      done.push(path.basename(of));
    },
  };
  const open = (): Promise<DiskStore> =>
    DiskStore.open({
      directory,
      nodeId: 7,
      clock: new SystemClock(),
      log: silentLog,
      onFatal: (error) => assert.fail(error),
      segmentBytes: 32_768,
      files,
    });
  const append = (disk: DiskStore, index: number): Promise<void> =>
    new Promise((resolve) => {
      const entries = [{ index, term: 1, type: 'normal' as const, data: Buffer.alloc(900, 1) }];
      const hardState = { term: 1, vote: 0, commit: 0 };
      const rest = { snapshot: undefined, installs: false, sync: true, done: resolve };
      disk.append({ entries, hardState, ...rest });
    });
  try {
    const first = await open();
    for (let index = 1; index <= 3; index += 1) await append(first, index);
    await first.close();
    written.length = 0;
    done.length = 0;
    const again = await open();
    assert.equal(again.recovered.entries.length, 3);
    const name = fs.readdirSync(path.join(directory, 'wal')).find((one) => one.endsWith('.wal'));
    const segment = path.join(directory, 'wal', name ?? '');
    const bytes = fs.readFileSync(segment);
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
    assert.equal(written.length, 1);
    const [[from, until]] = written;
    assert.ok(from > 1800 && from <= end - 900 && until >= end, `${from}-${until} of ${end}`);
    assert.deepEqual(done.slice(done.indexOf('write')), ['write', 'sync', 'wal']);
    await again.close();
    // A torn batch was cleared here once: that may be in memory only as well.
    fs.writeFileSync(`${segment}.torn`, 'torn');
    written.length = 0;
    const third = await open();
    assert.deepEqual(written, [[from, bytes.length]]);
    await third.close();
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});

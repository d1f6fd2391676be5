/**
 * A manager whose disk fills up, on a real small file system: writes are refused in so many words,
 * reads go on, and room made again lets writes through without a restart. Needs root (a mount).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import { ListMachine } from '../support/raftCluster.ts';
import { RaftNetwork } from '../support/raftNetwork.ts';

const SEGMENT_BYTES = 256 * 1024;
const WAIT_MS = 30_000;

test('a full disk refuses writes, not reads; with room again writes go through', async () => {
  const mount = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'raft-full', mount]);
  const clock = new SystemClock();
  const onFatal = (error: Error): void => {
    throw error;
  };
  let node: RaftNode | undefined;
  try {
    const filler = path.join(mount, 'filler');
    fs.writeFileSync(filler, new Uint8Array(1024 * 1024));
    const directory = path.join(mount, 'raft');
    const options = { directory, nodeId: 1, clock, log: silentLog, onFatal };
    const disk = await DiskStore.open({ ...options, segmentBytes: SEGMENT_BYTES });
    const random = new SystemRandom();
    const self = { id: 1, address: '10.0.0.1:2377' };
    const dialer = new RaftNetwork().dialerOf(self.address);
    const machine = new ListMachine();
    node = await RaftNode.open({
      id: 1,
      dir: directory,
      clock,
      random,
      log: silentLog,
      transport: new StreamTransport({ self, dialer, clock, random, log: silentLog }),
      stateMachine: machine,
      bootstrap: { voters: [self] },
      onFatal,
      disk,
    });
    let acknowledged = 0;
    /** Written when the disk filled up: given up after a while, made once there is room. */
    let unknown = 0;
    const write = async (): Promise<boolean> => {
      try {
        await node?.propose(Buffer.alloc(20_000, 1 + (acknowledged % 200)));
        acknowledged += 1;
        return true;
      } catch (error) {
        if (hasCode(error, 'no_quorum')) unknown += 1;
        else assert.ok(hasCode(error, 'exhausted'), String(error));
        return !hasCode(error, 'exhausted');
      }
    };
    const checkCount = (): void => {
      const made = machine.commands.length;
      assert.ok(made >= acknowledged && made <= acknowledged + unknown, `${made} commands`);
    };
    const deadline = clock.nowMs() + WAIT_MS;
    while (!node.isLeader) {
      assert.ok(clock.nowMs() < deadline, 'it never led');
      await clock.sleep(10);
    }
    for (let going = true; going; going = await write()) {
      assert.ok(clock.nowMs() < deadline, 'the disk never filled');
    }
    await assert.rejects(
      node.propose(Buffer.from('x')),
      /is full: free space; nothing was changed/,
    );
    await node.readIndex();
    checkCount();
    fs.rmSync(filler);
    while (!(await write())) {
      assert.ok(clock.nowMs() < deadline + WAIT_MS, 'writes did not come back');
      await clock.sleep(50);
    }
    checkCount();
  } finally {
    await node?.stop({ transfer: false });
    execFileSync('umount', [mount]);
    fs.rmSync(mount, { recursive: true, force: true });
  }
});

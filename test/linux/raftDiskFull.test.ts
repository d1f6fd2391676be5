/**
 * Managers whose disks fill up, on real small file systems: writes are refused in so many words,
 * reads and elections go on, a leader hands over to one with room, and room made again lets writes
 * through without a restart. Needs root (mounts).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import { FastClock, ListMachine, RaftCluster, type Running } from '../support/raftCluster.ts';
import { RaftNetwork } from '../support/raftNetwork.ts';
import { until } from '../support/until.ts';

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

const DISK_BYTES = 4 * 1024 * 1024;
const IDS = [1, 2, 3];

/** Members, each on a file system of its own; `filler` takes all its room but a little. */
class SmallDisks {
  readonly cluster: RaftCluster;
  readonly #mounted: string[] = [];
  acknowledged = 0;
  unknown = 0;

  constructor(clock: Clock = new SystemClock()) {
    this.cluster = new RaftCluster({ segmentBytes: SEGMENT_BYTES, clock });
  }

  async start(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      const directory = this.cluster.directoryOf(id);
      fs.mkdirSync(directory);
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'raft-full', directory]);
      this.#mounted.push(directory);
    }
    await Promise.all(ids.map((id) => this.cluster.start(id, { voters: ids })));
  }

  #filler(id: number): string {
    return path.join(this.cluster.directoryOf(id), 'filler');
  }

  /** Leaves no room at all. */
  fill(id: number): void {
    const file = fs.openSync(this.#filler(id), 'w');
    try {
      for (;;) fs.writeSync(file, new Uint8Array(4096));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    } finally {
      fs.closeSync(file);
    }
  }

  free(id: number): void {
    fs.rmSync(this.#filler(id));
  }

  /** False = refused for want of room. SwarmError not_leader where it does not lead. */
  async #writeAt({ node }: Running): Promise<boolean> {
    this.unknown += 1;
    try {
      await node.propose(Buffer.alloc(20_000, 1 + (this.acknowledged % 200)));
    } catch (error) {
      if (hasCode(error, 'no_quorum') || hasCode(error, 'unavailable')) return true;
      this.unknown -= 1;
      if (hasCode(error, 'exhausted')) return false;
      throw error;
    }
    this.unknown -= 1;
    this.acknowledged += 1;
    return true;
  }

  /** Its outcome is not waited for: what the others cannot take any more is decided late. */
  beginWrite(): void {
    for (const running of this.cluster.nodes.values()) {
      if (!running.node.isLeader) continue;
      this.#writeAt(running).catch((error) => assert.ok(hasCode(error, 'not_leader'), error));
    }
  }

  /** Until so many more writes are acknowledged, as there is room. */
  async writeMore(count: number): Promise<void> {
    const enough = this.acknowledged + count;
    await until(`${count} writes`, WAIT_MS, async () => {
      while (this.acknowledged < enough) {
        const hadRoom = await this.cluster.atLeader((leader) => this.#writeAt(leader));
        if (!hadRoom) return false;
      }
      return true;
    });
  }

  checkCount(machine: ListMachine): void {
    const made = machine.commands.length;
    const fits = made >= this.acknowledged && made <= this.acknowledged + this.unknown;
    assert.ok(fits, `${made} commands; ${this.acknowledged} acknowledged, ${this.unknown} unknown`);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.cluster.nodes.keys()].map((id) => this.cluster.stop(id)));
    for (const directory of this.#mounted) execFileSync('umount', [directory]);
    await this.cluster.dispose();
  }
}

test('with all disks full a group reads and elects on, and writes again once there is room', async () => {
  const disks = new SmallDisks();
  const { cluster } = disks;
  try {
    await disks.start(IDS);
    await disks.writeMore(20);
    for (const id of IDS) disks.fill(id);
    await cluster.until('all are full', () => {
      disks.beginWrite();
      return IDS.every((id) => isFull(cluster.get(id)));
    });
    await assert.rejects(
      cluster.atLeader(({ node }) => node.propose(Buffer.from('x'))),
      /is full: free space/,
    );
    for (const { node, machine } of cluster.nodes.values()) {
      await node.readIndex();
      disks.checkCount(machine);
    }
    // Votes go into the room that is left.
    for (let round = 0; round < 3; round += 1) {
      const term = await cluster.atLeader(async ({ node }) => {
        const before = node.status().term;
        await node.transferLeadership();
        return before;
      });
      const { node } = await cluster.leader();
      assert.ok(node.status().term > term);
      await node.readIndex();
    }
    for (const id of IDS) disks.free(id);
    await disks.writeMore(5);
    for (const { node, machine } of cluster.nodes.values()) {
      await node.readIndex();
      disks.checkCount(machine);
    }
  } finally {
    await disks.stop();
  }
});

test('a leader whose disk is full hands over to one with room, and writes go on', async () => {
  const disks = new SmallDisks();
  const { cluster } = disks;
  try {
    await disks.start(IDS);
    await disks.writeMore(1);
    const full = await cluster.leader();
    disks.fill(full.id);
    await cluster.until('it is full and another one leads', () => {
      disks.beginWrite();
      const others = [...cluster.nodes.values()].filter(({ id }) => id !== full.id);
      return isFull(full) && others.some(({ node }) => node.isLeader);
    });
    await disks.writeMore(20);
    // It takes no more, so its own store stands still, and says why.
    const stands = /disk that holds .* is full: free space; it cannot follow/;
    await assert.rejects(full.node.readIndex(), stands);
    disks.free(full.id);
    const next = await cluster.leader(full.id);
    await cluster.until('it has caught up', () => {
      return full.node.status().applied === next.node.status().applied;
    });
    assert.deepEqual(full.machine.commands, next.machine.commands);
    disks.checkCount(full.machine);
  } finally {
    await disks.stop();
  }
});

test('leaders with full disks do not pass the lead to one another for good', async () => {
  const disks = new SmallDisks(new FastClock());
  const { cluster } = disks;
  try {
    await disks.start([1, 2, 3, 4, 5]);
    await disks.writeMore(1);
    const full = [1, 2].map((id) => cluster.get(id));
    for (const { id } of full) disks.fill(id);
    await cluster.atLeader(({ node }) => node.transferLeadership(1));
    await cluster.until('both are full', () => {
      disks.beginWrite();
      return full.every(isFull);
    });
    await disks.writeMore(20);
    assert.ok(full.every((running) => !running.node.isLeader));
  } finally {
    await disks.stop();
  }
});

function isFull({ node }: Running): boolean {
  return node.status().diskFull;
}

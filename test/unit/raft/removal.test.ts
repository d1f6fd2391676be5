/**
 * Members that leave: nobody is let go, or stops being listened to, whom the others may still need
 * to agree, even after a crash of all of them.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import { silentLog } from '../../../base/log.ts';
import { encodeConfChange } from '../../../manager/raft/core/confCodec.ts';
import type { ConfChangeStep, Entry } from '../../../manager/raft/core/types.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { encodeAddresses } from '../../../manager/raft/memberTable.ts';
import { RaftCluster } from '../../support/raftCluster.ts';

/** The log of a member that has seen how it was taken out itself. */
async function writeOwnRemoval(cluster: RaftCluster, id: number, voters: readonly number[]) {
  const steps: ConfChangeStep[] = voters.map((voter) => ({ type: 'addVoter', id: voter }));
  const entries = [...steps, { type: 'remove', id } as const].map((step, at): Entry => {
    const address = cluster.addressOf(step.id);
    const context = encodeAddresses([{ id: step.id, address }]);
    const data = encodeConfChange({ transition: 'auto', changes: [step], context });
    return { term: 1, index: at + 1, type: 'confChange', data };
  });
  const directory = cluster.directoryOf(id);
  const onFatal = (error: Error): never => {
    throw error;
  };
  const clock = new SystemClock();
  const disk = await DiskStore.open({ directory, nodeId: id, clock, log: silentLog, onFatal });
  const hardState = { term: 1, vote: 0, commit: entries.length };
  await new Promise<void>((done) => {
    disk.append({ entries, hardState, snapshot: undefined, installs: false, sync: true, done });
  });
  await disk.close();
}

test('who is told that it was taken out is not needed again after a crash of the last', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2].map((id) => cluster.start(id, { voters: [1, 2] })));
    const leader = await cluster.leader();
    const gone = 3 - leader.id;
    await leader.node.removeMember(gone);
    await cluster.until('it hears of it', () => cluster.toldRemoved.has(gone));
    // The disk as it is at this moment: what a crash leaves.
    const crashed = path.join(cluster.root, 'crashed');
    fs.cpSync(path.join(cluster.root, String(leader.id)), crashed, { recursive: true });
    await Promise.all([1, 2].map((id) => cluster.stop(id)));
    fs.rmSync(path.join(cluster.root, String(leader.id)), { recursive: true });
    fs.renameSync(crashed, path.join(cluster.root, String(leader.id)));
    const again = await cluster.start(leader.id);
    await cluster.until('it leads alone', () => again.node.isLeader);
  } finally {
    await cluster.dispose();
  }
});

test('of two managers one is replaced: it counts until the step is complete', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2].map((id) => cluster.start(id, { voters: [1, 2] })));
    const leader = await cluster.leader();
    const leaving = 3 - leader.id;
    await cluster.start(3, { join: true });
    await leader.node.addMember({ id: 3, address: cluster.addressOf(3), learner: true });
    await leader.node.replaceMember(3, leaving);
    await cluster.until('the other is told', () => cluster.toldRemoved.has(leaving));
    const ids = leader.node.members().map(({ id }) => id);
    assert.deepEqual(
      ids,
      [leader.id, 3].sort((left, right) => left - right),
    );
    await leader.node.propose(Buffer.from('after'));
  } finally {
    await cluster.dispose();
  }
});

test('who knows that it was taken out, and is spoken to by nobody, asks and may go', async () => {
  const cluster = new RaftCluster();
  try {
    const voters = [1, 2, 3];
    await Promise.all([1, 2].map((id) => cluster.start(id, { voters })));
    await cluster.atLeader(({ node }) => node.removeMember(3));
    await writeOwnRemoval(cluster, 3, voters);
    await cluster.start(3);
    await cluster.until('it hears of it', () => cluster.toldRemoved.has(3));
    assert.deepEqual([...cluster.toldRemoved], [3]);
  } finally {
    await cluster.dispose();
  }
});

/**
 * The driver with real disks and the in-process network: what callers see of a group of managers.
 * Never touches real sockets.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import type { Timer } from '../../../base/clock.ts';
import { hasCode } from '../../../base/errors.ts';
import { FastClock, RaftCluster } from '../../support/raftCluster.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);

test('a single member leads at once, and holds after a restart what it acknowledged', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.start(1, { voters: [1] });
    const leader = await cluster.leader();
    for (let count = 0; count < 50; count += 1) await leader.node.propose(bytes(`c${count}`));
    await cluster.stop(1);
    const again = await cluster.start(1);
    await cluster.leader();
    await again.node.readIndex();
    assert.equal(again.machine.commands.length, 50);
    assert.deepEqual(again.machine.members, [{ id: 1, address: '10.0.0.1:2377', learner: false }]);
  } finally {
    await cluster.dispose();
  }
});

test('three members agree, followers read, and a follower names the leader', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const proposals = Array.from({ length: 200 }, (_, at) => leader.node.propose(bytes(`p${at}`)));
    await Promise.all(proposals);
    for (const { node, machine } of cluster.nodes.values()) {
      const index = await node.readIndex();
      assert.ok(node.status().applied >= index);
      assert.equal(machine.commands.length, 200);
      assert.deepEqual(machine.commands, leader.machine.commands);
    }
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id);
    assert.ok(follower !== undefined);
    await assert.rejects(follower.node.propose(bytes('x')), (error) => {
      assert.ok(hasCode(error, 'not_leader'));
      assert.equal(error.detail['leaderAddress'], leader.address);
      assert.equal(error.detail['leaderId'], String(leader.id));
      return true;
    });
  } finally {
    await cluster.dispose();
  }
});

test('a leader cut off stops leading, the others go on, and healed it follows them', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const old = await cluster.leader();
    await old.node.propose(bytes('before'));
    cluster.network.isolate(old.address);
    const cutMs = cluster.clock.nowMs();
    const lost = old.node.propose(bytes('lost'));
    const lostOutcome = assert.rejects(lost, (error) => hasCode(error, 'unavailable'));
    const next = await cluster.leader(old.id);
    await next.node.propose(bytes('after'));
    assert.ok(cluster.clock.nowMs() - cutMs < 10_000);
    await cluster.until('the old leader steps down', () => !old.node.isLeader);
    await lostOutcome;
    await assert.rejects(old.node.propose(bytes('x')), (error) => {
      assert.ok(hasCode(error, 'no_quorum'));
      assert.match(error.message, /1 of 3 managers answer, 2 are needed/);
      return true;
    });
    cluster.network.heal();
    await cluster.until('the old leader follows', () => old.machine.commands.includes('after'));
    assert.deepEqual(old.machine.commands, ['before', 'after']);
    assert.equal(old.node.status().leaderId, next.id);
  } finally {
    await cluster.dispose();
  }
});

test('without quorum a read fails and says which managers do not answer', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    for (const { id } of [...cluster.nodes.values()]) if (id !== leader.id) await cluster.stop(id);
    await assert.rejects(leader.node.readIndex(), (error) => {
      assert.ok(hasCode(error, 'no_quorum'));
      for (const id of [1, 2, 3]) {
        assert.equal(error.message.includes(cluster.addressOf(id)), id !== leader.id);
      }
      return true;
    });
  } finally {
    await cluster.dispose();
  }
});

test('members join one by one, catch up by snapshot, and a removed one cannot return', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 700 });
  try {
    const first = await cluster.start(1, { voters: [1] });
    await cluster.leader();
    const proposals: Promise<unknown>[] = [];
    for (let at = 0; at < 2000; at += 1) proposals.push(first.node.propose(bytes(`command ${at}`)));
    await Promise.all(proposals);
    for (const id of [2, 3]) {
      await cluster.start(id, { join: true });
      await first.node.addMember({ id, address: cluster.addressOf(id), learner: true });
      await first.node.promoteMember(id);
    }
    for (const { node, machine } of cluster.nodes.values()) {
      await node.readIndex();
      assert.deepEqual(machine.commands, first.machine.commands);
      assert.deepEqual(
        node.members().map(({ id, learner }) => ({ id, learner })),
        [1, 2, 3].map((id) => ({ id, learner: false })),
      );
    }
    assert.equal(cluster.get(2).machine.restores, 1, 'came by snapshot');
    await first.node.removeMember(3);
    await cluster.until('it is gone', () => first.node.members().length === 2);
    await assert.rejects(
      first.node.addMember({ id: 3, address: cluster.addressOf(3), learner: false }),
      (error) => hasCode(error, 'invalid'),
    );
    await cluster.stop(2);
    await cluster.start(2);
    await cluster.read(2);
    assert.deepEqual(cluster.get(2).machine.commands, first.machine.commands);
  } finally {
    await cluster.dispose();
  }
});

test('a follower that lags a little gets the log, and one far behind a snapshot', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 700 });
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const away = [1, 2, 3].find((id) => id !== leader.id) ?? 0;
    const write = async (count: number): Promise<void> => {
      const texts = Array.from({ length: count }, (_, at) => bytes(`${at}`));
      await Promise.all(texts.map((each) => leader.node.propose(each)));
    };
    const snapshotIndex = (): number => leader.node.status().snapshotIndex;
    // The first time across a snapshot, but within what is kept behind it.
    for (const [missed, installs] of [
      [400, 0],
      [2000, 1],
    ]) {
      await write(500);
      const { applied } = leader.node.status();
      await cluster.until('all have it', () => cluster.get(away).node.status().applied >= applied);
      await cluster.stop(away);
      const before = snapshotIndex();
      await write(missed);
      await cluster.until('the leader has a new snapshot', () => snapshotIndex() > before);
      const back = await cluster.start(away);
      const own = back.machine.restores;
      await cluster.until('it has caught up', () => {
        return back.node.status().applied === leader.node.status().applied;
      });
      assert.deepEqual(back.machine.commands, leader.machine.commands);
      assert.equal(back.machine.restores - own, installs, `after ${missed} entries`);
    }
  } finally {
    await cluster.dispose();
  }
});

test('a member taken out while it was away hears of it when it is back', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const [gone] = [1, 2, 3].filter((id) => id !== leader.id);
    cluster.network.isolate(cluster.addressOf(gone));
    await leader.node.removeMember(gone);
    cluster.network.heal();
    const { node } = cluster.get(gone);
    await cluster.until('it hears of it', () => cluster.toldRemoved.has(gone));
    assert.deepEqual([...cluster.toldRemoved], [gone]);
    const asked = assert.rejects(node.readIndex(), /was taken out of the managers/);
    await cluster.stop(gone);
    await asked;
    await assert.rejects(node.propose(Buffer.from('x')), /was taken out of the managers/);
  } finally {
    await cluster.dispose();
  }
});

test('a removal that would leave no quorum is refused with the reason', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const [gone, other] = [1, 2, 3].filter((id) => id !== leader.id);
    await leader.node.readIndex();
    await cluster.stop(gone);
    await cluster.until('its silence is noticed', () =>
      leader.node.members().some((member) => member.reachable === false),
    );
    await assert.rejects(leader.node.removeMember(other), (error) => {
      assert.ok(hasCode(error, 'conflict'));
      assert.match(error.message, /would leave 1 of 2 managers answering where 2 are needed/);
      return true;
    });
    await leader.node.removeMember(gone);
    assert.equal(leader.node.members().length, 2);
  } finally {
    await cluster.dispose();
  }
});

test('a clean stop of the leader hands over without waiting for an election timeout', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const old = await cluster.leader();
    await old.node.propose(bytes('one'));
    await cluster.stop(old.id, true);
    const rest = [...cluster.nodes.values()];
    assert.ok(
      rest.some(({ node }) => node.status().role === 'leader'),
      'another leads already',
    );
    const next = await cluster.leader(old.id);
    await next.node.propose(bytes('two'));
    assert.deepEqual(next.machine.commands, ['one', 'two']);
  } finally {
    await cluster.dispose();
  }
});

/** Raft's own rhythm can be made to stand still: then no time-out of an election comes. */
class StillClock extends FastClock {
  still = false;

  override after(delayMs: number, callback: () => void): Timer {
    return super.after(delayMs, () => {
      if (!this.still) callback();
    });
  }
}

test('a leader whose process is gone is replaced without waiting for an election timeout', async () => {
  const clock = new StillClock();
  const cluster = new RaftCluster({ clock });
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    await leader.node.propose(bytes('kept'));
    clock.still = true;
    await cluster.stop(leader.id);
    const next = await cluster.leader();
    await next.node.propose(bytes('and on'));
    assert.deepEqual(next.machine.commands, ['kept', 'and on']);
  } finally {
    await cluster.dispose();
  }
});

test('all members restarted at once hold everything acknowledged', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 300 });
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const work = Array.from({ length: 800 }, (_, at) => leader.node.propose(bytes(`w${at}`)));
    await Promise.all(work);
    await Promise.all([1, 2, 3].map((id) => cluster.stop(id)));
    await Promise.all([1, 2, 3].map((id) => cluster.start(id)));
    for (const id of [1, 2, 3]) {
      await cluster.read(id);
      assert.equal(cluster.get(id).machine.commands.length, 800);
    }
  } finally {
    await cluster.dispose();
  }
});

test('a member that has joined has a state from the first moment on', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.start(5, { join: true });
    await cluster.stop(5);
    await cluster.start(5);
  } finally {
    await cluster.dispose();
  }
});

test('a state directory of another member is refused', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.start(1, { voters: [1] });
    await cluster.stop(1);
    fs.renameSync(path.join(cluster.root, '1'), path.join(cluster.root, '2'));
    await assert.rejects(cluster.start(2), (error) => {
      assert.ok(hasCode(error, 'corrupt'));
      assert.match(error.message, /belongs to raft member 1, not to 2/);
      return true;
    });
    await assert.rejects(cluster.start(3), (error) => hasCode(error, 'not_found'));
  } finally {
    await cluster.dispose();
  }
});

test('an error inside the log ends the member, and nothing more is acknowledged', async () => {
  const fatal: Error[] = [];
  const cluster = new RaftCluster({ onFatal: (error) => fatal.push(error) });
  try {
    const { node } = await cluster.start(1, { voters: [1] });
    await cluster.leader();
    await node.propose(bytes('kept'));
    // The next segment can no longer be named: as good as an I/O error.
    fs.rmSync(path.join(cluster.root, '1', 'wal'), { recursive: true });
    const outcomes: Promise<unknown>[] = [];
    for (let at = 0; at < 12; at += 1) {
      outcomes.push(node.propose(Buffer.alloc(2_000_000, 1)).then(() => 'done', String));
    }
    await cluster.until('the failure is told', () => fatal.length > 0);
    assert.match(fatal[0].message, /could not be written: .*this process has to end/);
    const last = await outcomes[outcomes.length - 1];
    assert.match(String(last), /not known/);
    await assert.rejects(node.propose(bytes('x')), (error) => hasCode(error, 'unavailable'));
    assert.equal(fatal.length, 1);
  } finally {
    await cluster.dispose();
  }
});

test('a leader asked to remove itself hands over, and the new leader removes it', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const old = await cluster.leader();
    await old.node.propose(bytes('one'));
    await assert.rejects(old.node.removeMember(old.id), (error) => hasCode(error, 'not_leader'));
    const next = await cluster.leader(old.id);
    await next.node.removeMember(old.id);
    assert.deepEqual(
      next.node.members().map(({ id }) => id),
      [1, 2, 3].filter((id) => id !== old.id),
    );
    await next.node.propose(bytes('two'));
  } finally {
    await cluster.dispose();
  }
});

test('a manager that was added a moment ago can be given the lead', async () => {
  const cluster = new RaftCluster();
  try {
    await cluster.start(1, { voters: [1] });
    await cluster.start(2, { join: true });
    const leader = await cluster.leader();
    await leader.node.addMember({ id: 2, address: cluster.addressOf(2), learner: true });
    await leader.node.promoteMember(2);
    await leader.node.transferLeadership(2);
    assert.equal((await cluster.leader(1)).id, 2);
  } finally {
    await cluster.dispose();
  }
});

test('a new address of a member is told to all and used', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    const moved = [1, 2, 3].filter((id) => id !== leader.id)[0];
    await leader.node.updateAddress(moved, '10.0.9.9:2377');
    await cluster.until('all know', () =>
      [...cluster.nodes.values()].every(({ machine }) =>
        machine.members.some(({ id, address }) => id === moved && address === '10.0.9.9:2377'),
      ),
    );
  } finally {
    await cluster.dispose();
  }
});

test('snapshots taken and installed again and again leave a state that opens', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 20 });
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    for (let round = 0; round < 4; round += 1) {
      const leader = await cluster.leader();
      const lagging = [1, 2, 3].filter((id) => id !== leader.id)[round % 2];
      cluster.network.isolate(cluster.addressOf(lagging));
      const big = Buffer.alloc(50_000, 'x').toString();
      const work: Promise<unknown>[] = [];
      for (let at = 0; at < 700; at += 1) {
        work.push(leader.node.propose(bytes(at % 100 === 0 ? big : `${round}.${at}`)));
      }
      await Promise.all(work);
      cluster.network.heal();
      await cluster.read(lagging);
      await cluster.stop(lagging);
      await cluster.start(lagging);
      await cluster.read(lagging);
      assert.deepEqual(cluster.get(lagging).machine.commands, leader.machine.commands);
    }
  } finally {
    await cluster.dispose();
  }
});

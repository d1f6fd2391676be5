/**
 * Single behaviours of the core: elections, PreVote, CheckQuorum, replication, reads, transfer,
 * members, snapshots, back-pressure. Section numbers are of the Raft paper and thesis.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EMPTY_BYTES, makeMessage } from '../../../manager/raft/core/types.ts';
import { groupOf, type RaftGroup } from '../../support/raftGroup.ts';

const context = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a leader commits what a majority holds, and its followers learn of it (5.3)', () => {
  const group = groupOf(3);
  group.elect(1);
  group.propose(1, 'a');
  group.propose(1, 'b');
  group.settle();
  for (const id of [1, 2, 3]) assert.deepEqual(group.texts(id), ['a', 'b']);
});

test('a follower whose log is behind wins no vote; one that is up to date does (5.4.1)', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ to, from }) => to !== 3 && from !== 3;
  group.propose(1, 'a');
  group.settle();
  group.passes = () => true;
  group.tick(1, 10);
  group.tick(2, 10);
  group.get(3).raw.campaign();
  group.get(3).raw.raft.randomizedElectionTicks = 100;
  group.settle();
  assert.notEqual(group.get(3).raw.raft.role, 'leader');
});

test('a pre-vote that is refused raises no term, so a returning member disturbs nobody', () => {
  const group = groupOf(3);
  group.elect(1);
  const { term } = group.get(1).raw.raft;
  group.passes = ({ to, from }) => to !== 3 && from !== 3;
  group.tick(3, 200);
  group.settle();
  assert.equal(group.get(3).raw.raft.term, term);
  group.passes = () => true;
  group.get(3).raw.campaign();
  group.settle();
  assert.equal(group.get(1).raw.raft.role, 'leader');
  assert.equal(group.get(1).raw.raft.term, term);
  group.tick(1);
  group.settle();
  assert.equal(group.get(3).raw.raft.leader, 1);
});

test('a leader that hears from no majority for an election timeout steps down', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ from }) => from === 1;
  for (let at = 0; at < 25; at += 1) {
    group.tick(1);
    group.settle();
  }
  assert.equal(group.get(1).raw.raft.role, 'follower');
});

test('members that hear their leader ignore a candidate with a higher term: the vote lease', () => {
  const group = groupOf(3, { preVote: false });
  group.elect(1);
  group.passes = ({ to, from }) => to !== 3 && from !== 3;
  group.tick(3, 40);
  group.settle();
  group.passes = () => true;
  const { term } = group.get(1).raw.raft;
  group
    .get(2)
    .raw.step(makeMessage('vote', 2, { from: 3, term: term + 5, index: 100, logTerm: term + 4 }));
  assert.equal(group.get(2).raw.raft.term, term);
  assert.equal(group.get(2).raw.raft.leader, 1);
});

test('a leader commits entries of earlier terms only together with one of its own (5.4.2)', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ from }) => from !== 1;
  group.get(1).raw.propose(context('old'));
  group.settle();
  const before = group.get(1).raw.raft.log.committed;
  assert.equal(group.get(1).raw.raft.log.lastIndex(), before + 1);
  // The others elect 2, then 1 comes back and wins with its own, longer log lost.
  group.passes = ({ to, from }) => to !== 1 && from !== 1;
  group.elect(2);
  group.passes = () => true;
  group.propose(2, 'new');
  group.settle();
  group.tick(2);
  group.settle();
  for (const id of [1, 2, 3]) assert.deepEqual(group.texts(id), ['new']);
});

test('a follower far behind with many terms is found in one probe per term, not per entry', () => {
  const group = groupOf(3);
  for (const id of [1, 2, 1, 2, 1]) {
    group.passes = ({ to, from }) => to !== 3 && from !== 3;
    group.elect(id);
    for (let at = 0; at < 20; at += 1) group.propose(id, `${id}.${at}`);
    group.settle();
  }
  group.passes = () => true;
  group.tick(1);
  let probes = 0;
  for (;;) {
    const batch = group.deliver();
    if (batch.length === 0) break;
    probes += batch.filter(({ type, to }) => type === 'append' && to === 3).length;
  }
  assert.deepEqual(group.texts(3), group.texts(1));
  assert.ok(probes <= 12, `${probes} appends`);
});

test('a read is answered after a quorum confirmed the leader, at followers too', () => {
  const group = groupOf(3);
  group.elect(1);
  group.propose(1, 'a');
  group.settle();
  const { committed } = group.get(1).raw.raft.log;
  group.get(2).raw.readIndex(context('r2'));
  group.get(1).raw.readIndex(context('r1'));
  group.collect(1);
  assert.equal(group.get(1).reads.length, 0, 'not before a quorum answered');
  group.settle();
  for (const id of [1, 2]) {
    assert.deepEqual(
      group.get(id).reads.map(({ index, context: key }) => [index, new TextDecoder().decode(key)]),
      [[committed, `r${id}`]],
    );
  }
});

test('a leader cut off from the others answers no read', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ from }) => from === 1;
  group.get(1).raw.readIndex(context('r'));
  group.tick(1, 3);
  group.settle();
  assert.equal(group.get(1).reads.length, 0);
});

test('a new leader keeps reads waiting until it has committed in its own term', () => {
  for (const count of [1, 3]) {
    const group = groupOf(count);
    group.get(1).raw.campaign();
    // Become leader, but let nothing it appended be acknowledged yet.
    group.passes = ({ type }) => type !== 'append';
    if (count === 1) {
      group.get(1).raw.readIndex(context('r'));
      group.settle();
    } else {
      group.settle();
      group.get(1).raw.readIndex(context('r'));
      group.settle();
      assert.equal(group.get(1).reads.length, 0);
      group.passes = () => true;
      group.tick(1);
      group.settle();
      assert.equal(group.get(1).reads.length, 1);
    }
    for (const read of group.get(1).reads) {
      assert.ok(read.index >= group.get(1).raw.raft.log.firstIndex());
    }
  }
});

test('a transfer lets the target lead at once, after it has caught up', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ to }) => to !== 2;
  group.propose(1, 'a');
  group.settle();
  group.passes = () => true;
  group.get(1).raw.transferLeadership(2);
  assert.equal(group.get(1).raw.propose(context('x')), 'proposal_dropped');
  group.tick(1);
  group.settle();
  assert.equal(group.get(2).raw.raft.role, 'leader');
  assert.deepEqual(group.texts(2), ['a']);
});

test('a transfer to a member that does not answer ends after an election timeout', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ to }) => to !== 2;
  group.get(1).raw.transferLeadership(2);
  for (let at = 0; at < 10; at += 1) {
    group.tick(1);
    group.settle();
  }
  assert.equal(group.get(1).raw.raft.role, 'leader');
  group.propose(1, 'on');
});

function change(
  group: RaftGroup,
  leader: number,
  type: 'addVoter' | 'addLearner' | 'remove',
  id: number,
): void {
  group.get(leader).raw.proposeConfChange({
    transition: 'auto',
    changes: [{ type, id }],
    context: EMPTY_BYTES,
  });
  group.settle();
}

test('a learner receives everything, votes for nothing, and votes once promoted', () => {
  const group = groupOf(1);
  group.elect(1);
  group.add(2, {});
  change(group, 1, 'addLearner', 2);
  group.snapshot(1);
  group.tick(1);
  group.settle();
  group.propose(1, 'a');
  group.settle();
  group.tick(1);
  group.settle();
  assert.deepEqual(group.get(1).confState.learners, [2]);
  group.passes = ({ to }) => to !== 2;
  group.propose(1, 'b');
  group.settle();
  assert.deepEqual(group.texts(1), ['a', 'b'], 'commits without it');
  group.passes = () => true;
  group.tick(1);
  group.settle();
  change(group, 1, 'addVoter', 2);
  assert.deepEqual(group.get(2).confState.voters, [1, 2]);
  group.passes = ({ to }) => to !== 2;
  group.propose(1, 'c');
  group.settle();
  assert.deepEqual(group.texts(1), ['a', 'b'], 'no longer commits without it');
});

test('a second change of members is not made while one is under way', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ from }) => from === 1;
  const learn = (id: number): void => {
    group.get(1).raw.proposeConfChange({
      transition: 'auto',
      changes: [{ type: 'addLearner', id }],
      context: EMPTY_BYTES,
    });
  };
  learn(4);
  learn(5);
  group.passes = () => true;
  group.tick(1);
  group.settle();
  assert.deepEqual(group.get(1).confState.learners, [4]);
});

test('a joint change replaces members in one step and is left by itself', () => {
  const group = groupOf(3);
  group.elect(1);
  for (const id of [4, 5]) group.add(id, {});
  group.get(1).raw.proposeConfChange({
    transition: 'auto',
    changes: [
      { type: 'addVoter', id: 4 },
      { type: 'addVoter', id: 5 },
      { type: 'remove', id: 2 },
      { type: 'remove', id: 3 },
    ],
    context: EMPTY_BYTES,
  });
  group.settle();
  assert.deepEqual(group.get(1).confState.votersOutgoing, [1, 2, 3]);
  group.snapshot(1);
  for (let at = 0; at < 5; at += 1) {
    group.tick(1);
    group.settle();
  }
  assert.deepEqual(group.get(1).confState.voters, [1, 4, 5]);
  assert.deepEqual(group.get(1).confState.votersOutgoing, []);
});

test('a leader that applies its own removal steps down and does not campaign again', () => {
  const group = groupOf(3);
  group.elect(1);
  change(group, 1, 'remove', 1);
  assert.equal(group.get(1).raw.raft.role, 'follower');
  group.tick(1, 50);
  group.settle();
  assert.notEqual(group.get(1).raw.raft.role, 'leader');
  group.elect(2);
});

test('a member behind the log gets the snapshot, then the entries after it', () => {
  const group = groupOf(3);
  group.elect(1);
  group.passes = ({ to }) => to !== 3;
  for (let at = 0; at < 10; at += 1) group.propose(1, `${at}`);
  group.settle();
  const leader = group.get(1);
  group.snapshot(1);
  group.passes = () => true;
  leader.raw.reportUnreachable(3);
  group.tick(1);
  const seen = new Set<string>();
  for (let batch = group.deliver(); batch.length > 0; batch = group.deliver()) {
    for (const { type, to } of batch) if (to === 3) seen.add(type);
  }
  assert.ok(seen.has('snapshot'));
  group.propose(1, 'after');
  group.settle();
  assert.deepEqual(group.texts(3), ['after']);
  assert.equal(group.get(3).raw.raft.log.committed, leader.raw.raft.log.committed);
});

test('past the bound of uncommitted bytes proposals are dropped until they commit', () => {
  const group = groupOf(3, { maxUncommittedBytes: 100 });
  group.elect(1);
  group.passes = ({ from }) => from === 1;
  const { raw } = group.get(1);
  const big = new Uint8Array(60);
  assert.equal(raw.propose(big), undefined);
  assert.equal(raw.propose(big), 'proposal_dropped');
  group.settle();
  group.passes = () => true;
  group.tick(1);
  group.settle();
  assert.equal(raw.propose(big), undefined);
});

test('appends under way to one member stay within the inflight bound', () => {
  const group = groupOf(2, { maxInflightMessages: 4, maxSizePerMessageBytes: 40 });
  group.elect(1);
  group.settle();
  for (let at = 0; at < 20; at += 1) group.get(1).raw.propose(new Uint8Array(30));
  group.collect(1);
  const appends = group.messages.filter(({ type, to }) => type === 'append' && to === 2);
  assert.equal(appends.length, 4);
  group.settle();
  assert.equal(group.get(2).raw.raft.log.lastIndex(), group.get(1).raw.raft.log.lastIndex());
});

test('a stale leader that comes back learns the newer term from an answer to its heartbeat', () => {
  const group = groupOf(3, { preVote: true });
  group.elect(1);
  group.passes = ({ to, from }) => to !== 1 && from !== 1;
  group.elect(2);
  group.passes = () => true;
  group.tick(1);
  group.settle();
  assert.equal(group.get(1).raw.raft.role, 'follower');
  assert.equal(group.get(1).raw.raft.term, group.get(2).raw.raft.term);
});

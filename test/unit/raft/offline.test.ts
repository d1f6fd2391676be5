/**
 * A member's state without the member: what can be read of it, and the one frame that makes it the
 * only member. Real disks in a temporary directory; nothing here speaks to anybody else.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { hasCode } from '../../../base/errors.ts';
import { silentLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { Configuration } from '../../../manager/raft/configuration.ts';
import { EMPTY_BYTES } from '../../../manager/raft/core/types.ts';
import { segmentName } from '../../../manager/raft/disk/recovery.ts';
import { encodeAddresses } from '../../../manager/raft/memberTable.ts';
import { becomeSole, soleChanges, surveyMember } from '../../../manager/raft/offline.ts';
import { ListMachine, RaftCluster } from '../../support/raftCluster.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const COMMAND = 'alone';

async function sole(cluster: RaftCluster, id: number, address = cluster.addressOf(id)) {
  const machine = new ListMachine();
  await becomeSole({
    dir: path.join(cluster.root, String(id)),
    self: { id, address },
    clock: cluster.clock,
    random: new SystemRandom(),
    log: silentLog,
    machine,
    command: () => bytes(COMMAND),
  });
  return machine;
}

async function survey(directory: string) {
  const machine = new ListMachine();
  return { ...(await surveyMember(directory, undefined, machine)), machine };
}

/** Three members that have agreed on `count` commands and are stopped once `ready`. */
async function stopped(cluster: RaftCluster, count: number, ready = () => true): Promise<void> {
  await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
  const leader = await cluster.leader();
  await Promise.all(Array.from({ length: count }, (_, at) => leader.node.propose(bytes(`c${at}`))));
  for (const id of cluster.nodes.keys()) await cluster.read(id);
  await cluster.until('ready to be stopped', ready);
  await Promise.all([1, 2, 3].map((id) => cluster.stop(id)));
}

test('a survey tells what a member holds, and changes no byte of it', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 30 });
  try {
    const directory = path.join(cluster.root, '2');
    const isMarked = (): boolean =>
      fs.readdirSync(path.join(directory, 'snap')).some((name) => name.endsWith('.snap'));
    await stopped(cluster, 200, isMarked);
    const files = (): [string, string][] =>
      fs
        .readdirSync(directory, { recursive: true, encoding: 'utf8' })
        .filter((name) => fs.statSync(path.join(directory, name)).isFile())
        .map((name) => [name, fs.readFileSync(path.join(directory, name)).toString('hex')]);
    const before = files();
    const { state, snapshot, configuration, damage, machine } = await survey(directory);
    assert.equal(damage, undefined);
    assert.equal(state?.nodeId, 2);
    assert.ok((snapshot?.index ?? 0) > 0);
    assert.equal(machine.commands.length, 200);
    assert.deepEqual(
      configuration?.table.members().map(({ id, address }) => ({ id, address })),
      [1, 2, 3].map((id) => ({ id, address: cluster.addressOf(id) })),
    );
    assert.deepEqual(files(), before);
  } finally {
    await cluster.dispose();
  }
});

test('damage is told with file and offset, and what comes before it is read', async () => {
  const cluster = new RaftCluster();
  try {
    await stopped(cluster, 50);
    const directory = path.join(cluster.root, '1');
    const file = path.join(directory, 'wal', segmentName(1));
    const handle = fs.openSync(file, 'r+');
    fs.writeSync(handle, Buffer.from([255, 255, 255]), 0, 3, 1000);
    fs.closeSync(handle);
    const { state, damage } = await survey(directory);
    assert.ok(damage !== undefined);
    assert.equal(damage.detail['file'], file);
    assert.ok(Number(damage.detail['offset']) <= 1000);
    assert.equal(state?.nodeId, 1);
    assert.ok((state?.entries.length ?? 0) < 53);
  } finally {
    await cluster.dispose();
  }
});

test('one of three goes on alone with all it holds, and the others are told they are out', async () => {
  const cluster = new RaftCluster({ snapshotEntries: 40 });
  try {
    await stopped(cluster, 100);
    await sole(cluster, 2);
    const { node, machine } = await cluster.start(2);
    await cluster.leader();
    assert.deepEqual(
      node.members().map(({ id }) => id),
      [2],
    );
    assert.equal(machine.commands.length, 101);
    assert.equal(machine.commands[100], COMMAND);
    await node.propose(bytes('later'));
    // Together they have a quorum of what was: who leads it hears first, then who would follow it.
    await Promise.all([1, 3].map((id) => cluster.start(id)));
    for (let told = 1; told <= 2; told += 1) {
      await cluster.until(`${told} told`, () => cluster.toldRemoved.size >= told);
      for (const id of cluster.toldRemoved) if (cluster.nodes.has(id)) await cluster.stop(id);
    }
    assert.equal(node.members().length, 1);
    await assert.rejects(
      node.addMember({ id: 1, address: cluster.addressOf(1), learner: true }),
      (error) => hasCode(error, 'invalid'),
    );
    await cluster.stop(2);
    await cluster.start(2);
    assert.deepEqual(cluster.get(2).machine.commands, machine.commands);
  } finally {
    await cluster.dispose();
  }
});

test('what may have been acknowledged is kept, also where this member cannot know that it was', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    const leader = await cluster.leader();
    await leader.node.propose(bytes('known'));
    const rest = [1, 2, 3].filter((id) => id !== leader.id);
    await Promise.all(rest.map((id) => cluster.stop(id)));
    leader.node.propose(bytes('unknown')).catch(() => 'its outcome is not known to the client');
    await cluster.until('written here', () => {
      const own = leader.node.members().find(({ id }) => id === leader.id);
      const { lastIndex, commit } = leader.node.status();
      return lastIndex > commit && own?.matchIndex === lastIndex;
    });
    await cluster.stop(leader.id);
    const { commands } = await sole(cluster, leader.id);
    assert.deepEqual(commands, ['known', 'unknown']);
  } finally {
    await cluster.dispose();
  }
});

test('killed at any moment of it, the member is as before or alone', async () => {
  const cluster = new RaftCluster();
  try {
    await stopped(cluster, 20);
    const directory = path.join(cluster.root, '3');
    const file = path.join(directory, 'wal', segmentName(1));
    const before = fs.readFileSync(file);
    await sole(cluster, 3);
    const after = fs.readFileSync(file);
    const changed = [...after.keys()].filter((at) => before[at] !== after[at]);
    const [first, last] = [changed[0], changed[changed.length - 1]];
    assert.ok(last - first < 2048, 'one frame');
    const seen = new Set<number>();
    // Whatever subset of the frame's sectors reached the disk.
    const sectors: number[] = [];
    for (let at = first - (first % 512); at <= last; at += 512) sectors.push(at);
    for (let subset = 0; subset < 2 ** sectors.length; subset += 1) {
      const bytesNow = Buffer.from(before);
      for (const [at, sector] of sectors.entries()) {
        if ((subset & (1 << at)) !== 0) after.copy(bytesNow, sector, sector, sector + 512);
      }
      fs.writeFileSync(file, bytesNow);
      const { configuration, damage, machine } = await survey(directory);
      assert.equal(damage, undefined, `subset ${subset}`);
      const members = configuration?.table.members().length ?? 0;
      assert.equal(machine.commands.includes(COMMAND), members === 1);
      seen.add(members);
    }
    assert.deepEqual([...seen].sort(), [1, 3]);
  } finally {
    await cluster.dispose();
  }
});

test('it goes on alone from a joint configuration, as a learner, and at another address', () => {
  const address = (id: number): string => `10.0.0.${id}:2377`;
  const configuration = new Configuration();
  for (const id of [1, 2, 3]) {
    const context = encodeAddresses([{ id, address: address(id) }]);
    configuration.apply({ transition: 'auto', changes: [{ type: 'addVoter', id }], context });
  }
  const context = encodeAddresses([{ id: 4, address: address(4) }]);
  configuration.apply({ transition: 'auto', changes: [{ type: 'addLearner', id: 4 }], context });
  configuration.apply({
    transition: 'auto',
    changes: [
      { type: 'addVoter', id: 5 },
      { type: 'remove', id: 1 },
    ],
    context: EMPTY_BYTES,
  });
  assert.ok(configuration.table.confState.votersOutgoing.length > 0);
  soleChanges(configuration, { id: 4, address: '10.0.9.4:2377' });
  assert.deepEqual(configuration.table.members(), [
    { id: 4, address: '10.0.9.4:2377', learner: false },
  ]);
  for (const id of [1, 2, 3, 5]) assert.ok(configuration.table.wasRemoved(id));
  assert.throws(
    () => soleChanges(configuration, { id: 1, address: address(1) }),
    (error) => hasCode(error, 'conflict'),
  );
});

test('a member that holds nothing has nothing to go on with', async () => {
  const cluster = new RaftCluster();
  try {
    await assert.rejects(sole(cluster, 9), (error) => hasCode(error, 'not_found'));
  } finally {
    await cluster.dispose();
  }
});

test('a manager that joined the others unheard of never leads the one that went on alone', async () => {
  const cluster = new RaftCluster();
  try {
    await Promise.all([1, 2, 3].map((id) => cluster.start(id, { voters: [1, 2, 3] })));
    await cluster.read((await cluster.leader()).id);
    for (const id of cluster.nodes.keys()) await cluster.read(id);
    await cluster.stop(1);
    const old = await cluster.leader();
    const unheard = await cluster.start(4, { join: true });
    await old.node.addMember({ id: 4, address: cluster.addressOf(4), learner: false });
    await old.node.transferLeadership(4);
    await cluster.until('it leads', () => unheard.node.leadership.isLeader);
    for (let at = 0; at < 20; at += 1) await unheard.node.propose(bytes(`old ${at}`));
    await sole(cluster, 1);
    const { node, machine } = await cluster.start(1);
    // Who leads them hears first, then who would follow it.
    for (let told = 1; told <= 3; told += 1) {
      await cluster.until(`${told} told`, () => cluster.toldRemoved.size >= told);
      for (const id of cluster.toldRemoved) if (cluster.nodes.has(id)) await cluster.stop(id);
    }
    await node.propose(bytes('new'));
    assert.deepEqual(machine.commands, [COMMAND, 'new']);
    assert.deepEqual(
      node.members().map(({ id }) => id),
      [1],
    );
  } finally {
    await cluster.dispose();
  }
});

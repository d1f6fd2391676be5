/**
 * A manager's state directory with a known history, kept under test/fixtures for each format of log
 * and snapshot that was ever written: `node dist/test/support/raftFixture.js NAME [sealed]` writes
 * one with the code it is built from, and what a store that replays it holds. Never run over a
 * fixture that is there: an old format can be written by old code only.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import { RaftNode } from '../../manager/raft/node.ts';
import { StreamTransport } from '../../manager/raft/transport.ts';
import { Replica } from '../../manager/replica.ts';
import type { Change } from '../../manager/store/types.ts';
import type { TableName } from '../../model/types.ts';
import { cluster, network, node, service } from './objects.ts';
import { RaftNetwork } from './raftNetwork.ts';

export const FIXTURES = path.join('test', 'fixtures', 'raft');
/** Of the sealed fixtures: 32 bytes that are no secret. */
export const FIXTURE_KEY = Buffer.from('the key of every sealed fixture.');
const TABLES: readonly TableName[] = ['cluster', 'node', 'network', 'service'];
const MEMBER = { id: 42, address: '192.0.2.1:2377' };
const SEGMENT_BYTES = 8192;
const SNAPSHOT_ENTRIES = 25;

/** What the directory's store holds. */
export interface Expected {
  readonly version: number;
  readonly tables: Record<string, unknown[]>;
}

export interface OpenFixture {
  readonly raft: RaftNode;
  readonly replica: Replica;
  stop(): Promise<void>;
}

export async function openFixture(
  directory: string,
  sealed: boolean,
  first = false,
): Promise<OpenFixture> {
  const clock = new SystemClock();
  const random = new SystemRandom();
  const onFatal = (error: Error): void => {
    throw error;
  };
  const replica = new Replica({ clock });
  const dialer = new RaftNetwork().dialerOf(MEMBER.address);
  const common = { clock, random, log: silentLog, onFatal };
  const seal = sealed ? { seal: { key: FIXTURE_KEY, random } } : {};
  const raft = await RaftNode.open({
    ...common,
    id: MEMBER.id,
    dir: directory,
    transport: new StreamTransport({ self: MEMBER, dialer, clock, random, log: silentLog }),
    stateMachine: replica,
    snapshotEntries: SNAPSHOT_ENTRIES,
    disk: await DiskStore.open({
      ...common,
      ...seal,
      directory,
      nodeId: MEMBER.id,
      segmentBytes: SEGMENT_BYTES,
    }),
    ...(first ? { bootstrap: { voters: [MEMBER] } } : {}),
  });
  replica.attach(raft);
  await new Promise<void>((resolve) => raft.onLeaderReady(() => resolve()));
  return { raft, replica, stop: () => raft.stop({ transfer: false }) };
}

export function contentsOf(replica: Replica): Expected {
  const tables = TABLES.map((table) => [table, [...replica.store.all(table)]]);
  const plain = JSON.stringify({
    version: replica.store.version,
    tables: Object.fromEntries(tables),
  });
  return JSON.parse(plain) as Expected;
}

async function write(name: string, sealed: boolean): Promise<void> {
  const directory = path.join(FIXTURES, name);
  assert.ok(!fs.existsSync(directory), `${directory} is there`);
  const state = path.join(directory, 'state');
  fs.mkdirSync(state, { recursive: true });
  let open = await openFixture(state, sealed, true);
  const propose = async (...changes: Change[]): Promise<void> => {
    const { rejected } = await open.replica.propose({ atomic: true, changes });
    assert.deepEqual(rejected, []);
  };
  await propose({ kind: 'create', table: 'cluster', object: cluster() });
  for (let at = 1; at <= 3; at += 1) {
    await propose({ kind: 'create', table: 'node', object: node(`node${at}`, at) });
  }
  for (let at = 1; at <= 30; at += 1) {
    await propose({ kind: 'create', table: 'network', object: network(`net${at}`) });
  }
  // A second term, a segment that is appended to again, changes and removals.
  await open.stop();
  open = await openFixture(state, sealed);
  for (let at = 1; at <= 6; at += 1) {
    await propose({ kind: 'create', table: 'service', object: service(`service${at}`) });
  }
  for (const { id } of [...open.replica.store.all('network')].slice(0, 20)) {
    await propose({ kind: 'remove', table: 'network', id });
  }
  const expected = contentsOf(open.replica);
  await open.stop();
  fs.rmSync(path.join(state, 'wal', 'spare'), { force: true });
  fs.writeFileSync(path.join(directory, 'expected.json'), `${JSON.stringify(expected, null, 1)}\n`);
}

const [, script, name, sealed] = process.argv;
if (name !== undefined && import.meta.url === pathToFileURL(script).href) {
  await write(name, sealed === 'sealed');
}

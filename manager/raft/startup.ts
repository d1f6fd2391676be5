/**
 * A member's state at open: from its disk, or, on the first start of a new group, made and written.
 * Runs before anything is sent or applied.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import { Meter } from '../../base/meter.ts';
import { encodeConfChange } from './core/confCodec.ts';
import { MemoryLog } from './core/memoryLog.ts';
import {
  type ConfChange,
  type Entry,
  type HardState,
  NONE,
  type SnapshotMeta,
} from './core/types.ts';
import { DiskStore, type RaftDisk } from './disk/disk.ts';
import { RaftFigures } from './figures.ts';
import { encodeAddresses, MemberTable } from './memberTable.ts';
import type { MemberAddress, RaftNodeOptions, StateMachine } from './types.ts';

export interface OpenState {
  readonly disk: RaftDisk;
  readonly memory: MemoryLog;
  readonly table: MemberTable;
  readonly figures: RaftFigures;
}

/** With the state machine restored. SwarmError corrupt or not_found; see RaftNode.open. */
export async function openState(
  options: RaftNodeOptions,
  onFatal: (error: Error) => void,
): Promise<OpenState> {
  const { dir, id, clock, log, random, sealKey, meter = new Meter() } = options;
  const { olderSealKeys: olderKeys = [] } = options;
  const figures = new RaftFigures(meter);
  const onSynced = (tookMs: number, bytes: number): void => figures.synced(tookMs, bytes);
  const seal = sealKey === undefined ? {} : { seal: { key: sealKey, olderKeys, random } };
  const disk =
    options.disk ??
    (await DiskStore.open({ directory: dir, nodeId: id, clock, log, onFatal, onSynced, ...seal }));
  try {
    const memory = await loadLog(disk, options);
    const table = new MemberTable();
    const snapshot = memory.snapshot();
    if (snapshot !== undefined) {
      table.restore(snapshot.data, snapshot.confState);
      await restoreMachine(disk, options.stateMachine, snapshot);
      options.stateMachine.membersChanged(table.members());
    }
    return { disk, memory, table, figures };
  } catch (error) {
    await disk.close();
    throw error;
  }
}

/** SwarmError not_found when the disk holds nothing and neither bootstrap nor join is given. */
async function loadLog(disk: RaftDisk, first: RaftNodeOptions): Promise<MemoryLog> {
  const { recovered } = disk;
  const memory = new MemoryLog();
  if (!recovered.isNew) {
    memory.setBase(recovered.base);
    memory.append(recovered.entries);
    memory.setHardState(recovered.hardState);
    if (recovered.snapshot !== undefined) memory.noteSnapshot(recovered.snapshot);
    return memory;
  }
  if (first.bootstrap !== undefined) {
    await writeBootstrap(disk, memory, first.bootstrap.voters);
  } else if (first.join === true) {
    // From the first moment on this id has a state, so that a lost disk is told from a new member.
    await write(disk, [], memory.hardState);
  } else {
    throw new SwarmError('not_found', `no raft state in ${first.dir}: initialise or join a swarm`);
  }
  return memory;
}

/** The first voters as committed entries of term 1: equal on each of them. */
async function writeBootstrap(
  disk: RaftDisk,
  memory: MemoryLog,
  voters: readonly MemberAddress[],
): Promise<void> {
  assert(voters.length > 0, 'raft: bootstrap without voters');
  const entries = voters.map((voter, at): Entry => {
    const change: ConfChange = {
      transition: 'auto',
      changes: [{ type: 'addVoter', id: voter.id }],
      context: encodeAddresses([voter]),
    };
    return { term: 1, index: at + 1, type: 'confChange', data: encodeConfChange(change) };
  });
  const hardState = { term: 1, vote: NONE, commit: entries.length };
  await write(disk, entries, hardState);
  memory.append(entries);
  memory.setHardState(hardState);
}

function write(disk: RaftDisk, entries: readonly Entry[], hardState: HardState): Promise<void> {
  return new Promise((done) => {
    disk.append({ entries, hardState, snapshot: undefined, installs: false, sync: true, done });
  });
}

export async function restoreMachine(
  disk: RaftDisk,
  stateMachine: StateMachine,
  snapshot: SnapshotMeta,
): Promise<void> {
  const reader = await disk.openSnapshot(snapshot);
  try {
    await stateMachine.restore(snapshot.index, reader.chunks());
  } finally {
    await reader.close();
  }
}

/**
 * A member's state without the member: read for people (surveyMember, which writes nothing),
 * changed once so that this member is the only one (becomeSole), or made anew of a state from
 * elsewhere (writeSoleState). Every entry of a log counts as committed here: nothing acknowledged
 * may be lost, and nobody is left who could say which of the last entries were.
 */
import * as path from 'node:path';
import { assert } from '../../base/assert.ts';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { withDeadline } from '../../base/queue.ts';
import type { Random } from '../../base/random.ts';
import type { Seal } from '../../base/seal.ts';
import { Configuration } from './configuration.ts';
import { decodeConfChange, encodeConfChange } from './core/confCodec.ts';
import {
  type ConfChange,
  EMPTY_BYTES,
  EMPTY_CONF_STATE,
  type Entry,
  type EntryId,
  NONE,
  type SnapshotMeta,
} from './core/types.ts';
import { DiskStore, type OpenSnapshot, type RaftDisk } from './disk/disk.ts';
import { hostFiles } from './disk/files.ts';
import { surveyWal, type WalSurvey } from './disk/recovery.ts';
import { SnapshotReader } from './disk/snapshotFile.ts';
import type { WalAppend } from './disk/wal.ts';
import { encodeAddresses, encodeTable, generationAbove } from './memberTable.ts';
import type { MemberAddress, StateMachine } from './types.ts';

/** A frame; a disk that does not take it by then is full or broken. */
const WRITE_TIMEOUT_MS = 30_000;

interface ReadLog {
  readonly snapshot: SnapshotMeta | undefined;
  readonly entries: readonly Entry[];
}

/** Brings `machine` (empty before) and a configuration to the end of the log. */
async function replay(
  { snapshot, entries }: ReadLog,
  openSnapshot: (id: EntryId) => Promise<OpenSnapshot>,
  machine: StateMachine,
): Promise<Configuration> {
  const configuration = new Configuration();
  if (snapshot !== undefined) {
    const reader = await openSnapshot(snapshot);
    try {
      await machine.restore(snapshot.index, reader.chunks());
    } finally {
      await reader.close();
    }
    configuration.restore(snapshot);
  }
  for (const { index, term, type, data } of entries) {
    if (index <= (snapshot?.index ?? 0)) continue;
    if (type === 'confChange') configuration.apply(decodeConfChange(data));
    else if (data.length > 0) machine.apply([{ index, term, data }]);
  }
  return configuration;
}

export interface MemberSurvey extends WalSurvey {
  readonly snapshot: SnapshotMeta | undefined;
  /** Of the snapshot's file; 0 = none. */
  readonly snapshotFormat: number;
  /** As of the last entry that could be read; undefined when nothing could be applied. */
  readonly configuration: Configuration | undefined;
}

/** Reads all there is and writes nothing. `machine` (empty) ends as of the last sound entry. */
export async function surveyMember(
  directory: string,
  seal: Seal | undefined,
  machine: StateMachine,
): Promise<MemberSurvey> {
  const wal = surveyWal(path.join(directory, 'wal'), seal);
  const none = { ...wal, snapshot: undefined, snapshotFormat: 0, configuration: undefined };
  if (wal.state === undefined) return none;
  const open = (id: EntryId): Promise<SnapshotReader> =>
    SnapshotReader.open(hostFiles, path.join(directory, 'snap'), id, seal);
  try {
    let snapshot: SnapshotMeta | undefined;
    let snapshotFormat = 0;
    if (wal.state.snapshot.index > 0) {
      const reader = await open(wal.state.snapshot);
      snapshot = reader.meta;
      snapshotFormat = reader.format;
      await reader.close();
    }
    const log = { snapshot, entries: wal.state.entries };
    const configuration = await replay(log, open, machine);
    return { ...wal, snapshot, snapshotFormat, configuration };
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error;
    return { ...none, damage: wal.damage ?? error };
  }
}

interface Place {
  readonly dir: string;
  /** This member, and where it is reached from now on. */
  readonly self: MemberAddress;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly sealKey?: Uint8Array;
  readonly olderSealKeys?: readonly Uint8Array[];
  /** Tests bring their own; default: a DiskStore on `dir`. */
  readonly disk?: RaftDisk;
}

type WriteLog = (append: Pick<WalAppend, 'entries' | 'hardState' | 'snapshot'>) => Promise<void>;

/** Opens the disk, has `work` done with it, and closes it; an I/O error fails the work. */
async function onDisk(
  place: Place,
  work: (disk: RaftDisk, write: WriteLog) => Promise<void>,
): Promise<void> {
  const { dir, self, clock, random, log, sealKey, olderSealKeys: olderKeys = [] } = place;
  let failed = (_error: Error): void => {};
  const failure = new Promise<never>((_, reject) => {
    failed = reject;
  });
  failure.catch(() => {}); // told by the race of each write; until one it is not 'unhandled'
  const onFatal = (error: Error): void => failed(error);
  const seal = sealKey === undefined ? {} : { seal: { key: sealKey, olderKeys, random } };
  const disk =
    place.disk ??
    (await DiskStore.open({ directory: dir, nodeId: self.id, clock, log, onFatal, ...seal }));
  const write: WriteLog = async (append) => {
    if (disk.full) throw new SwarmError('exhausted', `the disk that holds ${dir} is full`);
    const installs = append.snapshot !== undefined;
    const written = new Promise<void>((done) => {
      disk.append({ ...append, installs, sync: true, done });
    });
    const inTime = withDeadline(clock, WRITE_TIMEOUT_MS, `writing to ${dir}`, written);
    await Promise.race([inTime, failure]);
  };
  try {
    await work(disk, write);
  } finally {
    await disk.close();
  }
}

export interface SoleOptions extends Place {
  /** Empty; ends as of the last entry of the log. */
  readonly machine: StateMachine;
  /** A last command, from what `machine` holds then. */
  readonly command: () => Uint8Array;
}

/**
 * Makes this member the only one: one frame of the log takes all others out for good and carries
 * the command, so that a crash at any moment leaves it undone or done. SwarmError conflict when the
 * group had taken this member out; corrupt, not_found, exhausted as when a member is opened.
 */
export function becomeSole(options: SoleOptions): Promise<void> {
  const { dir, self, machine, command } = options;
  return onDisk(options, async (disk, write) => {
    const { recovered } = disk;
    if (recovered.isNew) {
      throw new SwarmError('not_found', `no raft state in ${dir}: there is nothing to recover`);
    }
    const configuration = await replay(recovered, (id) => disk.openSnapshot(id), machine);
    const changes = soleChanges(configuration, self);
    const last = recovered.entries[recovered.entries.length - 1] ?? recovered.base;
    const term = Math.max(recovered.hardState.term, last.term) + 1;
    const entries = changes.map(
      (change, at): Entry => ({
        term,
        index: last.index + 1 + at,
        type: 'confChange',
        data: encodeConfChange(change),
      }),
    );
    const index = last.index + 1 + entries.length;
    entries.push({ term, index, type: 'normal', data: command() });
    await write({ entries, hardState: { term, vote: NONE, commit: index }, snapshot: undefined });
  });
}

export interface SoleStateOptions extends Place {
  /** Ids that never come back. */
  readonly removed: readonly number[];
  readonly term: number;
  /** What it holds now is the member's state. */
  readonly machine: StateMachine;
}

/** The files of the only member of a new group, where there are none. */
export function writeSoleState(options: SoleStateOptions): Promise<void> {
  const { self, removed, term, machine } = options;
  return onDisk(options, async (disk, write) => {
    const { index, chunks } = machine.takeSnapshot();
    const confState = { ...EMPTY_CONF_STATE, voters: [self.id] };
    const snapshot = { index, term, confState, data: encodeTable([self], removed) };
    await disk.writeSnapshot(snapshot, chunks, true);
    // The file counts once its mark is in the log.
    await write({ entries: [], hardState: { term, vote: NONE, commit: index }, snapshot });
  });
}

/** From the configuration at the end of the log to one with `self` alone, step by step. */
export function soleChanges(configuration: Configuration, self: MemberAddress): ConfChange[] {
  const { table } = configuration;
  if (table.wasRemoved(self.id)) {
    throw new SwarmError(
      'conflict',
      'this manager was taken out of the managers: use the state of one that was not',
    );
  }
  const known = table.members().map(({ id }) => id);
  const changes: ConfChange[] = [];
  const make = (change: ConfChange): void => {
    configuration.apply(change);
    changes.push(change);
  };
  const step = (type: 'addVoter' | 'addLearner' | 'remove' | 'update', id: number): ConfChange => ({
    transition: 'auto',
    changes: [{ type, id }],
    context: id === self.id && type !== 'remove' ? encodeAddresses([self]) : EMPTY_BYTES,
  });
  if (table.confState.votersOutgoing.length > 0) {
    make({ transition: 'auto', changes: [], context: EMPTY_BYTES });
  }
  if (!table.confState.voters.includes(self.id)) make(step('addVoter', self.id));
  for (const { id } of table.members()) if (id !== self.id) make(step('remove', id));
  const generation = generationAbove([self.id, ...table.removed(), ...known]);
  make(step('addLearner', generation));
  make(step('remove', generation));
  if (table.address(self.id) !== self.address) make(step('update', self.id));
  const { voters, learners } = table.confState;
  assert(voters.length === 1 && learners.length === 0, 'raft: not alone', { voters, learners });
  return changes;
}

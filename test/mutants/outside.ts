/**
 * Planted bugs around the core: in the driver, the log on disk, snapshots, members, and in how
 * entries are applied to the store.
 */
import { type Mutant, mutant } from './mutant.ts';

const ENGINE = 'manager/raft/engine.ts';
const LEADER = 'manager/raft/core/leader.ts';
const ANNOUNCEMENT = 'manager/raft/announcement.ts';
const NODE = 'manager/raft/node.ts';
const READS = 'manager/raft/reads.ts';
const PROPOSALS = 'manager/raft/proposals.ts';
const SNAPSHOTS = 'manager/raft/snapshots.ts';
const TABLE = 'manager/raft/memberTable.ts';
const DISK = 'manager/raft/disk/disk.ts';
const FRAME = 'manager/raft/disk/frame.ts';
const RECOVERY = 'manager/raft/disk/recovery.ts';
const WRITER = 'manager/raft/disk/segmentWriter.ts';
const SNAPSHOT_FILE = 'manager/raft/disk/snapshotFile.ts';
const STARTUP = 'manager/raft/startup.ts';
const OFFLINE = 'manager/raft/offline.ts';
const REPLICA = 'manager/replica.ts';
const STORE = 'manager/store/store.ts';
const RING = 'manager/store/ring.ts';

export const DRIVER_MUTANTS: readonly Mutant[] = [
  mutant(
    'answer-before-sync',
    'the driver sends what follows a write when it begins the write',
    ENGINE,
    'this.#durable.push(() => this.#written(ready, message.responses));\n' +
      '        if (!this.#installing) this.#drainDurable();\n      },\n    });',
    '},\n    });\n' +
      '    this.#durable.push(() => this.#written(ready, message.responses));\n' +
      '    if (!this.#installing) this.#drainDurable();',
  ),
  mutant(
    'applied-twice',
    'entries that the snapshot holds are applied again after a restart',
    ENGINE,
    'applied: snapshot?.index ?? 0,',
    'applied: 0,',
  ),
  mutant(
    'joint-left-at-once',
    'members leave a joint configuration as soon as they enter it',
    ENGINE,
    'const confState = this.raw.applyConfChange(change);',
    'let confState = this.raw.applyConfChange(change);\n' +
      '      const leave = { ...change, changes: [] };\n' +
      '      if (confState.autoLeave) confState = this.raw.applyConfChange(leave);',
  ),
  mutant(
    'removal-told-too-early',
    'a removed member is let go while its removal could still be forgotten',
    TABLE,
    'if (this.#unsettled.has(id)) return false;\n    if (this.#removed',
    'if (this.#removed',
  ),
  mutant(
    'restored-as-settled',
    'who starts from a snapshot takes the last change in it for settled',
    TABLE,
    'const unsettled = this.#isSettled ? undefined : [...this.#unsettled];',
    'const unsettled = this.#generation < 0 ? [] : undefined;',
  ),
  mutant(
    'changed-too-early',
    'a change of members is called made while it could still be forgotten',
    ENGINE,
    'this.#host.onMembersChanged();\n      return [];',
    'this.#host.onMembersChanged();\n      return this.#unsettled.splice(0);',
  ),
  {
    name: 'settled-by-being-applied',
    what: 'a change of members counts as settled as soon as it is applied',
    edits: [
      {
        file: TABLE,
        from: 'this.#isSettled = isSettlement(change);',
        to: 'this.#isSettled = change.changes.length >= 0;',
      },
      {
        file: ENGINE,
        from: 'this.#host.onMembersChanged();\n      return [];',
        to: 'this.#host.onMembersChanged();\n      return this.#unsettled.splice(0);',
      },
      {
        file: TABLE,
        from: 'this.#remove(id);\n      this.#unsettled.add(id);',
        to: 'this.#remove(id);',
      },
    ],
  },
  mutant(
    'only-own-changes-settled',
    'a leader does not settle what the one before it changed',
    ENGINE,
    'if (table.isSettled || this.raft.role',
    'if (table.isSettled || this.#unsettled.at(-1)?.term !== this.raft.term || this.raft.role',
  ),
  {
    name: 'two-changes-at-once',
    what: 'a change of members is proposed before the one before it is applied',
    edits: [
      {
        file: LEADER,
        from: 'return raft.pendingConfIndex <= raft.log.applied && joint === wantsLeave;',
        to: 'return joint === wantsLeave;',
      },
      {
        file: ENGINE,
        from: 'if (pendingConfIndex > log.applied ||',
        to: 'if (pendingConfIndex > log.lastIndex() ||',
      },
    ],
  },
  mutant(
    'moved-learner-silent',
    'a learner does not say that it has moved',
    ANNOUNCEMENT,
    "raft.role === 'leader' || raft.promotable()",
    "raft.role === 'leader' || raft.promotable() || raft.isLearner",
  ),
  mutant(
    'removed-does-not-ask',
    'who has applied its own removal waits to be told',
    ANNOUNCEMENT,
    "raft.role === 'leader' || raft.promotable()",
    "raft.role === 'leader' || !raft.tracker.progress.has(raft.id) || raft.promotable()",
  ),
  mutant(
    'installed-before-restored',
    'a snapshot counts as applied before the store holds it',
    ENGINE,
    'await restoreMachine(disk, stateMachine, snapshot);',
    'this.#respond(responses);\n      responses = [];\n' +
      '      await restoreMachine(disk, stateMachine, snapshot);',
  ),
  mutant(
    'read-before-applied',
    'a read is answered before what it must show is applied',
    READS,
    'const ready = this.#confirmed.filter((waiting) => waiting.index <= index);',
    'const ready = this.#confirmed.filter((waiting) => waiting.index > 0);',
  ),
  {
    name: 'answered-by-index',
    what: 'a proposal is answered by whatever was committed at its index',
    edits: [
      { file: PROPOSALS, from: 'if (waiting.term !== term) {', to: 'if (waiting.term > term) {' },
      {
        file: NODE,
        from: "if (state.role !== 'leader') {",
        to: "if (state.role === 'candidate') {",
      },
    ],
  },
  mutant(
    'removed-returns',
    'ids of members that were taken out are forgotten',
    TABLE,
    'this.#remove(id);\n      this.#unsettled.add(id);',
    'this.#unsettled.add(id);',
  ),
];

export const DISK_MUTANTS: readonly Mutant[] = [
  mutant(
    'no-sync',
    'a batch is called durable without a sync',
    WRITER,
    'this.#file.syncData();\n    this.#offset += frame.length;',
    'this.#offset += frame.length;',
  ),
  mutant(
    'sync-error-ignored',
    'a sync that failed is taken for one that did not',
    WRITER,
    'this.#file.syncData();\n',
    'try {\n      this.#file.syncData();\n    } catch {\n      this.#sequence += 0;\n    }\n',
  ),
  mutant(
    'name-unsynced',
    'a new segment is used before its name is durable',
    WRITER,
    'this.#files.syncDirectory(this.#directory);\n    this.#spareReady = false;',
    'this.#spareReady = false;',
  ),
  mutant(
    'cache-trusted-at-start',
    'what a dead process wrote is trusted at start without a sync',
    DISK,
    'segment.syncData();',
    'segment.sizeBytes.toFixed();',
  ),
  mutant(
    'torn-frame-accepted',
    'the checksum of a frame is not looked at',
    FRAME,
    'return crc32(body) === header.bodyCrc ? body : undefined;',
    'return body;',
  ),
  mutant(
    'uncommitted-dropped',
    'at start durable entries that are not known to be committed are dropped',
    DISK,
    'return { isNew: false, hardState, snapshot, base, entries };',
    'const known = entries.slice(0, Math.max(0, hardState.commit - base.index));\n' +
      '  return { isNew: false, hardState, snapshot, base, entries: known };',
  ),
  mutant(
    'tail-kept-at-start',
    'what followed a replaced entry is back after a restart',
    RECOVERY,
    'this.entries.length = at;\n    this.entries.push(entry);',
    'this.entries[at] = entry;',
  ),
  mutant(
    'snapshot-unsynced',
    "a snapshot's file is named before its content is durable",
    SNAPSHOT_FILE,
    'await writeAll(file, meta, chunks, seal);\n      await file.sync();',
    'await writeAll(file, meta, chunks, seal);',
  ),
  mutant(
    'snapshot-name-unsynced',
    "a snapshot counts before its file's name is durable",
    SNAPSHOT_FILE,
    'files.rename(unfinished, snapshotPath(directory, meta));\n    files.syncDirectory(directory);',
    'files.rename(unfinished, snapshotPath(directory, meta));',
  ),
  mutant(
    'cut-before-marked',
    'the log is cut before the snapshot that replaces it is marked',
    SNAPSHOTS,
    'disk.append({ ...mark, snapshot: meta });',
    'disk.append({ ...mark, snapshot: meta });\n      done();',
  ),
  mutant(
    'cut-too-far',
    'the log is cut past the snapshot',
    SNAPSHOTS,
    'disk.release(snapshot, until, this.#old);',
    'disk.release(snapshot, memory.lastIndex(), this.#old);',
  ),
];

export const LOSS_MUTANTS: readonly Mutant[] = [
  mutant(
    'emptied-disk-joins',
    'a member whose files are gone begins anew under its old id',
    STARTUP,
    '} else if (first.join === true) {',
    '} else if (first.join !== false) {',
  ),
  mutant(
    'damage-taken-for-torn',
    'a damaged last frame is cleared as if its write had broken off',
    RECOVERY,
    "if (!isTorn(bytes, offset, header)) throw damage(file, offset, 'a damaged frame');",
    'if (header === undefined && !isTorn(bytes, offset, header)) {\n' +
      "    throw damage(file, offset, 'a damaged frame');\n  }",
  ),
  mutant(
    'survivor-drops-tail',
    'who goes on alone drops what it does not know to be committed',
    OFFLINE,
    'const last = recovered.entries[recovered.entries.length - 1] ?? recovered.base;',
    'const { commit } = recovered.hardState;\n' +
      '    const known = recovered.entries.filter(({ index }) => index <= commit);\n' +
      '    const last = known[known.length - 1] ?? recovered.base;',
  ),
  mutant(
    'no-new-generation',
    'who goes on alone takes out only those whom it knows',
    OFFLINE,
    "make(step('addLearner', generation));\n  make(step('remove', generation));",
    "assert(generation > 0, 'raft: generation');",
  ),
];

export const STATE_MUTANTS: readonly Mutant[] = [
  mutant(
    'snapshot-of-later-state',
    'a snapshot holds a later state than it says',
    SNAPSHOTS,
    'const { chunks } = this.#host.stateMachine.takeSnapshot();',
    'await clock.sleep(1);\n    const { chunks } = this.#host.stateMachine.takeSnapshot();',
  ),
  mutant(
    'pin-moves',
    'changes made while a snapshot is written get into it',
    STORE,
    'for (const pin of this.#pins) pin.capture(table, id, before);',
    'for (const pin of this.#pins) pin.capture(table, id, after);',
  ),
  mutant(
    'own-unchecked',
    'the leader applies its own transactions by other rules than its followers',
    REPLICA,
    'const result = this.store.apply(index, atMs, { atomic, changes });',
    'const isOwn = this.#own.has(data);\n' +
      '      const result = this.store.apply(index, atMs, { atomic: atomic && !isOwn, changes });',
  ),
  mutant(
    'atomic-half-undone',
    'of a refused transaction the last change stays',
    STORE,
    'for (const { table, id, before } of events.reverse()) this.#contents.put(table, id, before);',
    'events.pop();\n' +
      '      for (const { table, id, before } of events.reverse())' +
      ' this.#contents.put(table, id, before);',
  ),
  mutant(
    'watch-resumes-early',
    'a watch that goes on shows the events of its version again',
    RING,
    'if (this.#slots[middle % this.#capacity].version <= version) low = middle + 1;',
    'if (this.#slots[middle % this.#capacity].version < version) low = middle + 1;',
  ),
];

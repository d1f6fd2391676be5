/**
 * Configuration changes as computations: a configuration and changes in, a new configuration out,
 * or the reason why not. Single step (at most one voter changes) or joint (Raft paper, section 6;
 * Ongaro's thesis, 4.3). Nothing is changed in place. Semantics: etcd-io/raft confchange.
 */
import { assert } from '../../../base/assert.ts';
import { Inflights } from './inflights.ts';
import { Progress } from './progress.ts';
import { EMPTY_CONFIG, type Tracker, type TrackerConfig } from './tracker.ts';
import type { ConfChange, ConfChangeStep, ConfState } from './types.ts';

/** A configuration being worked on. */
interface Draft {
  incoming: Set<number>;
  outgoing: Set<number>;
  learners: Set<number>;
  learnersNext: Set<number>;
  autoLeave: boolean;
  progress: Map<number, Progress>;
}

export interface ConfResult {
  readonly config: TrackerConfig;
  readonly progress: Map<number, Progress>;
}

/** Why a change cannot be made. */
export class ConfChangeError extends Error {
  override readonly name = 'ConfChangeError';
}

export interface Changer {
  readonly config: TrackerConfig;
  readonly progress: ReadonlyMap<number, Progress>;
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
  readonly lastIndex: number;
}

export function changerOf(tracker: Tracker, lastIndex: number): Changer {
  return {
    config: tracker.config,
    progress: tracker.progress,
    maxInflightMessages: tracker.maxInflightMessages,
    maxInflightBytes: tracker.maxInflightBytes,
    lastIndex,
  };
}

/** Whether `change` goes through a joint configuration, and whether that is left by itself. */
export function entersJoint(change: ConfChange): { joint: boolean; autoLeave: boolean } {
  if (change.transition === 'auto' && change.changes.length <= 1) {
    return { joint: false, autoLeave: false };
  }
  return { joint: true, autoLeave: change.transition !== 'jointExplicit' };
}

export function leavesJoint(change: ConfChange): boolean {
  return change.transition === 'auto' && change.changes.length === 0;
}

/** Throws ConfChangeError. */
export function applyChange(changer: Changer, change: ConfChange): ConfResult {
  if (leavesJoint(change)) return leaveJoint(changer);
  const { joint, autoLeave } = entersJoint(change);
  return joint ? enterJoint(changer, autoLeave, change.changes) : simple(changer, change.changes);
}

export function enterJoint(
  changer: Changer,
  autoLeave: boolean,
  steps: readonly ConfChangeStep[],
): ConfResult {
  const draft = draftOf(changer);
  if (draft.outgoing.size > 0) throw new ConfChangeError('config is already joint');
  if (draft.incoming.size === 0) {
    throw new ConfChangeError("can't make a zero-voter config joint");
  }
  draft.outgoing = new Set(draft.incoming);
  applySteps(changer, draft, steps);
  draft.autoLeave = autoLeave;
  return finish(draft);
}

export function leaveJoint(changer: Changer): ConfResult {
  const draft = draftOf(changer);
  if (draft.outgoing.size === 0) throw new ConfChangeError("can't leave a non-joint config");
  for (const id of draft.learnersNext) {
    draft.learners.add(id);
    const progress = draft.progress.get(id);
    assert(progress !== undefined, 'raft: no progress for a coming learner', { id });
    progress.isLearner = true;
  }
  draft.learnersNext = new Set();
  for (const id of draft.outgoing) {
    if (!draft.incoming.has(id) && !draft.learners.has(id)) draft.progress.delete(id);
  }
  draft.outgoing = new Set();
  draft.autoLeave = false;
  return finish(draft);
}

export function simple(changer: Changer, steps: readonly ConfChangeStep[]): ConfResult {
  const draft = draftOf(changer);
  if (draft.outgoing.size > 0) {
    throw new ConfChangeError("can't apply simple config change in joint config");
  }
  applySteps(changer, draft, steps);
  const before = changer.config.voters[0];
  let changed = 0;
  for (const id of before) if (!draft.incoming.has(id)) changed += 1;
  for (const id of draft.incoming) if (!before.has(id)) changed += 1;
  if (changed > 1) {
    throw new ConfChangeError('more than one voter changed without entering joint config');
  }
  return finish(draft);
}

/** Builds the configuration a ConfState describes, from nothing. */
export function restoreConf(changer: Changer, state: ConfState): ConfResult {
  let result: ConfResult = { config: EMPTY_CONFIG, progress: new Map() };
  const at = (): Changer => ({ ...changer, config: result.config, progress: result.progress });
  const add = (id: number): ConfChangeStep => ({ type: 'addVoter', id });
  const learn = (id: number): ConfChangeStep => ({ type: 'addLearner', id });
  const incoming: ConfChangeStep[] = [
    ...state.votersOutgoing.map((id): ConfChangeStep => ({ type: 'remove', id })),
    ...state.voters.map(add),
    ...state.learners.map(learn),
    ...state.learnersNext.map(learn),
  ];
  if (state.votersOutgoing.length === 0) {
    for (const step of incoming) result = simple(at(), [step]);
    return result;
  }
  for (const id of state.votersOutgoing) result = simple(at(), [add(id)]);
  return enterJoint(at(), state.autoLeave, incoming);
}

function draftOf(changer: Changer): Draft {
  const progress = new Map<number, Progress>();
  for (const [id, value] of changer.progress) progress.set(id, value.copy());
  const draft: Draft = {
    incoming: new Set(changer.config.voters[0]),
    outgoing: new Set(changer.config.voters[1]),
    learners: new Set(changer.config.learners),
    learnersNext: new Set(changer.config.learnersNext),
    autoLeave: changer.config.autoLeave,
    progress,
  };
  check(draft);
  return draft;
}

function applySteps(changer: Changer, draft: Draft, steps: readonly ConfChangeStep[]): void {
  for (const step of steps) {
    // Id 0 stands for a change that was refused where it was applied.
    if (step.id === 0) continue;
    if (step.type === 'addVoter') makeVoter(changer, draft, step.id);
    else if (step.type === 'addLearner') makeLearner(changer, draft, step.id);
    else if (step.type === 'remove') remove(draft, step.id);
  }
  if (draft.incoming.size === 0) throw new ConfChangeError('removed all voters');
}

function makeVoter(changer: Changer, draft: Draft, id: number): void {
  const progress = draft.progress.get(id);
  if (progress === undefined) {
    initProgress(changer, draft, id, false);
    return;
  }
  progress.isLearner = false;
  draft.learners.delete(id);
  draft.learnersNext.delete(id);
  draft.incoming.add(id);
}

function makeLearner(changer: Changer, draft: Draft, id: number): void {
  const progress = draft.progress.get(id);
  if (progress === undefined) {
    initProgress(changer, draft, id, true);
    return;
  }
  if (progress.isLearner) return;
  remove(draft, id);
  draft.progress.set(id, progress);
  // While it votes in the outgoing half it cannot be a learner yet.
  if (draft.outgoing.has(id)) {
    draft.learnersNext.add(id);
  } else {
    progress.isLearner = true;
    draft.learners.add(id);
  }
}

function remove(draft: Draft, id: number): void {
  if (!draft.progress.has(id)) return;
  draft.incoming.delete(id);
  draft.learners.delete(id);
  draft.learnersNext.delete(id);
  if (!draft.outgoing.has(id)) draft.progress.delete(id);
}

function initProgress(changer: Changer, draft: Draft, id: number, isLearner: boolean): void {
  if (isLearner) draft.learners.add(id);
  else draft.incoming.add(id);
  draft.progress.set(
    id,
    new Progress({
      match: 0,
      next: Math.max(changer.lastIndex, 1),
      isLearner,
      // Else CheckQuorum could depose the leader before the newcomer had a chance to answer.
      recentActive: true,
      inflights: new Inflights(changer.maxInflightMessages, changer.maxInflightBytes),
    }),
  );
}

function finish(draft: Draft): ConfResult {
  check(draft);
  return {
    config: {
      voters: [draft.incoming, draft.outgoing],
      autoLeave: draft.autoLeave,
      learners: draft.learners,
      learnersNext: draft.learnersNext,
    },
    progress: draft.progress,
  };
}

function check(draft: Draft): void {
  for (const ids of [draft.incoming, draft.outgoing, draft.learners, draft.learnersNext]) {
    for (const id of ids) assert(draft.progress.has(id), 'raft: no progress', { id });
  }
  for (const id of draft.learnersNext) {
    assert(draft.outgoing.has(id), 'raft: coming learner is no outgoing voter', { id });
    assert(!draft.progress.get(id)?.isLearner, 'raft: coming learner is one already', { id });
  }
  for (const id of draft.learners) {
    assert(!draft.outgoing.has(id) && !draft.incoming.has(id), 'raft: a learner votes', { id });
    assert(draft.progress.get(id)?.isLearner === true, 'raft: learner not marked', { id });
  }
  if (draft.outgoing.size === 0) {
    assert(draft.learnersNext.size === 0, 'raft: coming learners outside a joint config');
    assert(!draft.autoLeave, 'raft: autoLeave outside a joint config');
  }
}

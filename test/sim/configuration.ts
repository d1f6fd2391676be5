/**
 * Which members vote after each committed change: Raft's rules for configurations written down a
 * second time, as plainly as can be, so that the quorum of a commit is judged by something other
 * than the code that decided it.
 */
import type { ConfChange } from '../../manager/raft/core/types.ts';

export interface Configuration {
  readonly voters: ReadonlySet<number>;
  /** The other half while joint; else empty. */
  readonly outgoing: ReadonlySet<number>;
  readonly learners: ReadonlySet<number>;
  readonly learnersNext: ReadonlySet<number>;
}

const NONE: ReadonlySet<number> = new Set();

export const NO_CONFIGURATION: Configuration = {
  voters: NONE,
  outgoing: NONE,
  learners: NONE,
  learnersNext: NONE,
};

export function membersOf(conf: Configuration): number[] {
  const all = [...conf.voters, ...conf.outgoing, ...conf.learners, ...conf.learnersNext];
  return [...new Set(all)].sort((left, right) => left - right);
}

export function hasQuorum(conf: Configuration, holds: (id: number) => boolean): boolean {
  return [conf.voters, conf.outgoing].every(
    (half) => half.size === 0 || 2 * [...half].filter(holds).length > half.size,
  );
}

/** What comes of `change`; undefined where it cannot be made. */
export function changed(
  conf: Configuration,
  change: ConfChange,
  wasRemoved: (id: number) => boolean,
): Configuration | undefined {
  const isJoint = conf.outgoing.size > 0;
  if (change.changes.length === 0 && change.transition === 'auto') {
    if (!isJoint) return undefined;
    const learners = new Set([...conf.learners, ...conf.learnersNext]);
    return { voters: conf.voters, outgoing: NONE, learners, learnersNext: NONE };
  }
  const isSimple = change.transition === 'auto' && change.changes.length === 1;
  if (isJoint || (!isSimple && conf.voters.size === 0)) return undefined;
  const voters = new Set(conf.voters);
  const learners = new Set(conf.learners);
  const learnersNext = new Set<number>();
  const outgoing = isSimple ? NONE : conf.voters;
  for (const { type, id } of change.changes) {
    if (id === 0 || type === 'update' || (type !== 'remove' && wasRemoved(id))) continue;
    const isLearner = learners.has(id) || learnersNext.has(id);
    if (type === 'addLearner' && isLearner) continue;
    voters.delete(id);
    learners.delete(id);
    learnersNext.delete(id);
    if (type === 'addVoter') voters.add(id);
    else if (type === 'addLearner') (outgoing.has(id) ? learnersNext : learners).add(id);
  }
  const before = [...conf.voters].filter((id) => !voters.has(id)).length;
  const after = [...voters].filter((id) => !conf.voters.has(id)).length;
  if (voters.size === 0 || (isSimple && before + after > 1)) return undefined;
  return { voters, outgoing, learners, learnersNext };
}

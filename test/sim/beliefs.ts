/**
 * What a member believes of its group, held against what is true: after each change that it has
 * applied its members are those that the committed changes make, and a leader that no quorum has
 * answered for longer than CheckQuorum allows leads no more. Looks only.
 */
import { ELECTION_MS, TICK_MS } from '../../manager/raft/limits.ts';
import type { RaftNode } from '../../manager/raft/node.ts';
import type { Member, RaftStatus } from '../../manager/raft/types.ts';
import { type Configuration, hasQuorum } from './configuration.ts';
import type { SimProcess } from './process.ts';
import { check } from './violation.ts';

/** CheckQuorum looks once an election timeout; a transfer may put that off by another. */
const UNHEARD_LIMIT_MS = 4 * ELECTION_MS;

export class Beliefs {
  readonly #process: SimProcess;
  #conf: Configuration | undefined = undefined;
  #members: readonly Member[] | undefined = undefined;
  /** By its own clock, since it leads without being heard; undefined: it is heard, or leads not. */
  #aloneSinceMs: number | undefined = undefined;
  #pausedUntilMs = 0;
  /** Once a tick is enough, and asking costs. */
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** Since when its log ends elsewhere than what its disk was handed. */
  #apartSinceMs: number | undefined = undefined;

  constructor(process: SimProcess) {
    this.#process = process;
  }

  /** `conf`: in force at what it has applied; `members`: what it told its state machine last. */
  look(node: RaftNode, status: RaftStatus, conf: Configuration, members: readonly Member[]): void {
    if (conf !== this.#conf || members !== this.#members) {
      this.#conf = conf;
      this.#members = members;
      this.#aloneSinceMs = undefined;
      const told = describe(members);
      check(told === expected(conf), 'members', () =>
        [`member ${status.id} at ${status.applied} has ${told}, not ${expected(conf)}`].join(' '),
      );
    }
    if (status.role === 'leader') this.#lookAtLeader(node, status, conf);
    else this.#aloneSinceMs = undefined;
  }

  /**
   * Its log ends where what it handed to its disk ends (`writtenIndex`), but for what came just
   * now: that is handed over before time moves on, unless the process stands still.
   */
  lookAtLog({ id, term, lastIndex }: RaftStatus, writtenIndex: number): void {
    if (lastIndex === writtenIndex) {
      this.#apartSinceMs = undefined;
      return;
    }
    const { schedule, pausedUntilMs } = this.#process;
    this.#apartSinceMs ??= schedule.nowMs;
    const sinceMs = Math.max(this.#apartSinceMs, pausedUntilMs);
    check(schedule.nowMs <= sinceMs, 'end of the log', () =>
      [`member ${id}, term ${term}: ends at ${lastIndex}, its disk has ${writtenIndex}`].join(' '),
    );
  }

  #lookAtLeader(node: RaftNode, { id, term }: RaftStatus, conf: Configuration): void {
    const { clock, pausedUntilMs } = this.#process;
    const nowMs = clock.nowMs();
    if (nowMs - this.#lookedAtMs < TICK_MS && pausedUntilMs === this.#pausedUntilMs) return;
    this.#lookedAtMs = nowMs;
    if (pausedUntilMs !== this.#pausedUntilMs) this.#aloneSinceMs = undefined;
    this.#pausedUntilMs = pausedUntilMs;
    const reached = node.members().filter((member) => member.reachable === true);
    const ids = new Set(reached.map((member) => member.id));
    if (hasQuorum(conf, (voter) => ids.has(voter))) {
      this.#aloneSinceMs = undefined;
      return;
    }
    this.#aloneSinceMs ??= nowMs;
    const aloneMs = nowMs - this.#aloneSinceMs;
    check(
      aloneMs <= UNHEARD_LIMIT_MS,
      'leads unheard',
      `member ${id}, term ${term}: ${aloneMs} ms`,
    );
  }
}

function describe(members: readonly Member[]): string {
  return members
    .map(({ id, learner }) => `${id}${learner ? '?' : ''}`)
    .sort()
    .join(' ');
}

/** A voter that is to become a learner is a voter still. */
function expected({ voters, outgoing, learners }: Configuration): string {
  const voting = new Set([...voters, ...outgoing]);
  const ids = [...voting].map((id) => `${id}`);
  return [...ids, ...[...learners].map((id) => `${id}?`)].sort().join(' ');
}

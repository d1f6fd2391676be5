/**
 * Handing over the lead: on request, before a clean stop, and when the leader's disk is full. Picks
 * the voter that answers and holds the most; the core does the rest.
 */
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Engine } from './engine.ts';
import type { LeadershipWatch } from './leadership.ts';
import { HAND_OVER_EVERY_MS, TRANSFER_TIMEOUT_MS } from './limits.ts';
import type { MemberTable } from './memberTable.ts';
import type { MemberStatus } from './types.ts';

export interface SuccessionHost {
  readonly id: number;
  readonly clock: Clock;
  readonly engine: Engine;
  readonly table: MemberTable;
  readonly leadership: LeadershipWatch;
  members(): MemberStatus[];
}

export class Succession {
  readonly #host: SuccessionHost;
  #handedOverAtMs = Number.NEGATIVE_INFINITY;

  constructor(host: SuccessionHost) {
    this.#host = host;
  }

  #best(): number | undefined {
    const voters = this.#host
      .members()
      .filter((member) => !member.learner && member.id !== this.#host.id && member.reachable);
    voters.sort((left, right) => (right.matchIndex ?? 0) - (left.matchIndex ?? 0));
    return voters[0]?.id;
  }

  /** A leader that cannot write lets another one lead, if there is one; not again and again. */
  handOver(): void {
    const { engine, clock } = this.#host;
    const nowMs = clock.nowMs();
    if (engine.raft.role !== 'leader') return;
    if (nowMs - this.#handedOverAtMs < HAND_OVER_EVERY_MS) return;
    this.#handedOverAtMs = nowMs;
    const to = this.#best();
    if (to === undefined) return;
    engine.raw.transferLeadership(to);
    engine.schedule();
  }

  /** At the leader; resolves when another leads. SwarmError conflict (nobody can), timeout. */
  async transfer(to: number | undefined): Promise<void> {
    const { id, clock, engine, table, leadership } = this.#host;
    const target = to ?? this.#best();
    if (target === id) return;
    if (target === undefined || !table.isVoter(target)) {
      throw new SwarmError('conflict', 'no other manager can take over the lead');
    }
    const changed = leadership.changed.next(
      clock,
      TRANSFER_TIMEOUT_MS,
      (now) => now.leaderId !== undefined && now.leaderId !== id,
    );
    engine.raw.transferLeadership(target);
    engine.schedule();
    await changed;
  }
}

/**
 * Handing over the lead: on request, before a clean stop, and when the leader's disk is full. Picks
 * the voter that answers and holds the most; the core does the rest.
 */
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Engine } from './engine.ts';
import type { LeadershipWatch } from './leadership.ts';
import { HAND_OVER_EVERY_MS, HAND_OVER_MOST_MS, TRANSFER_TIMEOUT_MS } from './limits.ts';
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
  /** Not before this is the lead given away for want of room, and then not for this long. */
  #nextMs = Number.NEGATIVE_INFINITY;
  #everyMs = HAND_OVER_EVERY_MS;
  /** Whom it was given for want of room. */
  readonly #given = new Set<number>();

  constructor(host: SuccessionHost) {
    this.#host = host;
  }

  /** Those that answer, who holds the most first. */
  #heirs(): number[] {
    const voters = this.#host
      .members()
      .filter((member) => !member.learner && member.id !== this.#host.id && member.reachable);
    voters.sort((left, right) => (right.matchIndex ?? 0) - (left.matchIndex ?? 0));
    return voters.map((voter) => voter.id);
  }

  /**
   * A leader that cannot write lets another one lead, if there is one. Called for as long as it
   * leads so: nobody knows whose disk has room, hence each is tried in turn, round after round.
   */
  handOver(): void {
    const { engine, clock } = this.#host;
    const nowMs = clock.nowMs();
    if (engine.raft.role !== 'leader' || nowMs < this.#nextMs) return;
    const heirs = this.#heirs();
    if (heirs.length === 0) return;
    if (heirs.every((id) => this.#given.has(id))) {
      this.#everyMs = Math.min(2 * this.#everyMs, HAND_OVER_MOST_MS);
      this.#given.clear();
    }
    this.#nextMs = nowMs + this.#everyMs;
    const to = heirs.find((id) => !this.#given.has(id));
    if (to === undefined) return;
    this.#given.add(to);
    engine.raw.transferLeadership(to);
    engine.schedule();
  }

  /** This member's disk has room again. */
  hasRoom(): void {
    this.#nextMs = Number.NEGATIVE_INFINITY;
    this.#everyMs = HAND_OVER_EVERY_MS;
    this.#given.clear();
  }

  /** At the leader; resolves when another leads. SwarmError conflict (nobody can), timeout. */
  async transfer(to: number | undefined): Promise<void> {
    const { id, clock, engine, table, leadership } = this.#host;
    const target = to ?? this.#heirs().at(0);
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

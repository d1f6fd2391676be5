/**
 * Changes of members at the leader, one at a time: each is checked against what the members in
 * force can bear (a removal or addition that would leave no quorum is refused, with the reason),
 * proposed, and done when settled: no crash makes the members forget it. Knows the driver through
 * MembershipHost only.
 */
import { SwarmError } from '../../base/errors.ts';
import { Serial } from '../../base/queue.ts';
import { type ConfChange, type ConfChangeType, EMPTY_BYTES } from './core/types.ts';
import {
  CATCH_UP_TIMEOUT_MS,
  ELECTION_MS,
  MAX_MEMBERSHIP_QUEUE,
  PROMOTE_LAG_ENTRIES,
  PROPOSAL_TIMEOUT_MS,
  TICK_MS,
} from './limits.ts';
import { encodeAddresses, type MemberTable } from './memberTable.ts';
import type { Member, MemberAddress, MemberStatus } from './types.ts';

export interface MembershipHost {
  readonly id: number;
  readonly table: MemberTable;
  /** Throws not_leader unless this member leads and may act. */
  requireLeader(): void;
  members(): MemberStatus[];
  transferLeadership(): Promise<void>;
  proposeConfChange(change: ConfChange): Promise<void>;
  sleep(ms: number): Promise<void>;
  activeMs(): number;
}

export class Membership {
  readonly #host: MembershipHost;
  readonly #serial = new Serial(MAX_MEMBERSHIP_QUEUE);

  constructor(host: MembershipHost) {
    this.#host = host;
  }

  /** Adding what is there already, at that address and in that role, succeeds. */
  add(member: Member): Promise<void> {
    return this.#run(async () => {
      const { table } = this.#host;
      checkAddress(member);
      if (table.wasRemoved(member.id)) {
        throw new SwarmError(
          'invalid',
          `raft member ${member.id} was removed and cannot return: join with a new identity`,
        );
      }
      const existing = this.#find(member.id);
      if (existing !== undefined) {
        if (existing.address !== member.address) {
          throw new SwarmError('conflict', `raft member ${member.id} exists: ${existing.address}`);
        }
        if (existing.learner === member.learner || member.learner) return;
        await this.#promote(existing);
        return;
      }
      const same = this.#host.members().find((other) => other.address === member.address);
      if (same !== undefined) {
        throw new SwarmError(
          'conflict',
          `${member.address} is manager ${same.id} already: remove that one first`,
        );
      }
      if (!member.learner) await this.#quorumAfterAdding(member);
      await this.#change(member.learner ? 'addLearner' : 'addVoter', member.id, [member]);
    });
  }

  promote(id: number): Promise<void> {
    return this.#run(async () => {
      const member = this.#mustFind(id);
      if (member.learner) await this.#promote(member);
    });
  }

  /**
   * The learner takes the voter's place in one step, through a joint configuration: at no moment
   * are there fewer voters, or more to agree. The leader cannot be the one that goes.
   */
  replace(id: number, leaving: number): Promise<void> {
    return this.#run(async () => {
      const gone = this.#mustFind(leaving);
      await this.#caughtUp(this.#mustFind(id));
      const came = { ...this.#mustFind(id), reachable: true };
      const rest = (): MaybeReachable[] => [
        ...this.#voters().filter((voter) => voter.id !== leaving),
        came,
      ];
      await this.#quorum(rest, `replacing ${gone.address} by ${came.address}`);
      await this.#host.proposeConfChange({
        transition: 'auto',
        changes: [
          { type: 'addVoter', id },
          { type: 'remove', id: leaving },
        ],
        context: EMPTY_BYTES,
      });
    });
  }

  async #promote(member: MemberStatus): Promise<void> {
    await this.#caughtUp(member);
    await this.#quorumAfterAdding(member);
    await this.#change('addVoter', member.id, []);
  }

  async #caughtUp(member: MemberStatus): Promise<void> {
    const deadlineMs = this.#host.activeMs() + CATCH_UP_TIMEOUT_MS;
    for (;;) {
      this.#host.requireLeader();
      const now = this.#mustFind(member.id);
      if (now.reachable === true && (now.lag ?? Number.POSITIVE_INFINITY) <= PROMOTE_LAG_ENTRIES) {
        break;
      }
      if (this.#host.activeMs() >= deadlineMs) {
        throw new SwarmError(
          'timeout',
          `manager ${member.address} ` +
            (now.reachable === true ? `still lacks ${now.lag} entries` : 'does not answer') +
            ': it stays a learner; try again when it runs',
        );
      }
      await this.#host.sleep(TICK_MS);
    }
  }

  /** The leader itself: hands over, then fails with not_leader, to be asked again there. */
  remove(id: number): Promise<void> {
    return this.#run(async () => {
      const member = this.#mustFind(id);
      if (!member.learner) {
        const rest = (): MemberStatus[] => this.#voters().filter((voter) => voter.id !== id);
        if (rest().length === 0) {
          throw new SwarmError('conflict', 'the last manager cannot be removed');
        }
        await this.#quorum(rest, `removing ${member.address}`);
      }
      // A leader cannot see its own removal through: another one does it.
      if (id === this.#host.id) {
        await this.#host.transferLeadership();
        this.#host.requireLeader();
      }
      await this.#change('remove', id, []);
    });
  }

  updateAddress(id: number, address: string): Promise<void> {
    return this.#run(async () => {
      const member = this.#mustFind(id);
      checkAddress({ id, address });
      if (member.address !== address) await this.#change('update', id, [{ id, address }]);
    });
  }

  #run(work: () => Promise<void>): Promise<void> {
    return this.#serial.run(async () => {
      this.#host.requireLeader();
      await this.#settled();
      await work();
    });
  }

  /** A change of before, by another leader perhaps, may look done and be forgotten yet. */
  async #settled(): Promise<void> {
    const deadlineMs = this.#host.activeMs() + PROPOSAL_TIMEOUT_MS;
    while (!this.#host.table.isSettled) {
      if (this.#host.activeMs() >= deadlineMs) {
        throw new SwarmError('unavailable', 'another change of managers is under way; try again');
      }
      await this.#host.sleep(TICK_MS);
      this.#host.requireLeader();
    }
  }

  #voters(): MemberStatus[] {
    return this.#host.members().filter((member) => !member.learner);
  }

  #find(id: number): MemberStatus | undefined {
    return this.#host.members().find((member) => member.id === id);
  }

  #mustFind(id: number): MemberStatus {
    const member = this.#find(id);
    if (member === undefined) throw new SwarmError('not_found', `no raft member ${id}`);
    return member;
  }

  /** The newcomer answers, or it would not have asked. */
  #quorumAfterAdding(member: Member): Promise<void> {
    const added = { ...member, reachable: true };
    return this.#quorum(
      () => [...this.#voters().filter((voter) => voter.id !== member.id), added],
      `adding ${member.address}`,
    );
  }

  /** A leader just elected has not heard everybody yet: waits a little before it refuses. */
  async #quorum(voters: () => readonly MaybeReachable[], what: string): Promise<void> {
    const deadlineMs = this.#host.activeMs() + ELECTION_MS;
    for (;;) {
      const refusal = quorumLost(voters(), what);
      if (refusal === undefined) return;
      if (this.#host.activeMs() >= deadlineMs) throw refusal;
      await this.#host.sleep(TICK_MS);
      this.#host.requireLeader();
    }
  }

  #change(type: ConfChangeType, id: number, addresses: readonly MemberAddress[]): Promise<void> {
    return this.#host.proposeConfChange({
      transition: 'auto',
      changes: [{ type, id }],
      context: encodeAddresses(addresses),
    });
  }
}

interface MaybeReachable {
  readonly address: string;
  readonly reachable: boolean | undefined;
}

function quorumLost(voters: readonly MaybeReachable[], what: string): SwarmError | undefined {
  const needed = Math.floor(voters.length / 2) + 1;
  const silent = voters.filter((voter) => voter.reachable !== true);
  const alive = voters.length - silent.length;
  if (alive >= needed) return undefined;
  return new SwarmError(
    'conflict',
    `${what} would leave ${alive} of ${voters.length} managers answering where ${needed} are ` +
      `needed; not answering: ${silent.map((voter) => voter.address).join(', ')}`,
  );
}

function checkAddress(member: MemberAddress): void {
  if (!Number.isSafeInteger(member.id) || member.id <= 0) {
    throw new SwarmError('invalid', `raft id ${member.id} is no positive whole number`);
  }
  if (!/^.+:\d{1,5}$/.test(member.address)) {
    throw new SwarmError('invalid', `address "${member.address}": write it as host:port`);
  }
}

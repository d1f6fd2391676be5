/**
 * Who runs the simulated swarm: adds and takes out members, hands the lead over, moves hosts to
 * other addresses, and puts new members in the place of those whose files are lost or damaged. It
 * is told of losses, works on through the calm, and never takes away more than a quorum can bear.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { RaftNode } from '../../manager/raft/node.ts';
import { membersOf } from './configuration.ts';
import type { FaultHost } from './faults.ts';
import type { Machine } from './machine.ts';
import type { Dice } from './schedule.ts';
import type { World } from './world.ts';

const MAX_MEMBERS = 7;
/** How often it looks after what is lost or has moved. */
const LOOK_MS = 400;
/** Fewer have no member to spare. */
const MIN_TO_LOSE_ONE = 3;

export class Operator {
  readonly #host: FaultHost;
  readonly #dice: Dice;
  /** Changes of members that were asked for and are not answered. */
  #underWay = 0;
  /** Damaged or emptied, and whether they start again is not known yet. */
  readonly #suspects = new Set<Machine>();
  /** Did not start any more, with those that take their place, if anybody does yet. */
  readonly #lost = new Map<Machine, Machine | undefined>();

  /** So many are to join yet. */
  #wanted = 0;
  /** Hosts that were given another address, and such as had to be replaced. */
  moves = 0;
  losses = 0;

  constructor(host: FaultHost, dice: Dice) {
    this.#host = host;
    this.#dice = dice;
  }

  start(): void {
    this.#host.site.schedule.after(LOOK_MS, undefined, () => {
      this.#look();
      this.start();
    });
  }

  /** Nobody who is lost is a member any more, and each has a successor. */
  get isSettled(): boolean {
    return this.#suspects.size === 0 && this.#lost.size === 0;
  }

  get leader(): Machine | undefined {
    const { site } = this.#host;
    const own = ({ node, world }: Machine): boolean =>
      node?.isLeader === true && world === site.world;
    return this.#host.machines().find(own);
  }

  members(): number[] {
    return membersOf(this.#host.site.world.ledger.configuration);
  }

  #machinesIn(): Machine[] {
    return this.members().map((id) => this.#host.machine(id));
  }

  /** It may well fail: that is what the driver says when it cannot be done now. */
  #try(asked: Machine, work: Promise<unknown>, then: () => void = () => {}): void {
    const { run } = asked;
    let isOver = false;
    this.#underWay += 1;
    const over = (): void => {
      if (!isOver) this.#underWay -= 1;
      isOver = true;
    };
    run?.process.onDeath(over);
    work.then(
      () => {
        over();
        if (asked.run === run && run !== undefined) this.#host.changed(run);
        // Its host may have lost power just now.
        if (asked.run === run) then();
      },
      (error: unknown) => {
        over();
        if (error instanceof SwarmError && !hasCode(error, 'corrupt')) return;
        this.#host.site.fail(error);
      },
    );
  }

  // ---- what it does by itself ----

  #look(): void {
    const { leader } = this;
    if (leader?.node === undefined) return;
    if (this.#underWay === 0) this.#follow(leader, leader.node);
    if (this.#underWay === 0) this.#replace(leader, leader.node);
    if (this.#underWay === 0 && this.#wanted > 0) this.#grow(leader, leader.node);
  }

  /** As manager/roles does: where a member is now is written down. */
  #follow(leader: Machine, node: RaftNode): void {
    const moved = node.members().find(({ movedTo }) => movedTo !== undefined);
    if (moved?.movedTo === undefined) return;
    this.#try(leader, node.updateAddress(moved.id, moved.movedTo));
  }

  #replace(leader: Machine, node: RaftNode): void {
    const members = new Set(this.members());
    for (const [lost, known] of this.#lost) {
      if (members.has(lost.id)) {
        this.remove(lost.id, leader);
        return;
      }
      const heir = known ?? this.#host.addMachine();
      this.#lost.set(lost, heir);
      const { id, address } = heir;
      if (members.has(id)) {
        if (this.#isSomeoneMoving(node)) return;
        this.#lost.delete(lost);
        this.#try(leader, node.promoteMember(id));
      } else {
        this.#try(leader, node.addMember({ id, address, learner: true }));
      }
      return;
    }
  }

  #grow(leader: Machine, node: RaftNode): void {
    this.#wanted = Math.max(0, this.#wanted - 1);
    const { id, address } = this.#host.addMachine();
    this.#try(leader, node.addMember({ id, address, learner: true }), () =>
      this.#try(leader, node.promoteMember(id)),
    );
  }

  // ---- what is asked of it ----

  transfer(): void {
    const leader = this.leader?.node;
    if (leader === undefined) return;
    const to = this.#dice.chance(0.5) ? this.#dice.pick(this.members()) : undefined;
    leader.transferLeadership(to).catch((error: unknown) => {
      if (!(error instanceof SwarmError)) this.#host.site.fail(error);
    });
  }

  changeMembers(): void {
    const dice = this.#dice;
    const { leader } = this;
    const node = leader?.node;
    if (node === undefined || leader === undefined || !this.isSettled) return;
    const members = this.members();
    const learner = dice.pick([...this.#host.site.world.ledger.configuration.learners]);
    const kind = dice.below(4);
    const member = dice.pick(members);
    const isMoving = this.#isSomeoneMoving(node);
    if (kind <= 1 && members.length < MAX_MEMBERS) {
      const { id, address } = this.#host.addMachine();
      this.#try(leader, node.addMember({ id, address, learner: isMoving || dice.chance(0.8) }));
    } else if (kind === 2) {
      if (learner !== undefined && !isMoving) this.#try(leader, node.promoteMember(learner));
    } else if (kind === 3 && member !== undefined && dice.chance(0.4)) {
      if (learner === undefined || isMoving) return;
      this.#try(leader, node.replaceMember(learner, member));
    } else if (member !== undefined && members.length > 1) {
      this.remove(member, leader);
    }
  }

  /** One more voter: a learner, or one that comes now. */
  growOrGrowUp(): void {
    const { leader } = this;
    if (leader?.node === undefined || !this.isSettled) return;
    if (this.#isSomeoneMoving(leader.node)) return;
    const learner = this.#dice.pick([...this.#host.site.world.ledger.configuration.learners]);
    if (learner !== undefined) this.#try(leader, leader.node.promoteMember(learner));
    else if (this.members().length < MAX_MEMBERS) this.#grow(leader, leader.node);
  }

  /** For good. */
  remove(id: number, leader = this.leader): void {
    if (leader?.node === undefined) return;
    this.#try(leader, leader.node.removeMember(id), () => this.#knockLater(id));
  }

  /** One that was removed wants to be a member again: it never is. */
  #knockLater(id: number): void {
    const { address } = this.#host.machine(id);
    this.#host.site.schedule.after(this.#dice.between(1, 2_000), undefined, () => {
      const learner = this.#dice.chance(0.5);
      const { leader } = this;
      if (leader?.node === undefined) return;
      this.#try(leader, leader.node.addMember({ id, address, learner }));
    });
  }

  // ---- other addresses ----

  /** Who is on the way to another address is not found by a leader that it does not know. */
  #isSomeoneMoving(node: RaftNode): boolean {
    return this.#machinesIn().some((machine) => !machine.isGone && !this.#isFoundBy(machine, node));
  }

  #isFoundBy({ id, address, nextAddress }: Machine, node: RaftNode): boolean {
    const known = node.members().find((member) => member.id === id)?.address;
    return address === nextAddress && (known === undefined || known === address);
  }

  /**
   * One at a time, and when all know all: two that move at once, or one that missed another's move
   * or coming, would not be found, as nobody could tell where they are.
   */
  move(machine: Machine): void {
    const isFree = this.members().includes(machine.id) && !machine.isGoingAlone;
    if (!isFree || !this.#allKnowAll()) return;
    this.moves += 1;
    machine.nextAddress = `10.0.${this.#dice.whole(1, 250)}.${machine.id}:2377`;
    if (!machine.isUp || this.#dice.chance(0.5)) return;
    machine.kill();
    this.#host.restartLater(machine);
  }

  #allKnowAll(): boolean {
    const { ledger } = this.#host.site.world;
    if (!this.#isQuiet()) return false;
    const members = this.#machinesIn();
    const places = new Map(members.map(({ id, nextAddress }) => [id, nextAddress]));
    return members.every((machine) => {
      const known = machine.run?.machine.members ?? [];
      const all = known.length === members.length && machine.address === machine.nextAddress;
      const isSure = ledger.mirror(machine.id).sureCommit >= ledger.lastChange;
      return all && isSure && known.every(({ id, address }) => places.get(id) === address);
    });
  }

  /** No change of members is under way, or could be made by what is in anybody's log. */
  #isQuiet(): boolean {
    const { ledger } = this.#host.site.world;
    if (this.#underWay > 0 || ledger.configuration.outgoing.size > 0) return false;
    return this.#host.machines().every(({ id, isGone }) => isGone || !ledger.hasOpenChange(id));
  }

  // ---- lost hosts ----

  /** Whether the others can do without it for good: enough of them, and no change is under way. */
  canLose({ id, isGoingAlone }: Machine): boolean {
    const { ledger } = this.#host.site.world;
    const { voters } = ledger.configuration;
    if (isGoingAlone || !voters.has(id) || voters.size < MIN_TO_LOSE_ONE) return false;
    return ledger.isSettled() && this.isSettled && this.#isQuiet();
  }

  /** Those that could go on alone. */
  survivors(): Machine[] {
    const { world } = this.#host.site;
    const { ledger } = world;
    return this.#host.machines().filter((machine) => {
      const { id } = machine;
      const isSound = machine.isKnown && !machine.isGone && !this.#suspects.has(machine);
      const knows = ledger.mirror(id).sureCommit > 0 && !ledger.hasOpenChange(id);
      const isVoter = ledger.configuration.voters.has(id);
      return machine.world === world && isSound && knows && isVoter && !machine.isGoingAlone;
    });
  }

  /** One goes on alone: who was lost before is no longer missed, and none of them returns. */
  forked(before: World): void {
    this.#lost.clear();
    this.#wanted = this.#dice.below(3);
    const { world } = this.#host.site;
    for (const { id, world: of } of this.#host.machines()) {
      if (of === before && !membersOf(world.ledger.configuration).includes(id))
        this.#knockLater(id);
    }
  }

  /** Its files are not what they were: the next start says what comes of it. */
  suspect(machine: Machine): void {
    this.#suspects.add(machine);
    machine.onJudged = (isLost) => {
      this.#suspects.delete(machine);
      if (!isLost || machine.world !== this.#host.site.world) return;
      this.losses += 1;
      this.#lost.set(machine, undefined);
    };
  }
}

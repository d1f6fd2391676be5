/**
 * Faults that meet: several things that go wrong together, at one place and in an order that chance
 * alone hardly ever brings about, and that bugs needed which survived the others. A leader is heard
 * by a few whose disks stand still; a leader is deposed while old answers are on their way to it; a
 * member is told to leave while its removal is not on the disk; members have just been changed when
 * all lose power and one its disk. They break and check nothing.
 */
import type { FaultHost } from './faults.ts';
import type { Machine } from './machine.ts';
import type { Operator } from './operator.ts';
import type { Dice, Schedule } from './schedule.ts';

export const PLOT_KINDS = ['strand', 'usurp', 'farewell', 'bereave'] as const;
type PlotKind = (typeof PLOT_KINDS)[number];

/** A disk that stands still for longer than it takes to find another leader. */
const STRAND_DISK_MS = [2_500, 7_000] as const;
const STRAND_MS = [1_500, 5_000] as const;
const MAX_BURST = 8;
/** Within CheckQuorum's time, or the leader would notice; an answer's way grows step by step. */
const USURP_LAG_MS = [300, 900] as const;
const USURP_STEPS = 3;
const USURP_STEP_MS = 400;
const FAREWELL_DISK_MS = [100, 1_500] as const;
const FAREWELL_MS = 6_000;
const FORGETS_MS = [100, 2_500] as const;
const BEREAVED_DISK_MS = [5, 300] as const;
const BEREAVED_MS = 8_000;

/** What the faults do already. */
interface PlotTools {
  readonly host: FaultHost;
  readonly dice: Dice;
  readonly operator: Operator;
  isCalm(): boolean;
  slow(machine: Machine, lowMs: number, highMs: number): void;
  mendDisk(machine: Machine): void;
  crash(machines: readonly Machine[]): void;
  /** For good, if the others can bear it. */
  lose(machine: Machine): void;
}

export class Plots {
  readonly #tools: PlotTools;
  readonly #schedule: Schedule;
  /** Hosts lose power as soon as somebody has left. */
  #isFarewell = false;
  /** And as soon as a change of members is made; one of them does not come back. */
  #isBereft = false;

  constructor(tools: PlotTools) {
    this.#tools = tools;
    this.#schedule = tools.host.site.schedule;
  }

  strike(kind: PlotKind): void {
    const { leader } = this.#tools.operator;
    if (leader === undefined) return;
    if (kind === 'strand') this.#strand(leader);
    else if (kind === 'usurp') this.#usurp(leader);
    else if (kind === 'farewell') this.#farewell(leader);
    else this.#bereave();
  }

  #later(ms: number, run: () => void): void {
    this.#schedule.after(ms, undefined, () => {
      if (!this.#tools.isCalm()) run();
    });
  }

  /**
   * Its words reach a few only, and their disks stand still: of what they hold of it the first part
   * reached the others too, who choose another, and the rest did not; none of it is durable there.
   */
  #strand(leader: Machine): void {
    const { host, dice } = this.#tools;
    const { network } = host.site;
    const voters = [...host.site.world.ledger.configuration.voters];
    const others = host.machines().filter((machine) => machine !== leader && machine.isUp);
    const few = new Set<Machine>();
    for (let wanted = dice.chance(0.7) ? 1 : 2; wanted > 0; wanted -= 1) {
      const one = dice.pick(others.filter(({ id }) => voters.includes(id)));
      if (one !== undefined) few.add(one);
    }
    // Where the others are no quorum without it, it comes back without what it had said.
    const forgets = voters.length < 5 || dice.chance(0.2);
    for (const machine of forgets ? [leader, ...few] : few) {
      this.#tools.slow(machine, ...STRAND_DISK_MS);
    }
    host.burst(leader, 1);
    const forMs = dice.between(...STRAND_MS);
    const isDeaf = dice.chance(0.5);
    this.#later(dice.chance(0.6) ? dice.between(3, 8) : dice.between(8, 60), () => {
      for (const other of others) {
        if (few.has(other)) continue;
        network.cut(leader.address, other.address);
        if (isDeaf) network.cut(other.address, leader.address);
      }
      host.burst(leader, dice.whole(1, MAX_BURST));
    });
    if (forgets || dice.chance(0.4)) {
      this.#later(dice.between(80, 600), () => {
        network.heal();
        this.#tools.crash([leader]);
        this.#tools.mendDisk(leader);
      });
    }
    this.#later(forMs, () => network.heal());
    this.#later(forMs + dice.between(0, 2_000), () => {
      for (const machine of few) this.#tools.mendDisk(machine);
    });
  }

  /** Another leads, and answers of before are still on their way to the one that did. */
  #usurp(leader: Machine): void {
    const { host, dice } = this.#tools;
    const { lags } = host.site.network;
    const lagMs = dice.between(...USURP_LAG_MS);
    for (let step = 1; step <= USURP_STEPS; step += 1) {
      this.#later((step - 1) * USURP_STEP_MS, () => {
        for (const { address } of host.machines()) {
          lags.set(`${address}>${leader.address}`, (lagMs * step) / USURP_STEPS);
        }
      });
    }
    const rampMs = USURP_STEPS * USURP_STEP_MS;
    this.#later(rampMs + dice.between(0, 600), () => this.#tools.operator.transfer());
    this.#later(rampMs + dice.between(1_500, 4_000), () => lags.clear());
  }

  /** One is removed while the disks of those who stay are slow. */
  #farewell(leader: Machine): void {
    const { host, dice, operator } = this.#tools;
    if (!operator.isSettled) return;
    const voters = [...host.site.world.ledger.configuration.voters];
    const id = dice.pick(voters.filter((voter) => voter !== leader.id));
    if (id === undefined) return;
    if (voters.length <= 3 || dice.chance(0.3)) {
      this.#isFarewell = true;
      const staying = host.machines().filter((machine) => machine.id !== id && machine.isUp);
      for (const machine of staying) this.#tools.slow(machine, ...FAREWELL_DISK_MS);
      // Who is to go may hold more than the leader, which may forget that it let it go.
      if (dice.chance(0.6)) {
        this.#later(dice.between(...FORGETS_MS), () => this.#tools.crash([leader]));
      }
      this.#later(FAREWELL_MS, () => {
        this.#isFarewell = false;
        for (const machine of staying) this.#tools.mendDisk(machine);
      });
    }
    operator.remove(id);
    if (this.#isFarewell) host.burst(leader, dice.below(4));
  }

  /** Members change while disks are slow to take in anything that need not be there. */
  #bereave(): void {
    const { host, dice, operator } = this.#tools;
    this.#isBereft = true;
    const machines = host.machines().filter((machine) => machine.isUp && dice.chance(0.5));
    for (const machine of machines) this.#tools.slow(machine, ...BEREAVED_DISK_MS);
    this.#later(BEREAVED_MS, () => {
      this.#isBereft = false;
      for (const machine of machines) this.#tools.mendDisk(machine);
    });
    operator.growOrGrowUp();
  }

  /** Who asked for a change of members was told that it is made. */
  changed(): void {
    if (!this.#isBereft || this.#tools.isCalm()) return;
    const { host, dice, operator } = this.#tools;
    const voters = [...host.site.world.ledger.configuration.voters];
    const id = dice.pick(voters);
    if (id === undefined || !operator.canLose(host.machine(id))) return;
    this.#isBereft = false;
    this.#tools.lose(host.machine(id));
    this.#tools.crash(host.machines().filter(() => dice.chance(0.8)));
  }

  /** A member was told that it is out, and has gone. */
  left(): void {
    if (!this.#isFarewell) return;
    this.#later(this.#tools.dice.between(0, 50), () =>
      this.#tools.crash(this.#tools.host.machines()),
    );
  }
}

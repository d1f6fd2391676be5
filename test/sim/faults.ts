/**
 * What goes wrong in a simulated run, kind by kind: each kind that is on strikes at random times,
 * for a random time. All of it ends with calm(). It breaks things and checks nothing.
 */
import { hasCode } from '../../base/errors.ts';
import type { Recovered } from '../../manager/raft/disk/disk.ts';
import type { Machine, Run, Site } from './machine.ts';
import { NO_NETWORK_FAULTS } from './network.ts';
import { Operator } from './operator.ts';
import { PLOT_KINDS, Plots } from './plots.ts';
import type { Dice, Schedule } from './schedule.ts';
import type { World } from './world.ts';

export const FAULT_KINDS = [
  'loss',
  'duplicate',
  'reorder',
  'delay',
  'lag',
  'partition',
  'oneWay',
  'bridge',
  'aloneLeader',
  'power',
  'blackout',
  'kill',
  'stop',
  'deathInSync',
  'syncError',
  'slowDisk',
  'stall',
  'fullDisk',
  'clock',
  'pause',
  'snapshot',
  'members',
  'transfer',
  'move',
  'sealKey',
  'rot',
  'wipe',
  'force',
  ...PLOT_KINDS,
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Mean time between two strikes of a kind. */
const EVERY_MS: Readonly<Record<FaultKind, number>> = {
  loss: 8_000,
  duplicate: 6_000,
  reorder: 6_000,
  delay: 10_000,
  lag: 9_000,
  partition: 9_000,
  oneWay: 9_000,
  bridge: 15_000,
  aloneLeader: 9_000,
  power: 6_000,
  blackout: 20_000,
  kill: 6_000,
  stop: 15_000,
  deathInSync: 8_000,
  syncError: 15_000,
  slowDisk: 10_000,
  stall: 9_000,
  fullDisk: 15_000,
  clock: 20_000,
  pause: 5_000,
  snapshot: 5_000,
  members: 3_000,
  transfer: 8_000,
  move: 12_000,
  sealKey: 8_000,
  rot: 10_000,
  wipe: 12_000,
  force: 15_000,
  strand: 5_000,
  usurp: 7_000,
  farewell: 7_000,
  bereave: 7_000,
};
/** How often in a run somebody goes on alone. */
const MAX_FORCED = 2;
const MAX_PAUSE_MS = 6_000;
/** Each way to or from one machine; beyond an election's time, and short of it. */
const LAG_MS = [150, 2_500] as const;
/** A sync on storage that stands still, as storage over a network does when that fails over. */
const STALL_MS = [300, 8_000] as const;
/** Then the host itself may be cut off, for less long: it comes back and its disk does not yet. */
const STALL_CUT_MS = [500, 4_000] as const;
const CLOCK_RATES = [0.5, 0.8, 1, 1.25, 2] as const;

export interface FaultHost {
  readonly site: Site;
  machines(): readonly Machine[];
  machine(id: number): Machine;
  /** A machine that is to join; started. */
  addMachine(): Machine;
  restartLater(machine: Machine): void;
  start(machine: Machine): void;
  /** The history that begins as this member goes on alone with what it holds. */
  fork(survivor: Machine, found: Recovered): World;
  /** Who was asked for a change of members there says that it is made. */
  changed(asked: Run): void;
  /** Users write so often there, all at once. */
  burst(machine: Machine, count: number): void;
}

export class Faults {
  readonly #host: FaultHost;
  readonly #schedule: Schedule;
  readonly #dice: Dice;
  readonly #kinds: ReadonlySet<FaultKind>;
  /** How often it strikes in this run, against the usual. */
  readonly #pace: number;
  readonly #plots: Plots;
  readonly operator: Operator;
  #isCalm = false;
  #forced = 0;
  strikes = 0;

  constructor(host: FaultHost, dice: Dice, kinds: ReadonlySet<FaultKind>) {
    this.#host = host;
    this.#schedule = host.site.schedule;
    this.#dice = dice;
    this.#kinds = kinds;
    this.#pace = dice.between(0.5, 3);
    this.operator = new Operator(host, dice);
    this.#plots = new Plots({
      host,
      dice,
      operator: this.operator,
      isCalm: () => this.#isCalm,
      slow: (machine, lowMs, highMs) => {
        machine.disk.faults.delayMs = () => dice.between(lowMs, highMs);
      },
      mendDisk: (machine) => this.#mendDisk(machine),
      crash: (machines) => this.#crash(machines),
      lose: (machine) => this.#lose(dice.chance(0.3) ? 'rot' : 'wipe', machine),
    });
  }

  start(): void {
    this.operator.start();
    for (const kind of FAULT_KINDS) if (this.#kinds.has(kind)) this.#next(kind);
  }

  /** Nothing goes wrong from now on, and what is broken is mended. */
  calm(): void {
    this.#isCalm = true;
    const { network } = this.#host.site;
    network.faults = { ...NO_NETWORK_FAULTS };
    network.heal();
    network.lags.clear();
    for (const machine of this.#host.machines()) this.#mendDisk(machine);
    // All faults end with the power's return, to all at once: nothing but chance tells them apart.
    if (this.#kinds.has('blackout')) this.#goDark();
    // Who runs on has no other start at which to move.
    for (const machine of this.#host.machines()) {
      if (machine.isUp) machine.nextAddress = machine.address;
    }
  }

  #next(kind: FaultKind): void {
    const inMs = -Math.log(1 - this.#dice.float()) * (EVERY_MS[kind] / this.#pace);
    this.#schedule.after(inMs, undefined, () => {
      if (this.#isCalm) return;
      this.strikes += 1;
      this.#strike(kind, -Math.log(1 - this.#dice.float()) * 2_500);
      this.#next(kind);
    });
  }

  #until(ms: number, undo: () => void): void {
    this.#schedule.after(ms, undefined, () => {
      if (!this.#isCalm) undo();
    });
  }

  #strike(kind: FaultKind, ms: number): void {
    const dice = this.#dice;
    const { network } = this.#host.site;
    const machine = dice.pick(this.#host.machines().filter((one) => !one.isGone));
    const up = dice.pick(this.#host.machines().filter((one) => one.isUp));
    switch (kind) {
      case 'loss':
        network.faults.lossRate = dice.float() * 0.4;
        this.#until(ms, () => this.#network('lossRate'));
        break;
      case 'duplicate':
        network.faults.duplicateRate = dice.float() * 0.5;
        this.#until(ms, () => this.#network('duplicateRate'));
        break;
      case 'reorder':
        network.faults.reorderRate = dice.float() * 0.5;
        this.#until(ms, () => this.#network('reorderRate'));
        break;
      case 'delay':
        network.faults.slowMs = dice.chance(0.7) ? dice.between(5, 100) : dice.between(100, 900);
        this.#until(ms, () => this.#network('slowMs'));
        break;
      case 'lag':
        this.#lag(2 * ms);
        break;
      case 'snapshot':
        network.faults.breakSnapshotRate = dice.float();
        network.faults.repeatSnapshotRate = dice.float();
        break;
      case 'partition':
      case 'oneWay':
      case 'bridge':
      case 'aloneLeader':
        this.#cut(kind);
        this.#until(2 * ms, () => network.heal());
        break;
      case 'power':
        this.#crash(dice.chance(0.2) ? this.#host.machines() : up === undefined ? [] : [up]);
        break;
      case 'blackout':
        this.#goDark();
        this.#until(dice.between(20, 2_000), () => {
          for (const each of this.#host.machines()) this.#host.start(each);
        });
        break;
      case 'kill':
        if (up === undefined) break;
        up.kill();
        this.#host.restartLater(up);
        break;
      case 'stop':
        this.#stop(up);
        break;
      case 'pause':
        if (up?.run === undefined) break;
        up.run.process.pause(Math.min(ms, MAX_PAUSE_MS));
        break;
      case 'clock':
        machine?.setRate(dice.pick(CLOCK_RATES) ?? 1);
        break;
      case 'move':
        if (machine !== undefined) this.operator.move(machine);
        break;
      case 'sealKey':
        try {
          up?.rotateSealKey();
        } catch (error) {
          // It is stopping.
          if (!hasCode(error, 'unavailable')) throw error;
        }
        break;
      case 'members':
        this.operator.changeMembers();
        break;
      case 'transfer':
        this.operator.transfer();
        break;
      case 'rot':
      case 'wipe':
        this.#lose(kind, up);
        break;
      case 'force':
        this.#force();
        break;
      case 'strand':
      case 'usurp':
      case 'farewell':
      case 'bereave':
        this.#plots.strike(kind);
        break;
      default:
        if (machine !== undefined) this.#breakDisk(kind, this.#leaderOr(machine), ms);
    }
  }

  #network(field: keyof typeof NO_NETWORK_FAULTS): void {
    this.#host.site.network.faults[field] = 0;
  }

  /** What goes wrong at a leader shows more: a third of it goes wrong there. */
  #leaderOr(machine: Machine): Machine {
    const leader = this.#host.machines().find((one) => one.node?.isLeader);
    return leader !== undefined && this.#dice.chance(0.33) ? leader : machine;
  }

  // ---- disks ----

  #breakDisk(kind: FaultKind, machine: Machine, ms: number): void {
    const dice = this.#dice;
    const { faults } = machine.disk;
    if (kind === 'deathInSync') {
      faults.deathRate = dice.float() * 0.5;
    } else if (kind === 'syncError') {
      faults.syncErrorRate = dice.float() * 0.5;
    } else if (kind === 'slowDisk') {
      const mostMs = dice.chance(0.7) ? 50 : 700;
      faults.delayMs = () => dice.between(1, mostMs);
    } else if (kind === 'stall') {
      faults.delayMs = () => dice.between(...STALL_MS);
      if (dice.chance(0.5)) this.#cutOff(machine, dice.between(...STALL_CUT_MS));
    } else if (kind === 'fullDisk') {
      faults.roomBytes = dice.below(100_000);
    }
    this.#until(2 * ms, () => this.#mendDisk(machine));
  }

  #mendDisk(machine: Machine): void {
    const { faults } = machine.disk;
    faults.deathRate = 0;
    faults.syncErrorRate = 0;
    faults.roomBytes = Number.POSITIVE_INFINITY;
    faults.delayMs = () => this.#dice.between(0.05, 0.6);
  }

  /** As a new machine is. */
  prepare(machine: Machine): void {
    this.#mendDisk(machine);
    if (this.#kinds.has('clock')) machine.setRate(this.#dice.pick(CLOCK_RATES) ?? 1);
  }

  // ---- machines ----

  /** A member was told that it is out, and has gone: a bad moment to forget why. */
  left(): void {
    this.#plots.left();
    const dice = this.#dice;
    if (this.#isCalm || !this.#kinds.has('power') || dice.chance(0.5)) return;
    const inMs = dice.chance(0.5) ? 0 : dice.between(0, 20);
    this.#schedule.after(inMs, undefined, () => this.#crash(this.#host.machines()));
  }

  /** A change of members was made, and who asked for it was told. */
  changed(): void {
    this.#plots.changed();
  }

  #crash(machines: readonly Machine[]): void {
    for (const machine of machines) {
      if (!machine.isUp) continue;
      machine.losePower();
      this.#host.restartLater(machine);
    }
  }

  /** While it is off its disk changes, or is emptied: it must not start from that. */
  #lose(kind: 'rot' | 'wipe', machine: Machine | undefined): void {
    if (machine?.isKnown !== true || !this.operator.canLose(machine)) return;
    this.operator.suspect(machine);
    machine.losePower();
    if (kind === 'rot') machine.rot();
    else machine.wipe(this.#dice.chance(0.5));
    this.#host.restartLater(machine);
  }

  /** Most are lost, or seem to be: one of them goes on alone. They come back, or never went. */
  #force(): void {
    const dice = this.#dice;
    const survivor = dice.pick(this.operator.survivors());
    if (survivor === undefined || this.#forced === MAX_FORCED) return;
    this.#forced += 1;
    const others = this.#host.machines().filter((other) => other !== survivor && other.isUp);
    if (dice.chance(0.6)) {
      for (const other of others) {
        other.losePower();
        this.#schedule.after(dice.between(1_000, 8_000), undefined, () => this.#host.start(other));
      }
    }
    if (dice.chance(0.5)) survivor.losePower();
    else survivor.kill();
    survivor.goAlone((found) => this.#host.fork(survivor, found));
    this.#host.restartLater(survivor);
  }

  /** Nobody starts before all do. */
  #goDark(): void {
    for (const machine of this.#host.machines()) if (machine.isUp) machine.losePower();
  }

  #stop(machine: Machine | undefined): void {
    machine?.stop(this.#dice.chance(0.5)).catch((error: unknown) => this.#host.site.fail(error));
  }

  // ---- network ----

  /** What goes to one machine, or comes from it, or both, is long on its way; in order. */
  #lag(forMs: number): void {
    const dice = this.#dice;
    const { lags } = this.#host.site.network;
    const picked = dice.pick(this.#host.machines());
    if (picked === undefined) return;
    const one = this.#leaderOr(picked).address;
    const lagMs = dice.between(...LAG_MS);
    const [to, from] = [dice.chance(0.8), dice.chance(0.4)];
    for (const { address } of this.#host.machines()) {
      if (to) lags.set(`${address}>${one}`, lagMs);
      if (from) lags.set(`${one}>${address}`, lagMs);
    }
    this.#until(forMs, () => lags.clear());
    // Who runs it takes the lead away from a host that is slow to answer.
    const inMs = dice.between(100, 2_000);
    if (!this.#kinds.has('transfer') || dice.chance(0.5)) return;
    this.#schedule.after(inMs, undefined, () => {
      if (!this.#isCalm) this.operator.transfer();
    });
  }

  /** Both ways, from a random moment on, so that it has something under way. */
  #cutOff(machine: Machine, forMs: number): void {
    const inMs = this.#dice.between(0, 500);
    this.#schedule.after(inMs, undefined, () => {
      if (this.#isCalm) return;
      const all = this.#host.machines().map(({ address }) => address);
      this.#cutBetween(all, new Set([machine.address]), true);
      this.#until(forMs, () => this.#host.site.network.heal());
    });
  }

  #cut(kind: FaultKind): void {
    const dice = this.#dice;
    const { network } = this.#host.site;
    const machines = this.#host.machines();
    const all = machines.map((machine) => machine.address);
    const leader = machines.find((machine) => machine.node?.isLeader)?.address;
    if (kind === 'aloneLeader') {
      // Or with fewer than it needs.
      const company = dice.below(Math.ceil(all.length / 2));
      const side = new Set(leader === undefined ? [] : [leader]);
      while (side.size > 0 && side.size <= company) side.add(dice.pick(all) ?? '');
      this.#cutBetween(all, side, true);
      return;
    }
    const side = new Set(all.filter(() => dice.chance(0.5)));
    // One of them still reaches both sides.
    const bridge = kind === 'bridge' ? dice.pick(all) : undefined;
    const others = all.filter((address) => address !== bridge);
    network.heal();
    this.#cutBetween(others, side, kind !== 'oneWay');
  }

  #cutBetween(all: readonly string[], side: ReadonlySet<string>, bothWays: boolean): void {
    const { network } = this.#host.site;
    for (const from of all) {
      for (const to of all) {
        if (side.has(from) === side.has(to)) continue;
        if (bothWays || side.has(from)) network.cut(from, to);
      }
    }
  }
}

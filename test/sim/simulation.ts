/**
 * One simulated run from one seed: a cluster of 1 to 7 members on the production's driver, log and
 * store, users, and faults for as long as the safety phase lasts; then the faults end, and within a
 * bound the members must agree and serve. Checks run after every event. The same options give the
 * same run, event by event, which `hash` shows.
 */
import { AssertionError, assert } from '../../base/assert.ts';
import type { Log } from '../../base/log.ts';
import type { Recovered } from '../../manager/raft/disk/disk.ts';
import { TICK_MS } from '../../manager/raft/limits.ts';
import { Clients, type Counts, LITTLE, MUCH } from './clients.ts';
import { membersOf } from './configuration.ts';
import { FAULT_KINDS, type FaultKind, Faults } from './faults.ts';
import { Machine, type Planted, type Site } from './machine.ts';
import { SimNetwork } from './network.ts';
import { DeadProcess, SimProcess } from './process.ts';
import { Dice, type Event, Schedule, settle } from './schedule.ts';
import { SimStreams } from './streams.ts';
import { check, Violation } from './violation.ts';
import { World } from './world.ts';

/** Half a minute in which things go wrong: a dozen elections, hundreds of writes. */
export const DEFAULT_TICKS = 300;
/** Once nothing goes wrong any more, the members must agree and serve within it. */
const CALM_MS = 40_000;
const POLL_MS = 100;
/** One way; three of them are less than a tick, or chance could not tell candidates apart. */
const MAX_DISTANCE_MS = 30;
/** Far above any run: what never comes to rest is a failure too. */
const MAX_EVENTS = 5_000_000;
const FNV_PRIME = 0x01000193;

export interface SimulationOptions {
  readonly seed: number;
  /** Length of the safety phase in ticks of 100 ms. */
  readonly ticks: number;
  /** Kinds of faults that are off whatever the seed says. */
  readonly without?: readonly FaultKind[];
  readonly planted?: Planted;
  /** Where members' logs go; for a person who looks at one run. */
  readonly log?: (process: SimProcess, nowMs: number) => Log;
}

export interface Outcome extends Counts {
  readonly hash: string;
  readonly events: number;
  readonly simulatedMs: number;
  /** From the end of all faults until all members agreed and served. */
  readonly calmMs: number;
  readonly messages: number;
  readonly snapshots: number;
  readonly elections: number;
  readonly strikes: number;
  readonly restarts: number;
  readonly moves: number;
  /** How often one went on alone. */
  readonly forks: number;
  /** Hosts that refused to start from what was left of their files, and were replaced. */
  readonly losses: number;
  readonly failure: Failure | undefined;
}

export interface Failure {
  /** Stable: the broken promise's name. */
  readonly kind: string;
  readonly message: string;
  readonly atMs: number;
}

export async function simulate(options: SimulationOptions): Promise<Outcome> {
  const simulation = new Simulation(options);
  return simulation.run();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #schedule = new Schedule();
  readonly #dice: Dice;
  readonly #site: Site;
  readonly #machines: Machine[] = [];
  readonly #worlds = [new World()];
  readonly #clients: Clients;
  readonly #faults: Faults;
  #failure: Failure | undefined = undefined;
  #hash = 0x811c9dc5;
  #events = 0;
  #served = false;
  #calmAtMs = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    const dice = new Dice(options.seed);
    this.#dice = dice;
    const distanceMs = dice.chance(0.25) ? dice.between(5, MAX_DISTANCE_MS) : 0;
    const network = new SimNetwork(this.#schedule, dice, distanceMs, (from, message) =>
      this.#guard(() => this.#machine(from).world.ledger.said(from, message)),
    );
    const { log } = options;
    const keeping = dice.chance(0.15) ? MUCH : LITTLE;
    this.#site = {
      schedule: this.#schedule,
      dice,
      network,
      streams: dice.chance(0.35) ? new SimStreams(network, this.#schedule) : undefined,
      world: this.#worlds[0],
      worldsFrom: (world) => this.#worlds.slice(this.#worlds.indexOf(world)),
      planted: options.planted,
      keeping,
      isQuiet: dice.chance(0.25),
      segmentBytes: keeping === MUCH ? 65_536 : 16_384 << dice.below(3),
      snapshotEntries: dice.whole(4, 100),
      trailingEntries: dice.chance(0.6) ? dice.below(8) : dice.below(100),
      sealed: dice.chance(0.4),
      log: log === undefined ? undefined : (process) => log(process, this.#schedule.nowMs),
      fail: (error) => this.#fail(error),
    };
    this.#clients = new Clients(this.#site, () => this.#machines);
    this.#faults = new Faults(
      {
        site: this.#site,
        machines: () => this.#machines,
        machine: (id) => this.#machine(id),
        addMachine: () => this.#addMachine(undefined),
        restartLater: (machine) => this.#restartLater(machine),
        start: (machine) => this.#start(machine),
        fork: (survivor, found) => this.#fork(survivor, found),
        changed: ({ world, process: { id }, node }) => {
          if (node !== undefined) world.ledger.saidChanged(id, node.status());
          this.#faults.changed();
        },
        burst: (machine, count) => this.#clients.burst(machine, count),
      },
      dice,
      this.#chooseKinds(),
    );
  }

  /** Each run has some kinds of faults and not others: rare ones are not drowned by the rest. */
  #chooseKinds(): Set<FaultKind> {
    const share = this.#dice.between(0.1, 0.9);
    const chosen = FAULT_KINDS.filter(() => this.#dice.chance(share));
    return new Set(chosen.filter((kind) => this.#options.without?.includes(kind) !== true));
  }

  // ---- the run ----

  async run(): Promise<Outcome> {
    // Rejections are this run's while it lasts: a dead process's are none, and others end it. What
    // else listens (node:test) would take either for a fault of the test.
    const others = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', (reason) => this.#fail(reason));
    try {
      this.#found();
      this.#clients.start();
      this.#faults.start();
      this.#schedule.after(this.#options.ticks * TICK_MS, undefined, () => this.#calm());
      await this.#loop();
    } finally {
      for (const machine of this.#machines) machine.kill();
      await settle();
      process.removeAllListeners('unhandledRejection');
      for (const listener of others) process.on('unhandledRejection', listener);
    }
    return this.#outcome();
  }

  /** All founders at once, or one that the others join. */
  #found(): void {
    const count = this.#dice.chance(0.5) ? 1 + this.#dice.below(7) : (this.#dice.pick([3, 5]) ?? 3);
    const voters = Array.from({ length: count }, (_, at) => ({
      id: at + 1,
      address: `10.0.0.${at + 1}:2377`,
    }));
    for (const _ of voters) this.#addMachine(voters);
  }

  #machine(id: number): Machine {
    const found = this.#machines.find((machine) => machine.id === id);
    assert(found !== undefined, 'no such machine', { id });
    return found;
  }

  #fork(survivor: Machine, found: Recovered): World {
    const before = survivor.world;
    const next = before.forkAt(survivor.id, found);
    this.#worlds.push(next);
    this.#site.world = next;
    this.#faults.operator.forked(before);
    return next;
  }

  #addMachine(voters: readonly { id: number; address: string }[] | undefined): Machine {
    const ids = this.#machines.map(({ id }) => id);
    const id = Math.max(this.#site.world.ledger.generation, ...ids) + 1;
    const machine = new Machine(this.#site, id, voters);
    machine.onEnded = () => {
      if (machine.isOut) this.#faults.left();
      else this.#restartLater(machine);
    };
    this.#faults.prepare(machine);
    this.#machines.push(machine);
    this.#schedule.after(this.#dice.between(0, 50), undefined, () => this.#start(machine));
    return machine;
  }

  #start(machine: Machine): void {
    if (!machine.isUp && !machine.isGone) machine.start();
  }

  #restartLater(machine: Machine): void {
    const downMs = this.#dice.chance(0.7)
      ? this.#dice.between(20, 1_500)
      : this.#dice.between(1_000, 8_000);
    this.#schedule.after(downMs, undefined, () => this.#start(machine));
  }

  async #loop(): Promise<void> {
    while (this.#failure === undefined && !this.#served) {
      const event = this.#schedule.next();
      if (event === undefined) break;
      this.#events += 1;
      this.#guard(() => event.run());
      await settle();
      const { owner } = event;
      if (owner instanceof SimProcess) this.#guard(() => owner.afterEvent());
      this.#note(event);
      if (this.#events > MAX_EVENTS) this.#fail(new Violation('endless', 'too many events'));
    }
  }

  #note({ atMs, owner }: Event): void {
    const id = owner instanceof SimProcess ? owner.id : 0;
    const seen = owner instanceof SimProcess ? this.#machine(id).run?.seen.status : undefined;
    this.#mix(Math.floor(atMs * 1000) | 0);
    this.#mix(id + 64 * (seen?.commit ?? 0));
    this.#mix((seen?.lastIndex ?? 0) + 8192 * (seen?.term ?? 0));
  }

  #mix(word: number): void {
    this.#hash = Math.imul(this.#hash ^ word, FNV_PRIME);
    this.#hash ^= this.#hash >>> 15;
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (error instanceof DeadProcess || this.#failure !== undefined) return;
    const isKnown = error instanceof Violation;
    const kind = isKnown ? error.kind : error instanceof AssertionError ? 'assertion' : 'error';
    const text = error instanceof Error ? (isKnown ? error.message : error.stack) : String(error);
    this.#failure = { kind, message: text ?? '', atMs: this.#schedule.nowMs };
  }

  // ---- the end of all faults ----

  #calm(): void {
    this.#calmAtMs = this.#schedule.nowMs;
    this.#clients.stop();
    this.#faults.calm();
    for (const machine of this.#machines) this.#start(machine);
    const untilMs = this.#schedule.nowMs + CALM_MS;
    this.#tryLastWrite(untilMs);
  }

  /** Repeats until a leader takes one more write. */
  #tryLastWrite(untilMs: number): void {
    check(this.#schedule.nowMs < untilMs, 'liveness', () => `no write: ${this.#describe()}`);
    const again = (): void => {
      this.#schedule.after(POLL_MS, undefined, () => this.#tryLastWrite(untilMs));
    };
    const { leader } = this.#faults.operator;
    if (leader?.run === undefined) {
      again();
      return;
    }
    this.#clients.write(leader.run, (version) => {
      if (version === undefined) again();
      else this.#await(version, leader.world, untilMs);
    });
  }

  /** Until all members have it, agree on everything, and answer reads. */
  #await(version: number, world: World, untilMs: number): void {
    const { ledger } = world;
    const members = membersOf(ledger.configuration).map((id) => this.#machine(id));
    const lacks = {
      'a single configuration': ledger.configuration.outgoing.size === 0,
      'an end of the last change': ledger.isSettled(),
      'the last write': members.every(({ node }) => (node?.status().applied ?? 0) >= version),
      'an end of histories': this.#machines.every(({ isGoingAlone }) => !isGoingAlone),
      'members in the place of those that are lost': this.#faults.operator.isSettled,
      'word to those that are out': this.#machines.every((machine) => this.#isTold(machine)),
      'one key each': members.every((machine) => machine.isSealSettled),
      'watchers that saw all': this.#clients.sawAll(this.#lastEvent()),
    };
    const lacking = Object.entries(lacks).filter(([, holds]) => !holds);
    if (lacking.length > 0) {
      const what = lacking.map(([name]) => name).join(', ');
      check(this.#schedule.nowMs < untilMs, 'liveness', () => `no ${what}: ${this.#describe()}`);
      this.#schedule.after(POLL_MS, undefined, () => {
        // Users go on writing: an older key goes once the log has passed what it sealed.
        const isNewer = world !== this.#site.world;
        if (isNewer || what === 'one key each') this.#tryLastWrite(untilMs);
        else this.#await(version, world, untilMs);
      });
      return;
    }
    let waiting = members.length;
    for (const { run } of members) {
      if (run === undefined) continue;
      run.machine.checkHash();
      this.#clients.read(run, (isRead) => {
        // A removal asked for before the calm may be made just now: who is out answers nothing.
        const isMember = membersOf(ledger.configuration).includes(run.process.id);
        check(isRead || !isMember, 'liveness', () => `a read failed: ${this.#describe()}`);
        waiting -= 1;
        if (waiting === 0) this.#served = true;
      });
    }
  }

  /** Who was taken out, or is of a history of before, hears so from whom it can still reach. */
  #isTold({ id: own, run, isGone }: Machine): boolean {
    if (isGone) return true;
    const teachers = this.#machines.filter((other) => {
      const { ledger } = other.world;
      const isMember = membersOf(ledger.configuration).includes(other.id);
      return isMember && !other.isGone && ledger.wasRemoved(own);
    });
    if (teachers.length === 0) return true;
    if (run?.node === undefined) return false;
    const { members } = run.machine;
    // Voters look for voters, and who may not vote for everybody.
    const isVoter = members.some(({ id, learner }) => id === own && !learner);
    const canReach = members.some(
      ({ id, address, learner }) =>
        !(isVoter && learner) &&
        teachers.some((teacher) => teacher.id === id && teacher.address === address),
    );
    return !canReach;
  }

  #lastEvent(): number {
    const { events } = this.#site.world.oracle;
    return events[events.length - 1]?.version ?? 0;
  }

  #describe(): string {
    const members = membersOf(this.#site.world.ledger.configuration).join(',');
    return `members ${members}; ${this.#machines.map((one) => one.describe()).join(' ')}`;
  }

  #outcome(): Outcome {
    const { network } = this.#site;
    let restarts = 0;
    let elections = 0;
    for (const { ledger } of this.#worlds) elections += ledger.elections;
    for (const machine of this.#machines) restarts += Math.max(0, machine.restarts);
    return {
      ...this.#clients.counts,
      hash: (this.#hash >>> 0).toString(16).padStart(8, '0'),
      events: this.#events,
      calmMs: Math.round(this.#schedule.nowMs - this.#calmAtMs),
      simulatedMs: Math.round(this.#schedule.nowMs),
      messages: network.delivered,
      snapshots: network.snapshots,
      elections,
      strikes: this.#faults.strikes,
      restarts,
      moves: this.#faults.operator.moves,
      forks: this.#worlds.length - 1,
      losses: this.#faults.operator.losses,
      failure: this.#failure,
    };
  }
}

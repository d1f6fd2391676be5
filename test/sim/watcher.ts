/**
 * One watcher of the simulation: follows the store of one member, then of another, resuming by the
 * version it has seen. It must see each event once and in order; where it is told that it comes too
 * late it reads everything again, as users do.
 */
import { hasCode } from '../../base/errors.ts';
import type { StoreWatch } from '../../manager/store/types.ts';
import type { Counts } from './clients.ts';
import { membersOf } from './configuration.ts';
import type { Machine, Run, Site } from './machine.ts';
import { outcomeOf, sameOutcome } from './oracle.ts';
import { check } from './violation.ts';
import type { World } from './world.ts';

const TAKE = 16;

export class Watcher {
  readonly #site: Site;
  readonly #machines: () => readonly Machine[];
  readonly #counts: Counts;
  #world: World | undefined = undefined;
  #version = 0;
  #run: Run | undefined = undefined;
  #watch: StoreWatch | undefined = undefined;
  /** Of each attachment, so that an older one's late news are ignored. */
  #attempt = 0;

  constructor(site: Site, machines: () => readonly Machine[], counts: Counts) {
    this.#site = site;
    this.#machines = machines;
    this.#counts = counts;
  }

  start(): void {
    this.#later(10);
  }

  sawAll(version: number): boolean {
    return this.#world === this.#site.world && this.#version >= version;
  }

  #later(delayMs: number): void {
    this.#site.schedule.after(delayMs, undefined, () => this.#attach());
  }

  #attach(): void {
    const { dice, world } = this.#site;
    if (world !== this.#world) this.#version = 0;
    this.#world = world;
    const { ledger } = world;
    const members = new Set(membersOf(ledger.configuration));
    // Others may never hear of anything any more.
    const open = this.#machines().filter(
      ({ id, run }) => run?.node !== undefined && run.world === world && members.has(id),
    );
    const run = dice.pick(open)?.run;
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#watch?.close();
    this.#watch = undefined;
    this.#run = run;
    const stayMs = dice.between(500, 8_000);
    this.#site.schedule.after(run === undefined ? 200 : stayMs, undefined, () => {
      if (this.#attempt === attempt) this.#attach();
    });
    if (run === undefined) return;
    run.process.onDeath(() => {
      if (this.#attempt === attempt) this.#later(dice.between(1, 500));
    });
    // A member behind the one watched before would show its events again: it catches up first.
    run.replica.barrier().then(
      () => {
        if (this.#attempt === attempt && run.process.alive) this.#guard(() => this.#follow(run));
      },
      () => {
        // No quorum, or it stopped: the next attempt comes by itself.
      },
    );
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#site.fail(error);
    }
  }

  #follow(run: Run): void {
    try {
      this.#watch = run.replica.store.watch(this.#version);
    } catch (error) {
      if (!hasCode(error, 'exhausted')) throw error;
      this.#readAll(run);
    }
    this.#watch?.onEvents(() => this.#guard(() => this.#take(run)));
    this.#take(run);
  }

  #readAll(run: Run): void {
    const { store } = run.replica;
    this.#counts.resyncs += 1;
    check(store.version >= this.#version, 'watch goes back', `to ${store.version}`);
    this.#version = store.version;
    this.#watch = store.watch();
  }

  #take(run: Run): void {
    const { planted } = this.#site;
    const { oracle } = run.world;
    if (this.#run !== run || this.#watch === undefined) return;
    let next = oracle.eventsUntil(this.#version);
    for (;;) {
      let events: readonly ReturnType<typeof outcomeOf>[];
      try {
        events = this.#watch.take(TAKE).map(outcomeOf);
      } catch (error) {
        if (!hasCode(error, 'exhausted')) throw error;
        // A snapshot took the place of everything.
        this.#watch.close();
        this.#readAll(run);
        this.#watch.onEvents(() => this.#guard(() => this.#take(run)));
        return;
      }
      if (events.length === 0) break;
      if (planted === 'skipEvent' && events.length > 1) next += 1;
      for (const event of events) {
        check(sameOutcome(event, oracle.events[next]), 'watch', () =>
          [JSON.stringify(event), 'where', JSON.stringify(oracle.events[next])].join(' '),
        );
        next += 1;
        this.#counts.watched += 1;
        this.#version = event.version;
      }
    }
  }
}

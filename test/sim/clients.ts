/**
 * The simulation's users: writers, whose every write has a serial of its own, readers and watchers,
 * each with the check of what it is told. A write that was acknowledged is the one made there,
 * after all that was acknowledged before it began; a refused one is never made; a read shows
 * everything acknowledged or read before it began; a watcher sees every event once, in order,
 * wherever it goes on. They know nothing of faults.
 */
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import type { Store } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import { encodeLogEntry } from '../../proto/convert.ts';
import type { Machine, Run, Site } from './machine.ts';
import { type Oracle, SERIAL } from './oracle.ts';
import { check } from './violation.ts';
import { Watcher } from './watcher.ts';

const EMPTY = new Uint8Array(0);
const CLIENTS = 4;
const WATCHERS = 2;
/** How much longer users rest where there is little to do. */
const QUIET_FACTOR = 12;

/** What users keep. */
export interface Keeping {
  readonly ids: number;
  /** Fewer than ids: some are wanted twice. */
  readonly names: number;
  /** Share of records that are long, and how long at most. */
  readonly longShare: number;
  readonly longBytes: number;
}

export const LITTLE: Keeping = { ids: 24, names: 20, longShare: 0.15, longBytes: 1_200 };
/** Snapshots of several chunks; the largest transaction still fits a segment of 64 KiB. */
export const MUCH: Keeping = { ids: 160, names: 400, longShare: 0.8, longBytes: 4_000 };

export interface Counts {
  acknowledged: number;
  unknown: number;
  refused: number;
  reads: number;
  watched: number;
  resyncs: number;
}

/** What a member writes that goes on alone. */
export function forcedCommand(serial: string, oracle: Oracle): Uint8Array {
  oracle.propose(serial);
  const spec = { name: serial, labels: { [SERIAL]: serial }, data: EMPTY, templating: '' as const };
  const object = { id: serial, version: 0, createdAtMs: 0, updatedAtMs: 0, spec };
  const change: Change = { kind: 'create', table: 'config', object };
  return encodeLogEntry({ atomic: true, changes: [change], atMs: 0 });
}

export class Clients {
  readonly counts: Counts = {
    acknowledged: 0,
    unknown: 0,
    refused: 0,
    reads: 0,
    watched: 0,
    resyncs: 0,
  };
  readonly #site: Site;
  readonly #machines: () => readonly Machine[];
  readonly #watchers: Watcher[] = [];
  #serial = 0;
  #stopped = false;

  constructor(site: Site, machines: () => readonly Machine[]) {
    this.#site = site;
    this.#machines = machines;
  }

  start(): void {
    for (let client = 0; client < CLIENTS; client += 1) this.#later();
    for (let at = 0; at < WATCHERS; at += 1) {
      const watcher = new Watcher(this.#site, this.#machines, this.counts);
      this.#watchers.push(watcher);
      watcher.start();
    }
  }

  /** Nothing new is begun; watchers watch on. */
  stop(): void {
    this.#stopped = true;
  }

  /** That watchers have seen everything up to `version`. */
  sawAll(version: number): boolean {
    return this.#watchers.every((watcher) => watcher.sawAll(version));
  }

  #later(): void {
    const { schedule, dice, isQuiet } = this.#site;
    const pauseMs = dice.chance(0.7) ? dice.between(1, 120) : dice.between(100, 1500);
    schedule.after(isQuiet ? pauseMs * QUIET_FACTOR : pauseMs, undefined, () => {
      if (this.#stopped) return;
      const [newest, other] = this.#rivals();
      if (other !== undefined && dice.chance(0.6)) {
        this.#compare(newest, other);
        return;
      }
      const run = this.#target();
      if (run === undefined) this.#later();
      else this.#within(run, () => this.#ask(run));
    });
  }

  /** In its process, hence later if it is paused; not at all if it ends before. */
  #within(run: Run, work: () => void): void {
    const forget = run.process.onDeath(() => this.#later());
    this.#site.schedule.after(0, run.process, () => {
      forget();
      work();
    });
  }

  /** What is written at one of two leaders is read at the other: it shows it, or nothing. */
  #compare(newest: Run, other: Run): void {
    this.#within(newest, () =>
      this.write(newest, () => {
        this.#within(other, () => this.read(other, () => this.#later()));
      }),
    );
  }

  /** Beside what the users do by themselves. */
  burst({ run }: Machine, count: number): void {
    const { schedule } = this.#site;
    if (run === undefined) return;
    schedule.after(0, run.process, () => {
      for (let at = 0; at < count; at += 1) this.write(run, () => {});
    });
  }

  /** Those that lead, or believe that they do, the newest first. */
  #rivals(): Run[] {
    const { world } = this.#site;
    const leading = this.#machines().flatMap(({ run }) =>
      run?.world === world && run.node?.isLeader ? [run] : [],
    );
    const termOf = ({ seen }: Run): number => seen.status.term;
    return leading.sort((left, right) => termOf(right) - termOf(left));
  }

  #ask(run: Run): void {
    const { dice } = this.#site;
    const together = dice.chance(0.15) ? dice.whole(2, 12) : 1;
    let waiting = together;
    const done = (): void => {
      waiting -= 1;
      if (waiting === 0) this.#later();
    };
    for (let at = 0; at < together; at += 1) {
      if (dice.chance(0.65)) this.write(run, done);
      else this.read(run, done);
    }
  }

  #target(): Run | undefined {
    const { dice } = this.#site;
    const open = this.#machines().filter((machine) => machine.node !== undefined);
    const leaders = open.filter((machine) => machine.node?.isLeader);
    const chosen = dice.chance(0.85) ? (dice.pick(leaders) ?? dice.pick(open)) : dice.pick(open);
    return chosen?.run;
  }

  /** `done` is called once the outcome is known, or never will be; with the version if made. */
  write(run: Run, done: (version: number | undefined) => void): void {
    const { dice } = this.#site;
    const { world } = run;
    const { oracle } = world;
    this.#serial += 1;
    const serial = `s${this.#serial}`;
    const { floor } = world;
    const changes = this.#changes(run.replica.store, serial);
    oracle.propose(serial);
    const proposed = run.replica.propose({ atomic: dice.chance(0.5), changes });
    this.#follow(
      run,
      proposed,
      ({ version, rejected }) => {
        const index = oracle.indexOf(serial);
        check(index === version, 'acknowledged write', `${serial} at ${version}, is at ${index}`);
        check(version > floor, 'write order', `${serial} at ${version} began after ${floor}`);
        const indexes = JSON.stringify(rejected.map(({ index: at }) => at));
        const expected = JSON.stringify(oracle.rejected(version));
        check(indexes === expected, 'rejected', `${serial}: ${indexes}, not ${expected}`);
        world.floor = Math.max(world.floor, version);
        this.counts.acknowledged += 1;
        done(version);
      },
      (error) => {
        // Unless it says that the outcome is not known, an error means that nothing was changed.
        const unknown = error === undefined || messageOf(error).includes('not known');
        if (unknown) this.counts.unknown += 1;
        else this.counts.refused += 1;
        if (!unknown) oracle.refuse(serial);
        done(undefined);
      },
    );
  }

  read(run: Run, done: (isRead: boolean) => void): void {
    const { dice, planted, keeping } = this.#site;
    const { node, world } = run;
    const { oracle } = world;
    if (node === undefined) {
      done(false);
      return;
    }
    const { floor } = world;
    const id = `k${dice.below(keeping.ids)}`;
    const index = planted === 'staleRead' ? node.status().commit : node.readIndex();
    this.#follow(
      run,
      Promise.resolve(index),
      (at) => {
        const { store } = run.replica;
        check(at >= floor, 'stale read', `member ${run.process.id}: ${at}, known was ${floor}`);
        check(node.status().applied >= at, 'read before applied', `member ${run.process.id}`);
        const shown = store.get('config', id);
        const expected = oracle.at(id, node.status().applied);
        check(shown?.version === expected?.version, 'read', () =>
          [`${id} at ${at}: version ${shown?.version}, not ${expected?.version}`].join(' '),
        );
        world.floor = Math.max(world.floor, at, store.version);
        this.counts.reads += 1;
        done(true);
      },
      () => done(false),
    );
  }

  /** Either outcome once; `failed(undefined)` when the process is gone. */
  #follow<T>(
    run: Run,
    work: Promise<T>,
    done: (value: T) => void,
    failed: (error: SwarmError | undefined) => void,
  ): void {
    let isOver = false;
    const over = (then: () => void): void => {
      if (isOver) return;
      isOver = true;
      forget();
      try {
        then();
      } catch (error) {
        this.#site.fail(error);
      }
    };
    const forget = run.process.onDeath(() => over(() => failed(undefined)));
    work.then(
      (value) => over(() => done(value)),
      (error: unknown) => {
        over(() => {
          if (!(error instanceof SwarmError)) throw error;
          check(!hasCode(error, 'corrupt'), 'corrupt', error.message);
          failed(error);
        });
      },
    );
  }

  #changes(store: Store, serial: string): Change[] {
    const { dice } = this.#site;
    const changes = [this.#set(store, serial)];
    const more = dice.chance(0.25) ? dice.whole(1, 3) : 0;
    for (let at = 0; at < more; at += 1) {
      const held = dice.pick([...store.all('config')]);
      if (held !== undefined && dice.chance(0.5)) {
        const { id, version } = held;
        const versioned = dice.chance(0.5) ? { version } : {};
        changes.push({ kind: 'remove', table: 'config', id, ...versioned });
      } else {
        changes.push(this.#set(store, serial));
      }
    }
    return changes;
  }

  #set(store: Store, serial: string): Change {
    const { dice, keeping } = this.#site;
    const id = `k${dice.below(keeping.ids)}`;
    const held = store.get('config', id);
    const longest = dice.chance(keeping.longShare) ? keeping.longBytes : 40;
    // Runs of zeros are what a torn write looks like.
    const pad = (dice.chance(0.5) ? '\0' : 'x').repeat(dice.below(longest));
    const labels = { [SERIAL]: serial, pad };
    if (held !== undefined) {
      const object = { ...held, spec: { ...held.spec, labels } };
      return { kind: 'update', table: 'config', object };
    }
    const name = `n${dice.below(keeping.names)}`;
    const spec = { name, labels, data: dice.bytes(8), templating: '' as const };
    const object = { id, version: 0, createdAtMs: 0, updatedAtMs: 0, spec };
    return { kind: 'create', table: 'config', object };
  }
}

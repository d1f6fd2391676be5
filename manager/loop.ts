/**
 * The one driver of all loops. On leadership every loop gets a first pass over everything; then
 * passes over what changed, soon after a change but not more often than the debounce allows, and
 * when a loop asked to be woken. One plan and one proposal at a time per loop; what is refused as
 * stale is dirty again. A plan over very many objects is made in slices, in turns with the other
 * loops: it may read objects that have changed since it began, as it may when it is applied. On
 * loss of leadership everything stops and nothing is remembered.
 *
 * | state of a loop | what is true | left by |
 * |---|---|---|
 * | idle | nothing dirty; perhaps a wake-up timer | #dirtied (event), #wake (timer) |
 * | due | dirty; a timer is set for the pass | #pass |
 * | planning | a plan is being made; events only mark dirty | #planned, #failed |
 * | proposing | a plan's chunks are on their way; events only mark dirty | #finish |
 */
import { AssertionError } from '../base/assert.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Slices, type Spent, type Steps } from '../base/slices.ts';
import type { AnyObject, TableName, Task } from '../model/types.ts';
import { byTable } from './store/contents.ts';
import type {
  Change,
  DirtySet,
  Loop,
  PlanResult,
  Proposer,
  StoreEvent,
  StoreReader,
  StoreWatch,
} from './store/types.ts';

/** Least time between two passes of a loop; the first after a quiet time runs at once. */
const DEBOUNCE_MS = 2;
/** A loop waits this many times as long as its last plan took: a fifth of the thread at most... */
const REST_PER_PLAN = 4;
/** ...but never longer than this. */
const DEBOUNCE_MAX_MS = 40;
/** A slice of a plan that holds the event loop for longer than this is logged. */
const SLOW_SLICE_MS = 50;
/** After a proposal that failed or was refused whole: wait this long, doubled up to the second. */
const RETRY_MS = 20;
const RETRY_MAX_MS = 1_000;
/** A timer is never set further ahead; it is set again when it fires. */
const WAKE_MAX_MS = 3_600_000;
/**
 * Changes in one proposal: 200, the proposer's own bound, hold the thread for 10-17 ms while they
 * are encoded, checked and applied. Chunks that are too large in bytes are halved.
 */
const CHUNK_CHANGES = 64;
/** Events read from the ring at once. */
const EVENTS_AT_ONCE = 1_000;

export interface LoopDriverOptions {
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly clock: Clock;
  readonly log: Log;
  readonly loops: readonly Loop[];
  /** A broken invariant in a loop: the process must end. */
  readonly onFatal: (error: unknown) => void;
}

export class LoopDriver {
  readonly #options: LoopDriverOptions;
  #runners: Runner[] = [];

  constructor(options: LoopDriverOptions) {
    this.#options = options;
  }

  get running(): boolean {
    return this.#runners.length > 0;
  }

  /** The leader has applied an entry of its own term. Idempotent. */
  start(): void {
    if (this.running) return;
    const slices = new Slices(this.#options.clock);
    this.#runners = this.#options.loops.map((loop) => new Runner(loop, slices, this.#options));
    for (const runner of this.#runners) runner.start();
  }

  /** Leadership is lost, or the manager stops. Idempotent; outcomes still under way are ignored. */
  stop(): void {
    const runners = this.#runners;
    this.#runners = [];
    for (const runner of runners) runner.stop();
  }
}

class Runner {
  readonly #loop: Loop;
  readonly #slices: Slices;
  readonly #options: LoopDriverOptions;
  readonly #log: Log;
  #watch: StoreWatch;
  #dirty = new Dirty();
  #stopped = false;
  #planning = false;
  #giveUp: () => void = () => {};
  #proposing = false;
  #passTimer: Timer | undefined;
  #wakeTimer: Timer | undefined;
  #nextPassMs = 0;
  #retryMs = 0;
  #nowMs = 0;

  constructor(loop: Loop, slices: Slices, options: LoopDriverOptions) {
    this.#loop = loop;
    this.#slices = slices;
    this.#options = options;
    this.#log = options.log.with({ loop: loop.name });
    this.#watch = options.store.watch();
  }

  start(): void {
    this.#dirty.everything = true;
    this.#watch.onEvents(() => this.#dirtied());
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    this.#giveUp();
    this.#watch.close();
    this.#passTimer?.cancel();
    this.#wakeTimer?.cancel();
  }

  /** Reads what happened since the last time; called at apply, so it does no more than note it. */
  #dirtied(): void {
    try {
      for (;;) {
        const events = this.#watch.take(EVENTS_AT_ONCE);
        for (const event of events) {
          if (this.#loop.tables.includes(event.table)) this.#dirty.add(event);
        }
        if (events.length < EVENTS_AT_ONCE) break;
      }
    } catch (error) {
      if (!hasCode(error, 'exhausted')) throw error;
      this.#watch.close();
      this.#watch = this.#options.store.watch();
      this.#watch.onEvents(() => this.#dirtied());
      this.#dirty.everything = true;
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#stopped || this.#planning || this.#proposing || this.#dirty.empty) return;
    if (this.#passTimer !== undefined) return;
    const delayMs = Math.max(0, this.#nextPassMs - this.#options.clock.nowMs());
    this.#passTimer = this.#options.clock.after(delayMs, () => {
      this.#passTimer = undefined;
      this.#pass();
    });
  }

  #wake(atMs: number | undefined): void {
    this.#wakeTimer?.cancel();
    this.#wakeTimer = undefined;
    if (atMs === undefined) return;
    const delayMs = Math.min(WAKE_MAX_MS, Math.max(1, atMs - this.#options.clock.wallMs()));
    this.#wakeTimer = this.#options.clock.after(delayMs, () => {
      this.#wakeTimer = undefined;
      this.#dirty.woken = true;
      this.#schedule();
    });
  }

  #pass(): void {
    if (this.#stopped) return;
    this.#planning = true;
    this.#giveUp = this.#slices.start(
      this.#plan(),
      (plan, spent) => this.#planned(plan, spent),
      (error) => this.#failed(error),
    );
  }

  /** Of what is dirty when its turn comes. */
  *#plan(): Steps<PlanResult> {
    const { clock, store } = this.#options;
    const dirty = this.#dirty;
    this.#dirty = new Dirty();
    this.#nowMs = Math.max(this.#nowMs, Math.floor(clock.wallMs()));
    return yield* this.#loop.plan(store, dirty, this.#nowMs);
  }

  #planned(plan: PlanResult, { totalMs, longestMs }: Spent): void {
    this.#planning = false;
    if (longestMs > SLOW_SLICE_MS) {
      const changes = plan.changes.length;
      this.#log.warn('a plan took long', { planMs: Math.round(longestMs), changes });
    }
    const pauseMs = Math.min(DEBOUNCE_MAX_MS, Math.max(DEBOUNCE_MS, REST_PER_PLAN * totalMs));
    this.#nextPassMs = this.#options.clock.nowMs() + pauseMs;
    this.#wake(plan.wakeAtMs);
    if (plan.changes.length > 0) void this.#propose(plan.changes);
    else this.#schedule();
  }

  /**
   * A broken invariant ends the process; any other exception is a bug that is shown and retried.
   */
  #failed(error: unknown): void {
    this.#planning = false;
    if (error instanceof AssertionError) {
      this.stop();
      this.#options.onFatal(error);
      return;
    }
    const stack = error instanceof Error ? error.stack : undefined;
    this.#log.error('a loop failed; trying again', { error: messageOf(error), stack });
    this.#dirty.everything = true;
    this.#backOff();
    this.#schedule();
  }

  async #propose(changes: readonly Change[]): Promise<void> {
    this.#proposing = true;
    let applied = 0;
    try {
      let size = CHUNK_CHANGES;
      for (let at = 0; at < changes.length && !this.#stopped; ) {
        const chunk = changes.slice(at, at + size);
        try {
          applied += await this.#proposeChunk(chunk);
          at += chunk.length;
        } catch (error) {
          if (!hasCode(error, 'exhausted') || chunk.length === 1) throw error;
          size = Math.ceil(chunk.length / 2);
        }
      }
      if (applied > 0) this.#retryMs = 0;
      else this.#backOff();
    } catch (error) {
      if (this.#stopped) return;
      if (error instanceof AssertionError) {
        this.#failed(error);
        return;
      }
      this.#log.warn('a proposal failed; planning again', { error: messageOf(error) });
      this.#dirty.everything = true;
      this.#backOff();
    } finally {
      this.#proposing = false;
      this.#schedule();
    }
  }

  /** Returns how many of the changes were applied; marks the refused ones dirty again. */
  async #proposeChunk(chunk: readonly Change[]): Promise<number> {
    const result = await this.#options.proposer.propose({ atomic: false, changes: chunk });
    for (const { index, message } of result.rejected) {
      this.#log.debug('a change was refused', { message });
      this.#dirty.addChange(chunk[index]);
    }
    return chunk.length - result.rejected.length;
  }

  #backOff(): void {
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs === 0 ? RETRY_MS : 2 * this.#retryMs);
    this.#nextPassMs = this.#options.clock.nowMs() + this.#retryMs;
  }
}

/** What a loop has to look at again. */
class Dirty implements DirtySet {
  everything = false;
  /** The loop asked to be called now. */
  woken = false;
  readonly ids = byTable(() => new Set<string>());
  readonly taskServices = new Set<string>();
  readonly taskNodes = new Set<string>();

  get empty(): boolean {
    if (this.everything || this.woken) return false;
    return Object.values(this.ids).every((ids) => ids.size === 0);
  }

  add(event: StoreEvent): void {
    this.#note(event.table, event.id, event.before);
    this.#note(event.table, event.id, event.after);
  }

  addChange(change: Change): void {
    if (change.kind === 'remove') this.#note(change.table, change.id, undefined);
    else this.#note(change.table, change.object.id, change.object);
  }

  #note(table: TableName, id: string, object: AnyObject | undefined): void {
    this.ids[table].add(id);
    if (table !== 'task' || object === undefined) return;
    const { serviceId, nodeId } = object as Task;
    this.taskServices.add(serviceId);
    this.taskNodes.add(nodeId);
  }
}

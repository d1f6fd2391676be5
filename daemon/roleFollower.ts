/**
 * Makes this host what the leader says it should be, one change at a time: the leader may change
 * its mind while a change is under way, and a manager that was taken out of Raft while it was away
 * must become one anew. What a change is, is the caller's; a failed one is tried again.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { NodeRole } from '../model/types.ts';

const RETRY_MS = 1000;

export interface RoleFollowerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly current: () => NodeRole;
  readonly change: (role: NodeRole) => Promise<void>;
}

export class RoleFollower {
  readonly #options: RoleFollowerOptions;
  #wanted: NodeRole | undefined;
  #expelled = false;
  #following = false;
  #stopped = false;

  constructor(options: RoleFollowerOptions) {
    this.#options = options;
  }

  /** What the leader told last. */
  follow(role: NodeRole): void {
    this.#wanted = role;
    void this.#run();
  }

  /** The other managers say that this one is no member any more: it begins again as a worker. */
  expelled(): void {
    if (this.#options.current() !== 'manager') return;
    this.#expelled = true;
    void this.#run();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    if (this.#following) return;
    this.#following = true;
    const { clock, log, current, change } = this.#options;
    try {
      while (!this.#stopped) {
        // Said by several managers, also while the first word of it is being acted on.
        const begins = this.#expelled && current() === 'manager';
        this.#expelled = false;
        const next = begins ? 'worker' : (this.#wanted ?? current());
        if (next === current()) break;
        log.info('role changes', { from: current(), to: next });
        await change(next);
        log.info('role changed', { role: next });
      }
    } catch (error) {
      log.warn('role change failed; it is tried again', { error: messageOf(error) });
      clock.afterIdle(RETRY_MS, () => void this.#run());
    }
    this.#following = false;
  }
}

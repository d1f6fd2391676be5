/**
 * The process that makes this daemon's shims (runtime/shim/nursery.h): small and away from the
 * daemon's groups already, so that a shim costs a fork. Spawned again should it be gone; ends with
 * the daemon. Knows nothing of containers.
 */
import { writeFileSync } from 'node:fs';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Cgroups } from '../sys/cgroup.ts';
import {
  close,
  createMemfd,
  errno,
  errnoText,
  makeSocketPair,
  reap,
  sendWithDescriptors,
  spawnProcess,
} from '../sys/libc.ts';
import { buildNurserySpec } from './spec.ts';

const ID_DIGITS = 12;
/** What is spawned forks the nursery off and is gone within milliseconds. */
const REAP_RETRY_MS = 20;
const REAP_TRIES = 500;
/** As the shim's sources have them: shims take this name's place, so its length counts. */
const ARGUMENTS = ['tsswarm-shims', 'of-a-daemon'];

interface NurseryOptions {
  /** The shim's sealed executable. */
  readonly shimFd: number;
  readonly nullFd: number;
  readonly cgroups: Cgroups;
  readonly clock: Clock;
}

export class Nursery {
  readonly #options: NurseryOptions;
  /** -1 while there is none. */
  #socket = -1;

  constructor(options: NurseryOptions) {
    this.#options = options;
    try {
      this.replace();
    } catch {
      // A start tries again, and says why not.
    }
  }

  /**
   * Asks for a shim with these descriptors, which are copied. What becomes of it shows at
   * `listener`: where there is none, connections to it are closed.
   */
  start(shortId: string, specFd: number, listener: number): void {
    const request = Buffer.from(shortId.slice(0, ID_DIGITS));
    const send = (): boolean =>
      sendWithDescriptors(this.#socket, request, [specFd, listener]) === request.length;
    if (this.#socket >= 0 && send()) return;
    // It was killed, or hangs.
    this.replace();
    if (send()) return;
    throw new SwarmError('internal', `cannot ask for a supervisor: ${errnoText(errno())}`);
  }

  /** Lets go of the one there is, whose shims run on, and spawns another. */
  replace(): void {
    this.close();
    const { shimFd, nullFd, cgroups } = this.#options;
    const [ours, theirs] = makeSocketPair();
    const specFd = createMemfd('nursery');
    try {
      writeFileSync(specFd, buildNurserySpec(cgroups));
      const pid = spawnProcess({
        path: `/proc/self/fd/${shimFd}`,
        args: ARGUMENTS,
        env: [],
        fds: [nullFd, nullFd, nullFd, specFd, theirs],
      });
      this.#socket = ours;
      this.#reap(pid, REAP_TRIES);
    } catch (error) {
      close(ours);
      throw error;
    } finally {
      close(specFd);
      close(theirs);
    }
  }

  close(): void {
    if (this.#socket >= 0) close(this.#socket);
    this.#socket = -1;
  }

  #reap(pid: number, triesLeft: number): void {
    if (reap(pid) || triesLeft === 0) return;
    this.#options.clock.afterIdle(REAP_RETRY_MS, () => this.#reap(pid, triesLeft - 1));
  }
}

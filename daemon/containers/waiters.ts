/** Those who wait for a container: for its next end, for its rest, for its removal. */
import { SwarmError } from '../../base/errors.ts';
import { Signal } from '../../base/queue.ts';
import type { ExitStatus, WaitCondition } from './types.ts';

export class Waiters {
  readonly #signals: Readonly<Record<WaitCondition, Signal<ExitStatus>>> = {
    'next-exit': new Signal(),
    'not-running': new Signal(),
    removed: new Signal(),
  };

  tell(condition: WaitCondition, status: ExitStatus): void {
    this.#signals[condition].emit(status);
  }

  /** SwarmError cancelled when the caller goes first. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        stop();
        reject(new SwarmError('cancelled', 'the caller has gone'));
      };
      const stop = this.#signals[condition].listen((status) => {
        stop();
        signal.removeEventListener('abort', leave);
        resolve(status);
      });
      if (signal.aborted) leave();
      else signal.addEventListener('abort', leave, { once: true });
    });
  }
}

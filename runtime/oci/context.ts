/** What every command of tsswarm-oci has: made once by main.ts, changed by nobody. */
import type { Clock } from '../../base/clock.ts';
import type { OciLog } from './log.ts';
import type { Store } from './store.ts';

export interface OciContext {
  /** What it is called by its caller, for help and messages. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: OciLog;
  readonly store: Store;
}

/** What every route is given: the node it serves, and time. */
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Meter } from '../../base/meter.ts';
import type { Random } from '../../base/random.ts';
import type { DaemonNode } from '../types.ts';

export interface ApiParts {
  readonly node: DaemonNode;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly random: Random;
}

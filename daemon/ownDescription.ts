/**
 * What this host tells the swarm about itself. Asked for with every container; read from the host
 * at most every few seconds.
 */
import { describeHost } from '../agent/describe.ts';
import type { Clock } from '../base/clock.ts';
import { VERSION } from '../base/version.ts';
import type { NodeDescription } from '../model/types.ts';
import type { DaemonOptions } from './environment.ts';
import { parseGenericResources } from './genericResources.ts';
import { parseLabels } from './labels.ts';

const AGE_MS = 10_000;

export class OwnDescription {
  readonly #clock: Clock;
  readonly #options: Pick<DaemonOptions, 'labels' | 'genericResources'>;
  #known: NodeDescription | undefined;
  #atMs = 0;

  constructor(clock: Clock, options: Pick<DaemonOptions, 'labels' | 'genericResources'>) {
    this.#clock = clock;
    this.#options = options;
  }

  now(): NodeDescription {
    const nowMs = this.#clock.nowMs();
    if (this.#known === undefined || nowMs - this.#atMs > AGE_MS) {
      this.#known = describeHost({
        engineVersion: VERSION,
        engineLabels: parseLabels(this.#options.labels),
        genericResources: parseGenericResources(this.#options.genericResources),
      });
      this.#atMs = nowMs;
    }
    return this.#known;
  }
}

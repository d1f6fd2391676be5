/**
 * Makes a failing run smaller while it still fails: kinds of faults switched off, then fewer ticks.
 * A run that fails in another way counts too. Bounded by a number of tries.
 */
import { FAULT_KINDS, type FaultKind } from './faults.ts';
import { type Failure, type SimulationOptions, simulate } from './simulation.ts';

const MAX_TRIES = 60;

export interface Shrunk {
  readonly options: SimulationOptions;
  readonly failure: Failure;
}

export async function shrink(first: SimulationOptions, failure: Failure): Promise<Shrunk> {
  let best: Shrunk = { options: first, failure };
  let tries = 0;
  const attempt = async (options: SimulationOptions): Promise<boolean> => {
    if (tries >= MAX_TRIES) return false;
    tries += 1;
    const { failure: found } = await simulate(options);
    if (found === undefined) return false;
    best = { options, failure: found };
    return true;
  };
  for (const kind of FAULT_KINDS) {
    const without: FaultKind[] = [...(best.options.without ?? []), kind];
    await attempt({ ...best.options, without });
  }
  // What fails at a moment fails as well when the phase ends just after it.
  const ticksAt = Math.ceil(best.failure.atMs / 100) + 1;
  if (ticksAt < best.options.ticks) await attempt({ ...best.options, ticks: ticksAt });
  for (let step = best.options.ticks >> 1; step >= 1; step >>= 1) {
    while (best.options.ticks > step) {
      if (!(await attempt({ ...best.options, ticks: best.options.ticks - step }))) break;
    }
  }
  return best;
}

/** The line that runs it again. */
export function commandOf({ seed, ticks, without = [], planted }: SimulationOptions): string {
  const off = without.length === 0 ? '' : ` --without ${without.join(',')}`;
  const plant = planted === undefined ? '' : ` --planted ${planted}`;
  return `npm run sim -- --seed ${seed} --ticks ${ticks}${off}${plant}`;
}

/**
 * A further program as tests run it in their containers: the probe (probe.c) with the usual
 * settings. On its own, as guests' scripts need it without the roots that tests build.
 */
import { plainExec } from '../../runtime/container/plainExec.ts';
import type { ExecConfig } from '../../runtime/container/types.ts';

/** An exec of the probe with these arguments, as nobody wishes anything else. */
export function exec(args: readonly string[], extra: Partial<ExecConfig> = {}): ExecConfig {
  return { ...plainExec(['/bin/probe', ...args]), ...extra };
}

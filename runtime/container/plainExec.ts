/**
 * A further program in a container as nobody wishes anything else: in the container's own working
 * directory and as its own user, without a terminal or input. Starts nothing.
 */
import type { ExecConfig } from './types.ts';

export function plainExec(args: readonly string[]): ExecConfig {
  return {
    args,
    env: [],
    workingDir: '',
    user: '',
    tty: false,
    privileged: false,
    stdin: false,
  };
}

/**
 * Hooks that run in the caller's namespaces after a container was made: poststart and poststop
 * (config.md, "POSIX-platform Hooks"). Those before are the shim's. One that fails is told and
 * changes nothing.
 */
import { spawnSync } from 'node:child_process';
import type { OciHook } from './config.ts';
import { hookEnvironment } from './launch.ts';

const MS_PER_S = 1000;

/** What went wrong, one line a hook. */
export function runHooks(hooks: readonly OciHook[], state: string): readonly string[] {
  const failures: string[] = [];
  for (const hook of hooks) {
    const entries = hookEnvironment(hook).map((variable): [string, string] => {
      const at = variable.indexOf('=');
      return [variable.slice(0, at), variable.slice(at + 1)];
    });
    const result = spawnSync(hook.path, hook.args.slice(1), {
      argv0: hook.args[0],
      env: Object.fromEntries(entries),
      input: state,
      timeout: (hook.timeoutS ?? 0) * MS_PER_S,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    if (result.status === 0) continue;
    const why = result.error?.message ?? result.stderr.toString().trim();
    failures.push(`error running hook ${hook.path}: ${why || `status ${result.status}`}`);
  }
  return failures;
}

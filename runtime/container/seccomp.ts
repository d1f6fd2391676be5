/**
 * The seccomp filter of a Docker container: the default profile, or one the user gives as a file,
 * for the capabilities it has and the host it runs on. Loads nothing; the shim does.
 */
import { type Capability, capabilityMask } from './capabilities.ts';
import { compileFilter, EPERM, type FilterRule, RETURN } from './seccompFilter.ts';
import { DEFAULT_PROFILE, type SeccompRule } from './seccompProfile.ts';
import { type Architecture, type HostArchitecture, hostArchitecture } from './syscalls.ts';

const compiled = new Map<string, Uint8Array>();

/** The default profile for a container with `capabilities` on this host; compiled once a set. */
export function seccompProgram(capabilities: ReadonlySet<Capability>): Uint8Array {
  const key = capabilityMask(capabilities).toString();
  let program = compiled.get(key);
  if (program === undefined) {
    program = compileProfile(DEFAULT_PROFILE, capabilities, hostArchitecture());
    compiled.set(key, program);
  }
  return program;
}

const ARCHITECTURES: Readonly<Record<HostArchitecture, readonly Architecture[]>> = {
  x86_64: ['x86_64', 'i386', 'x32'],
  aarch64: ['aarch64', 'arm'],
};

/** The filter for a `host`: struct sock_filter's, as seccomp(2) takes them. */
export function compileProfile(
  profile: readonly SeccompRule[],
  capabilities: ReadonlySet<Capability>,
  host: HostArchitecture,
): Uint8Array {
  const rules = profile
    .filter(
      (rule) =>
        (rule.host === undefined || rule.host === host) &&
        (rule.with === undefined || capabilities.has(rule.with)) &&
        (rule.without === undefined || !capabilities.has(rule.without)),
    )
    .flatMap(toRules);
  return compileFilter(
    {
      defaultAction: RETURN.errno | EPERM,
      architectures: ARCHITECTURES[host],
      // A permission is stronger than a refusal by its own errno.
      rules: [
        ...rules.filter(({ action }) => action === RETURN.allow),
        ...rules.filter(({ action }) => action !== RETURN.allow),
      ],
      lastKnown: profile.flatMap(({ names }) => names.split(' ')),
    },
    host,
  );
}

function toRules({ names, tests, errno }: SeccompRule): readonly FilterRule[] {
  const action = errno === undefined ? RETURN.allow : RETURN.errno | errno;
  const base = { names: names.split(' '), action };
  if (tests === undefined) return [{ ...base, tests: [] }];
  return tests.map((test) => ({ ...base, tests: [{ ...test, isShort: true }] }));
}

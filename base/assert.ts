/**
 * Invariants, always on. A failed one is a bug, not an operating error: it throws AssertionError,
 * which nobody catches on purpose, so the process ends with the numbers that broke it
 * (daemon/main installs the handler that logs and exits). Operating errors are SwarmError's.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws AssertionError with `message` and the values in `detail` unless `condition` holds. */
export function assert(
  condition: unknown,
  message: string,
  detail?: Readonly<Record<string, unknown>>,
): asserts condition {
  if (condition) return;
  const values = detail === undefined ? '' : ` ${JSON.stringify(detail)}`;
  throw new AssertionError(`${message}${values}`);
}

/** For the default branch of a switch over a union: compiles only when every case is handled. */
export function unreachable(value: never, what: string): never {
  throw new AssertionError(`${what}: unexpected ${JSON.stringify(value)}`);
}

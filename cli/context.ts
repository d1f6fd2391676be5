/**
 * What a command works with: the daemon's client, where it writes, time, and the exit status it
 * leaves (0 done, 1 error, 2 not placeable).
 */
import type { Clock } from '../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import type { ApiClient } from './client.ts';

export const EXIT_ERROR = 1;
export const EXIT_NOT_PLACEABLE = 2;

export interface Terminal {
  readonly isTty: boolean;
  readonly columns: number;
  readonly rows: number;
  write(text: string | Uint8Array): void;
}

export interface Context {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly out: Terminal;
  readonly err: Terminal;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  exitCode: number;
}

type Act = (context: Context) => Promise<void>;

/** Runs a command's work with a context made from the global options. */
export type Run = (act: Act) => Promise<void>;

/** Runs `one` for each name in turn; a failed one is reported and the rest go on. */
export async function forEachName(
  context: Context,
  names: readonly string[],
  one: (name: string) => Promise<void>,
): Promise<void> {
  for (const name of names) {
    try {
      await one(name);
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      context.err.write(`tsswarm: ${error.message}\n`);
      context.exitCode = EXIT_ERROR;
    }
  }
}

/** undefined when what was asked for is not there. */
export async function orUndefined<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (hasCode(error, 'not_found')) return undefined;
    throw error;
  }
}

/** A change of leader takes less; a daemon that is restarted, a little more. */
const PATIENCE_MS = 15_000;
const RETRY_MS = 200;

/** `read`, again while the cluster cannot answer (a leader is being chosen), within a bound. */
export async function patiently<T>(context: Context, read: () => Promise<T>): Promise<T> {
  const endMs = context.clock.nowMs() + PATIENCE_MS;
  for (;;) {
    try {
      return await read();
    } catch (error) {
      const passing = hasCode(error, 'unavailable') || hasCode(error, 'timeout');
      const outside = messageOf(error).includes('not a swarm manager');
      const over = context.clock.nowMs() > endMs || context.signal.aborted;
      if (!passing || outside || over) throw error;
    }
    await context.clock.sleep(RETRY_MS);
  }
}

/** --filter key=value, as often as given -> the API's filters. */
export function parseFilters(texts: readonly string[] = []): Record<string, string[]> {
  const filters: Record<string, string[]> = {};
  for (const text of texts) {
    const equals = text.indexOf('=');
    if (equals <= 0) {
      throw new SwarmError('invalid', `invalid filter "${text}": write it like name=web`);
    }
    const key = text.slice(0, equals).trim().toLowerCase();
    filters[key] = [...(filters[key] ?? []), text.slice(equals + 1).trim()];
  }
  return filters;
}

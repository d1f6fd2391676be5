/** What the prune commands share: the question before, and what was removed. */
import { formatSize } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';
import type { Context } from './context.ts';
import { confirmed } from './prompt.ts';

/** True when it may go on. */
export async function confirmPrune(
  context: Context,
  warning: string,
  force: boolean | undefined,
): Promise<boolean> {
  if (force === true) return true;
  if (await confirmed(context, `WARNING! ${warning}`)) return true;
  throw new SwarmError('cancelled', 'nothing was removed; --force does not ask');
}

export function printReclaimed(
  context: Context,
  title: string,
  names: readonly string[] | null,
  bytes?: number,
): void {
  if (names !== null && names.length > 0) {
    context.out.write(`${title}:\n${names.map((name) => `${name}\n`).join('')}\n`);
  }
  if (bytes !== undefined) context.out.write(`Total reclaimed space: ${formatSize(bytes)}\n`);
}

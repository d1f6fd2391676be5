/** What the prune commands share: the question before, and what was removed. */
import { formatSize } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';
import type { Context } from './context.ts';
import { confirmed } from './prompt.ts';

/** Resolves when it may go on; SwarmError cancelled when it may not. */
export async function confirmPrune(
  context: Context,
  warning: string,
  force: boolean | undefined,
): Promise<void> {
  if (force === true) return;
  if (await confirmed(context, `WARNING! ${warning}`)) return;
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

/** The unlock key where a command without a daemon needs it: from a file, or typed unseen. */
import { readFileSync } from 'node:fs';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Command } from './command.ts';
import type { Context } from './context.ts';
import { readHidden } from './prompt.ts';

export interface KeyFlags {
  readonly unlockKeyFile?: string;
}

export function withKeyFlag(command: Command): Command {
  return command.option('--unlock-key-file <file>', 'unlock key of a locked manager; - = stdin');
}

/** '' when none is given. */
export async function unlockKeyOf(context: Context, { unlockKeyFile }: KeyFlags): Promise<string> {
  if (unlockKeyFile === undefined) return '';
  if (unlockKeyFile === '-') {
    return (await readHidden(context, 'Please enter unlock key: ')).trim();
  }
  try {
    return readFileSync(unlockKeyFile, 'utf8').trim();
  } catch (error) {
    throw new SwarmError('invalid', `cannot read the unlock key: ${messageOf(error)}`);
  }
}

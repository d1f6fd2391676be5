/** What a command of tsswarm-oci is; each file of commands/ makes one or a few. */
import { SwarmError } from '../../base/errors.ts';
import type { Arguments, Flag } from './arguments.ts';
import type { OciContext } from './context.ts';

export interface OciCommand {
  readonly name: string;
  readonly summary: string;
  /** After the flags, e.g. '<container-id> [signal]'. */
  readonly words: string;
  readonly description?: string;
  readonly flags: readonly Flag[];
  /** What follows the first word is a program's own. */
  readonly stopsEarly?: boolean;
  readonly least: number;
  readonly most: number;
  /** The exit code of the command when it fails. */
  readonly failure?: number;
  /** The exit code. */
  run(context: OciContext, args: Arguments): Promise<number> | number;
}

/** The container's name. */
export function firstWord(args: Arguments): string {
  const [word] = args.words;
  if (word === undefined || word === '') {
    throw new SwarmError('invalid', 'container id cannot be empty');
  }
  return word;
}

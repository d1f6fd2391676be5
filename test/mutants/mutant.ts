/**
 * A planted bug: a name, the promise it breaks in a few words, and the exact texts it replaces in
 * the production's sources. A text that is not there exactly once is an error, so that a list of
 * them cannot rot unnoticed. Knows nothing of how they are caught.
 */
import { readFileSync } from 'node:fs';
import * as path from 'node:path';

export interface Edit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Mutant {
  readonly name: string;
  readonly what: string;
  readonly edits: readonly Edit[];
  /** It breaks a rule of the protocol and no promise: only the replays can see it. */
  readonly harmless?: true;
  /** Beside the bug something changes that is allowed and shows in replays: they cannot judge it. */
  readonly unreplayed?: true;
}

/** One text in one file: all that most of them take. */
export function mutant(name: string, what: string, file: string, from: string, to: string): Mutant {
  return { name, what, edits: [{ file, from, to }] };
}

/** The files of `root` as they are with the bug in them. */
export function planted(root: string, { name, edits }: Mutant): Map<string, string> {
  const texts = new Map<string, string>();
  for (const { file, from, to } of edits) {
    const text = texts.get(file) ?? readFileSync(path.join(root, file), 'utf8');
    const found = text.split(from).length - 1;
    if (found !== 1) throw new Error(`mutant ${name}: its text is ${found} times in ${file}`);
    texts.set(
      file,
      text.replace(from, () => to),
    );
  }
  return texts;
}

/**
 * Going on with one manager: what it keeps and discards, told before anything happens, and the
 * question. Changes nothing itself.
 */
import { SwarmError } from '../base/errors.ts';
import type { Context } from './context.ts';
import { confirmed } from './prompt.ts';

/** As GET /tsswarm/recovery answers. */
export interface ExaminedJson {
  readonly Directory: string;
  readonly Usable: boolean;
  readonly Problem: string;
  readonly Damage: readonly {
    readonly File: string;
    readonly Offset: number;
    readonly What: string;
  }[];
  readonly Node?: {
    readonly ID: string;
    readonly Role: string;
    readonly Address: string;
    readonly RaftID: number;
  };
  readonly Raft?: {
    readonly Term: number;
    readonly Vote: number;
    readonly Commit: number;
    readonly FirstIndex: number;
    readonly LastIndex: number;
    readonly LastTerm: number;
    readonly Snapshot?: { readonly Index: number; readonly Term: number; readonly Time: string };
    readonly Torn?: { readonly File: string; readonly Offset: number };
    readonly Formats: { readonly Log: number; readonly Snapshot: number };
  };
  readonly Members: readonly {
    readonly RaftID: number;
    readonly Hostname: string;
    readonly Address: string;
    readonly Voter: boolean;
    readonly Self: boolean;
  }[];
  readonly Cluster?: {
    readonly ID: string;
    readonly Time: string;
    readonly Counts: Readonly<Record<string, number>>;
  };
  readonly Keeps: readonly string[];
  readonly Discards: readonly string[];
}

/** Empty for a state that cannot be gone on from. */
export function forceText({ Usable, Keeps, Discards }: ExaminedJson): string {
  if (!Usable) return '';
  const list = (lines: readonly string[]): string => lines.map((line) => `    ${line}\n`).join('');
  const discards = Discards.length === 0 ? ['nothing: it is the only manager'] : Discards;
  return (
    `  A new cluster forced from here keeps\n${list(Keeps)}` + `  and discards\n${list(discards)}`
  );
}

/** SwarmError unless it may be done: the state is good for it, and the user says so. */
export async function confirmForce(
  context: Context,
  state: ExaminedJson | undefined,
  force: boolean,
): Promise<void> {
  if (state === undefined) {
    throw new SwarmError('invalid', '--force-new-cluster goes on from one state: name only that');
  }
  if (!state.Usable) {
    throw new SwarmError('conflict', `${state.Directory} cannot be gone on from: ${state.Problem}`);
  }
  if (force || state.Discards.length === 0) return;
  const warning =
    'WARNING! The other managers must be gone for good: one that still runs would go on with the ' +
    'swarm as it was until it hears of this.';
  if (await confirmed(context, warning)) return;
  throw new SwarmError('cancelled', 'nothing was changed; --force does not ask');
}

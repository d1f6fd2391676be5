/**
 * Majorities, alone and joint: what a set of voters has committed, and how a vote stands. An empty
 * half of a joint configuration agrees with everything. Pure arithmetic; knows no log and no node.
 */
export type VoteResult = 'pending' | 'lost' | 'won';
export type Majority = ReadonlySet<number>;
/** [incoming, outgoing]; outgoing is empty unless joint. */
export type JointConfig = readonly [Majority, Majority];

export function sortedIds(ids: Iterable<number>): number[] {
  return [...ids].sort((left, right) => left - right);
}

/** Highest index acknowledged by a majority; Infinity for no voters. Unknown counts as 0. */
export function majorityCommitted(
  voters: Majority,
  acked: (id: number) => number | undefined,
): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY;
  const indexes: number[] = [];
  for (const id of voters) indexes.push(acked(id) ?? 0);
  indexes.sort((left, right) => left - right);
  return indexes[indexes.length - (Math.floor(indexes.length / 2) + 1)];
}

export function majorityVote(voters: Majority, votes: ReadonlyMap<number, boolean>): VoteResult {
  if (voters.size === 0) return 'won';
  let granted = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const needed = Math.floor(voters.size / 2) + 1;
  if (granted >= needed) return 'won';
  return granted + missing >= needed ? 'pending' : 'lost';
}

export function jointCommitted(
  voters: JointConfig,
  acked: (id: number) => number | undefined,
): number {
  return Math.min(majorityCommitted(voters[0], acked), majorityCommitted(voters[1], acked));
}

export function jointVote(voters: JointConfig, votes: ReadonlyMap<number, boolean>): VoteResult {
  const incoming = majorityVote(voters[0], votes);
  const outgoing = majorityVote(voters[1], votes);
  if (incoming === outgoing) return incoming;
  return incoming === 'lost' || outgoing === 'lost' ? 'lost' : 'pending';
}

export function jointIds(voters: JointConfig): number[] {
  return sortedIds(new Set([...voters[0], ...voters[1]]));
}

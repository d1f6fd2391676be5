/**
 * The configuration in force and every member's progress and vote under it. Sets are replaced, not
 * changed, by a configuration change (confchange.ts). Semantics: etcd-io/raft tracker/tracker.go.
 */
import type { Progress } from './progress.ts';
import {
  type JointConfig,
  jointCommitted,
  jointVote,
  type Majority,
  sortedIds,
  type VoteResult,
} from './quorum.ts';
import type { ConfState } from './types.ts';

export interface TrackerConfig {
  readonly voters: JointConfig;
  readonly autoLeave: boolean;
  readonly learners: Majority;
  /** Subset of the outgoing voters; becomes learners when the joint configuration is left. */
  readonly learnersNext: Majority;
}

export const EMPTY_CONFIG: TrackerConfig = {
  voters: [new Set(), new Set()],
  autoLeave: false,
  learners: new Set(),
  learnersNext: new Set(),
};

export function toConfState(config: TrackerConfig): ConfState {
  return {
    voters: sortedIds(config.voters[0]),
    votersOutgoing: sortedIds(config.voters[1]),
    learners: sortedIds(config.learners),
    learnersNext: sortedIds(config.learnersNext),
    autoLeave: config.autoLeave,
  };
}

export class Tracker {
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
  config: TrackerConfig = EMPTY_CONFIG;
  progress: Map<number, Progress> = new Map();
  votes: Map<number, boolean> = new Map();

  constructor(maxInflightMessages: number, maxInflightBytes: number) {
    this.maxInflightMessages = maxInflightMessages;
    this.maxInflightBytes = maxInflightBytes;
  }

  isSingleton(): boolean {
    return this.config.voters[0].size === 1 && this.config.voters[1].size === 0;
  }

  committed(): number {
    return jointCommitted(this.config.voters, (id) => this.progress.get(id)?.match);
  }

  /** Members in the order of their ids, so that equal runs send in equal order. */
  visit(visitor: (id: number, progress: Progress) => void): void {
    for (const id of sortedIds(this.progress.keys())) {
      const progress = this.progress.get(id);
      if (progress !== undefined) visitor(id, progress);
    }
  }

  quorumActive(): boolean {
    const votes = new Map<number, boolean>();
    for (const [id, progress] of this.progress) {
      if (!progress.isLearner) votes.set(id, progress.recentActive);
    }
    return jointVote(this.config.voters, votes) === 'won';
  }

  resetVotes(): void {
    this.votes = new Map();
  }

  /** The first vote of an id in a term counts. */
  recordVote(id: number, granted: boolean): void {
    if (!this.votes.has(id)) this.votes.set(id, granted);
  }

  tallyVotes(): VoteResult {
    return jointVote(this.config.voters, this.votes);
  }
}

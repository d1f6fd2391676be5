/** What the simulation of Raft cores (raftSim.ts) keeps of each member, and its options. */
import type { MemoryLog } from '../../manager/raft/core/memoryLog.ts';
import type { RawNode, Ready } from '../../manager/raft/core/rawnode.ts';
import type { ConfState, Message } from '../../manager/raft/core/types.ts';

/** Deliberate faults, to prove that the checks would see them. */
export type Mutant = 'ackBeforeSync' | 'forgetVote' | 'staleRead' | undefined;

export interface Write {
  readonly ready: Ready;
  readonly responses: readonly Message[];
}

export interface Applied {
  readonly term: number;
  readonly data: string;
}

export interface SimNode {
  readonly id: number;
  readonly memory: MemoryLog;
  raw: RawNode;
  up: boolean;
  writes: Write[];
  applied: Map<number, Applied>;
  appliedIndex: number;
  appliedTerm: number;
  confState: ConfState;
}

export interface SimOptions {
  readonly seed: number;
  readonly events: number;
  readonly mutant?: Mutant;
  /** Share of events that are crashes; below 0.02. */
  readonly crashRate?: number;
}

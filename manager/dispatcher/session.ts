/**
 * One agent's connection to the dispatcher: what it is to hold, who is woken when that changes, and
 * how it ended. It decides nothing; its states are told in dispatcher.ts.
 */
import type { SwarmError } from '../../base/errors.ts';
import { AssignmentSet } from './assignments.ts';
import { Pulse } from './pulse.ts';

export const NOTHING = new AssignmentSet(new Map(), new Map());

/** Who confirms a later message has applied those before it: the oldest may be forgotten. */
const UNCONFIRMED_MAX = 256;

interface Unconfirmed {
  readonly sequence: number;
  readonly networksAt: number;
}

export class Session {
  readonly id: string;
  readonly nodeId: string;
  readonly remoteAddress: string;
  /** How soon its agent was told last to send the next heartbeat. */
  beatMs: number;
  readonly messages = new Pulse();
  /** One for each assignments stream: an agent may open a new one before the old has ended. */
  readonly streams = new Set<Pulse>();
  wanted: AssignmentSet = NOTHING;
  /** The state of networks that `wanted` is of; grows. */
  networksAt = 0;
  /** Messages that brought such a state, until the agent says that it has applied them. */
  unconfirmed: Unconfirmed[] = [];
  heardAtMs: number;
  ended: SwarmError | undefined;

  constructor(id: string, nodeId: string, remoteAddress: string, nowMs: number, beatMs: number) {
    this.id = id;
    this.nodeId = nodeId;
    this.remoteAddress = remoteAddress;
    this.heardAtMs = nowMs;
    this.beatMs = beatMs;
  }

  end(reason: SwarmError): void {
    this.ended ??= reason;
    this.messages.poke();
    this.pokeStreams();
  }

  toConfirm(message: Unconfirmed): void {
    this.unconfirmed.push(message);
    if (this.unconfirmed.length > UNCONFIRMED_MAX) this.unconfirmed.shift();
  }

  pokeStreams(): void {
    for (const stream of this.streams) stream.poke();
  }
}

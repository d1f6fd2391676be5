/**
 * What an agent asks of a manager, in model types: the narrow edge that the simulator replaces.
 * rpcLink.ts is the real one, over gRPC. Errors are SwarmErrors; 'not_leader' may carry
 * detail.leader, the address to try instead.
 */
import type { AssignmentMessage, SessionMessage, TaskStatusUpdate } from '../model/assignment.ts';
import type { NodeDescription } from '../model/types.ts';

export interface SessionRequest {
  readonly description: NodeDescription;
  /** Underlay address of this host, and the port of its gRPC listener. */
  readonly address: string;
  readonly port: number;
  /** Digests of this node's credentials: who issued its certificate, what it trusts. */
  readonly issuer: string;
  readonly trust: string;
  /** '' at first. */
  readonly previousSessionId: string;
}

export interface Link {
  /** Goes on for as long as the session lives; the first message carries its id. */
  openSession(request: SessionRequest, signal: AbortSignal): AsyncIterable<SessionMessage>;
  /** The period until the next one. */
  heartbeat(sessionId: string, deadlineMs: number): Promise<{ readonly periodMs: number }>;
  assignments(sessionId: string, signal: AbortSignal): AsyncIterable<AssignmentMessage>;
  /** The networks are as the message `sequence` wants them. */
  applied(sessionId: string, sequence: number, deadlineMs: number): Promise<void>;
  updateTaskStatus(
    sessionId: string,
    updates: readonly TaskStatusUpdate[],
    deadlineMs: number,
  ): Promise<void>;
  /** Drops the connection; what is under way fails. Idempotent. */
  close(): void;
}

/** `address` is host:port of a manager. Connecting happens with the first call. */
export type Dial = (address: string) => Link;

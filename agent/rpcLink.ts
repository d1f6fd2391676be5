/**
 * The real link to a manager: gRPC calls over one connection, converted to and from model types at
 * this edge. It retries nothing; the session does.
 */
import type { AssignmentMessage, SessionMessage, TaskStatusUpdate } from '../model/assignment.ts';
import {
  assignmentFromWire,
  descriptionToWire,
  sessionFromWire,
  statusUpdateToWire,
} from '../proto/convert.ts';
import { type Client, client, type RpcChannel } from '../proto/rpc.ts';
import { Dispatcher } from '../proto/services.ts';
import type { Dial, Link, SessionRequest } from './link.ts';

/** `channelTo` makes a connection of its own for each session; the link closes it. */
export function dialOver(channelTo: (address: string) => RpcChannel): Dial {
  return (address) => new RpcLink(channelTo(address));
}

class RpcLink implements Link {
  readonly #channel: RpcChannel;
  readonly #dispatcher: Client<typeof Dispatcher>;

  constructor(channel: RpcChannel) {
    this.#channel = channel;
    this.#dispatcher = client(Dispatcher, channel);
  }

  async *openSession(request: SessionRequest, signal: AbortSignal): AsyncIterable<SessionMessage> {
    const description = descriptionToWire(request.description);
    const messages = this.#dispatcher.session({ ...request, description }, { signal });
    for await (const message of messages) yield sessionFromWire(message);
  }

  async heartbeat(sessionId: string, deadlineMs: number): Promise<{ periodMs: number }> {
    const answer = await this.#dispatcher.heartbeat({ sessionId }, { timeoutMs: deadlineMs });
    return { periodMs: Number(answer.periodMs) };
  }

  async *assignments(sessionId: string, signal: AbortSignal): AsyncIterable<AssignmentMessage> {
    const messages = this.#dispatcher.assignments({ sessionId }, { signal });
    for await (const message of messages) yield assignmentFromWire(message);
  }

  async applied(sessionId: string, sequence: number, deadlineMs: number): Promise<void> {
    const request = { sessionId, sequence: BigInt(sequence) };
    await this.#dispatcher.applied(request, { timeoutMs: deadlineMs });
  }

  async updateTaskStatus(
    sessionId: string,
    updates: readonly TaskStatusUpdate[],
    deadlineMs: number,
  ): Promise<void> {
    await this.#dispatcher.updateTaskStatus(
      { sessionId, updates: updates.map(statusUpdateToWire) },
      { timeoutMs: deadlineMs },
    );
  }

  close(): void {
    this.#channel.close();
  }
}

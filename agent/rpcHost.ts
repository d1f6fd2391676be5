/**
 * The Host service over gRPC: requests and answers of agent/host.ts converted at this edge, and the
 * ping that hosts send each other. Who may call was decided before.
 */
import { type Client, client, type Handlers, type RpcChannel } from '../proto/rpc.ts';
import { Host as HostDescriptor } from '../proto/services.ts';
import type { Host } from './host.ts';

/** Served with `server.handle(Host, hostHandlers(host))`. */
export function hostHandlers(host: Host): Handlers<typeof HostDescriptor> {
  return {
    async ping() {
      const { nodeId, nowMs } = host.ping();
      return { nodeId, nowMs: BigInt(nowMs) };
    },
    async probeOther(request) {
      return host.probeOther(request);
    },
    async taskLogs(request, send, context) {
      const query = {
        follow: request.follow,
        sinceNs: request.sinceNs,
        tail: Number(request.tail),
        stdout: request.stdout,
        stderr: request.stderr,
      };
      for await (const batch of host.taskLogs(request.taskId, query, context.signal)) {
        await send({
          records: batch.map((record) => ({
            timeNs: record.timeNs,
            stderr: record.stream === 'stderr',
            data: record.data,
          })),
        });
      }
    },
  };
}

/** A ping over a connection made for it, so that no older one's state colours the answer. */
export function pingOver(
  channelTo: (address: string) => RpcChannel,
): (address: string, timeoutMs: number) => Promise<string> {
  return async (address, timeoutMs) => {
    const channel = channelTo(address);
    try {
      const host: Client<typeof HostDescriptor> = client(HostDescriptor, channel);
      return (await host.ping({}, { timeoutMs })).nodeId;
    } finally {
      channel.close();
    }
  };
}

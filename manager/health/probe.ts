/**
 * One round of probes of one node: a TCP connection to its port, answered by its kernel however
 * busy the host is, and two other agents asked to try as well. It only looks; what follows from
 * silence is the detector's to say.
 */
import { connect } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { hostPort } from '../../model/address.ts';
import { type Client, client, type RpcChannel } from '../../proto/rpc.ts';
import { Host } from '../../proto/services.ts';
import type { ProbeResult } from './detector.ts';

export const PROBE_TIMEOUT_MS = 300;
/** After its deadline a probe gets one more turn of the event loop to be told what has arrived. */
const LAST_LOOK_MS = 10;
/** Between an agent's own deadline and ours for its answer. */
const INDIRECT_MARGIN_MS = 150;

/**
 * 'answers' when a host is there: it accepts the connection or refuses it (alive, its daemon gone).
 * 'silent' when nothing comes back in time or the network knows no way.
 */
export function probeTcp(
  clock: Clock,
  host: string,
  port: number,
  timeoutMs: number,
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (result: ProbeResult): void => {
      timer.cancel();
      socket.destroy();
      resolve(result);
    };
    let timer = clock.after(timeoutMs, () => {
      timer = clock.after(LAST_LOOK_MS, () => finish('silent'));
    });
    socket.once('connect', () => finish('answers'));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const alive = error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET';
      if (alive) finish('answers');
      // Anything else (no route, host unreachable) may be of the moment: wait the time out.
    });
  });
}

export interface ProbeTarget {
  readonly nodeId: string;
  readonly address: string;
  readonly port: number;
}

export interface ProbeHelper {
  readonly nodeId: string;
  readonly channel: RpcChannel;
}

/** Directly and through `helpers` at once; 'answers' as soon as one of them finds the host. */
export async function probeRound(
  clock: Clock,
  target: ProbeTarget,
  helpers: readonly ProbeHelper[],
): Promise<ProbeResult> {
  const { address, port } = target;
  const attempts = [
    probeTcp(clock, address, port, PROBE_TIMEOUT_MS),
    ...helpers.map(({ channel }) => probeThrough(client(Host, channel), target)),
  ];
  return new Promise((resolve) => {
    let open = attempts.length;
    for (const attempt of attempts) {
      void attempt.then((result) => {
        open -= 1;
        if (result === 'answers') resolve('answers');
        else if (open === 0) resolve('silent');
      });
    }
  });
}

async function probeThrough(
  helper: Client<typeof Host>,
  { nodeId, address, port }: ProbeTarget,
): Promise<ProbeResult> {
  try {
    const answer = await helper.probeOther(
      { nodeId, address: hostPort(address, port), timeoutMs: PROBE_TIMEOUT_MS },
      { timeoutMs: PROBE_TIMEOUT_MS + INDIRECT_MARGIN_MS },
    );
    const refused = /refused/i.test(answer.error);
    return answer.reachable || refused ? 'answers' : 'silent';
  } catch {
    return 'silent'; // the helper could not help: that says nothing in the target's favour
  }
}

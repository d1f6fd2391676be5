/**
 * The cluster's attachable networks for this host's own containers: asks the leader for a place on
 * one (a worker may, too), waits until this host holds it, and gives it back. A place that cannot
 * be given back now is tried again; those of containers that ended unseen are found by looking.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import { bareAddress } from '../base/ipAddress.ts';
import type { Log } from '../base/log.ts';
import { isTerminal, TaskState } from '../model/taskState.ts';
import { type Client, client, type RpcChannel } from '../proto/rpc.ts';
import { Dispatcher } from '../proto/services.ts';
import { askLeader } from './askLeader.ts';
import type { AttachableNetworks, EndpointSpec } from './containers/types.ts';
import type { SwarmNode } from './swarmNode.ts';

const CALL_TIMEOUT_MS = 10_000;
/** Until the network is made on this host: the agent's own bound, and the way to it. */
const READY_WAIT_MS = 15_000;
const READY_POLL_MS = 10;
/** Until this host has taken its place in the swarm after a start. */
const PLACE_WAIT_MS = 30_000;
const PLACE_POLL_MS = 100;
const RETRY_MS = 5000;
/** A place whose container is missed twice in a row at this distance is given back. */
const SWEEP_MS = 30_000;
/** What the leader says of the request itself; asking another manager changes nothing. */
const FINAL_CODES = ['not_found', 'forbidden', 'invalid', 'exhausted'] as const;

/** Of the way to the leader. */
const PASSING_CODES = ['unavailable', 'timeout', 'not_leader', 'no_quorum'] as const;

export interface SwarmAttachmentsOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** undefined outside a swarm. */
  readonly swarm: () => SwarmNode | undefined;
  /** Whether this host is part of a swarm, though it may not have taken its place yet. */
  readonly isMember: () => boolean;
  /** Whether the container is there and has not ended. */
  readonly isThere: (containerId: string) => boolean;
}

/** Names of networks that are remembered; a host uses far fewer. */
const NAMES_MAX = 1024;

type Leader = Client<typeof Dispatcher>;

export class SwarmAttachments implements AttachableNetworks {
  readonly #options: SwarmAttachmentsOptions;
  /** '<container>/<network>' that were to be given back, and could not: when it is tried again. */
  readonly #owed = new Map<string, Timer>();
  /** The same, while the leader is asked. */
  readonly #asked = new Map<string, Promise<void>>();
  /** Id -> name, of networks that were asked for. */
  readonly #names = new Map<string, string>();
  /** Places whose container was missed when last looked at. */
  #missed = new Set<string>();
  #timer: Timer | undefined;

  constructor(options: SwarmAttachmentsOptions) {
    this.#options = options;
  }

  /** Gives back, from now on, what containers that ended unseen have left. */
  start(): void {
    this.#timer = this.#options.clock.afterIdle(SWEEP_MS, () => {
      this.sweep();
      this.start();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    for (const key of [...this.#owed.keys()]) this.#settle(key);
  }

  sweep(): void {
    const missed = new Set<string>();
    for (const { status, networks } of this.#options.swarm()?.agent.attachments() ?? []) {
      const { containerId } = status;
      if (isTerminal(status.state) || this.#options.isThere(containerId)) continue;
      missed.add(containerId);
      if (!this.#missed.has(containerId)) continue;
      for (const { networkId } of networks) {
        if (!this.#owed.has(keyOf(containerId, networkId)))
          void this.detach(containerId, networkId);
      }
    }
    this.#missed = missed;
  }

  async find(
    nameOrId: string,
  ): Promise<{ readonly id: string; readonly name: string } | undefined> {
    const swarm = this.#options.swarm();
    if (swarm === undefined) return undefined;
    try {
      const ask = (leader: Leader) =>
        leader.findNetwork({ key: nameOrId }, { timeoutMs: CALL_TIMEOUT_MS });
      const { id, name } = await this.#ask(swarm, ask);
      this.#names.set(id, name);
      if (this.#names.size > NAMES_MAX) this.#names.delete([...this.#names.keys()][0]);
      return { id, name };
    } catch (error) {
      if (hasCode(error, 'not_found')) return undefined;
      throw error;
    }
  }

  nameOf(networkId: string): string | undefined {
    return this.#options.swarm()?.agent.networkName(networkId) ?? this.#names.get(networkId);
  }

  async attach(
    containerId: string,
    networkId: string,
    wanted: EndpointSpec,
  ): Promise<{ readonly endpointId: string; readonly address: string }> {
    const swarm = await this.#untilInSwarm(networkId);
    const untilMs = this.#options.clock.nowMs() + PLACE_WAIT_MS;
    // Taken anew, it is not owed any more; what is on its way would take the new place back.
    await this.#asked.get(keyOf(containerId, networkId));
    this.#settle(keyOf(containerId, networkId));
    const { aliases, address } = wanted;
    const request = { containerId, networkId, aliases: [...aliases], address };
    const { taskId } = await this.#patiently(untilMs, () =>
      this.#ask(swarm, (leader) => leader.attachNetwork(request, { timeoutMs: CALL_TIMEOUT_MS })),
    );
    try {
      return { endpointId: taskId, address: await this.#untilHeld(swarm, taskId) };
    } catch (error) {
      await this.detach(containerId, networkId);
      throw error;
    }
  }

  /** Containers that start with their host may be earlier than its place in the swarm. */
  async #untilInSwarm(networkId: string): Promise<SwarmNode> {
    const { clock, swarm, isMember } = this.#options;
    const untilMs = clock.nowMs() + PLACE_WAIT_MS;
    for (;;) {
      const found = swarm();
      if (found !== undefined) return found;
      if (!isMember() || clock.nowMs() >= untilMs) {
        throw new SwarmError(
          'not_found',
          `network ${networkId} not found: this host is in no swarm`,
        );
      }
      await clock.sleep(PLACE_POLL_MS);
    }
  }

  detach(containerId: string, networkId: string): Promise<void> {
    const key = keyOf(containerId, networkId);
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    const asking = this.#detach(containerId, networkId).finally(() => this.#asked.delete(key));
    this.#asked.set(key, asking);
    return asking;
  }

  async #detach(containerId: string, networkId: string): Promise<void> {
    const { swarm: find, clock, log } = this.#options;
    const swarm = find();
    if (swarm === undefined) return;
    const key = keyOf(containerId, networkId);
    this.#settle(key);
    try {
      await this.#ask(swarm, (leader) =>
        leader.detachNetwork({ containerId, networkId }, { timeoutMs: CALL_TIMEOUT_MS }),
      );
    } catch (error) {
      log.warn('a network cannot be given back yet', { error: messageOf(error) });
      const again = (): void => void this.detach(containerId, networkId);
      this.#owed.set(key, clock.afterIdle(RETRY_MS, again));
    }
  }

  #settle(key: string): void {
    this.#owed.get(key)?.cancel();
    this.#owed.delete(key);
  }

  /** Again while no manager can be reached, or none leads: they may be starting as this host is. */
  async #patiently<T>(untilMs: number, ask: () => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        const passes = PASSING_CODES.some((code) => hasCode(error, code)) && !isFinal(error);
        if (!passes || clock.nowMs() >= untilMs) throw error;
      }
      await clock.sleep(PLACE_POLL_MS);
    }
  }

  /** The address without prefix length, once the agent holds the network with it. */
  async #untilHeld(swarm: SwarmNode, taskId: string): Promise<string> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + READY_WAIT_MS;
    while (clock.nowMs() < untilMs) {
      const held = swarm.agent.taskHere(taskId);
      if (held?.status.state === TaskState.RUNNING)
        return bareAddress(held.task.networks[0].address);
      if (held !== undefined && isTerminal(held.status.state)) {
        throw new SwarmError('unavailable', held.status.error || 'the attachment was taken back');
      }
      await clock.sleep(READY_POLL_MS);
    }
    throw new SwarmError(
      'timeout',
      'the network has not come to this host in time: are the managers reached?',
    );
  }

  async #ask<T>(swarm: SwarmNode, call: (leader: Leader) => Promise<T>): Promise<T> {
    const channelTo = (address: string): RpcChannel => swarm.channelTo(address, 'manager');
    const { managers } = swarm.membership;
    const asked = await askLeader(this.#options.clock, managers, channelTo, async (channel) => {
      try {
        return { answer: await call(client(Dispatcher, channel)) };
      } catch (error) {
        if (isFinal(error)) return { error };
        throw error;
      }
    });
    if ('error' in asked) throw asked.error;
    return asked.answer;
  }
}

/** The leader's own word, not the way to it. */
function isFinal(error: unknown): boolean {
  if (hasCode(error, 'unavailable')) return messageOf(error).startsWith('Could not attach');
  return FINAL_CODES.some((code) => hasCode(error, code));
}

function keyOf(containerId: string, networkId: string): string {
  return `${containerId}/${networkId}`;
}

/**
 * Places on attachable networks for containers that no service owns, as hosts ask the leader for
 * them: an attachment is a task without a service, on the host that asks, with an address from the
 * allocator. A host asks for itself alone, and only attachable networks are given.
 */
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Network, Task } from '../../model/types.ts';
import { need } from '../../proto/convert.ts';
import type { CallContext, Handlers } from '../../proto/rpc.ts';
import type { Dispatcher } from '../../proto/services.ts';
import { attachmentSpec } from '../placement/attachment.ts';
import { setDesired, statusOfNew } from '../placement/task.ts';
import type { Proposer, StoreReader } from '../store/types.ts';
import { retried, transact } from '../transact.ts';

/** The allocator needs a few milliseconds. */
const ALLOCATION_WAIT_MS = 8000;
const ALLOCATION_POLL_MS = 10;
/** Its host reports its state in a few steps. */
const DETACH_TRIES = 20;
/** Of one host; it runs far fewer containers. */
const ATTACHMENTS_MAX = 4096;

export interface AttachmentsOptions {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly notLeader: () => SwarmError;
}

export interface AttachmentRequest {
  readonly networkId: string;
  readonly containerId: string;
  readonly aliases: readonly string[];
  /** '' = any free one. */
  readonly address: string;
}

export class Attachments {
  readonly #options: AttachmentsOptions;

  constructor(options: AttachmentsOptions) {
    this.#options = options;
  }

  handlers(): Pick<Handlers<typeof Dispatcher>, 'findNetwork' | 'attachNetwork' | 'detachNetwork'> {
    return {
      findNetwork: async ({ key }) => {
        this.#mustLead();
        const network = this.#attachable(key);
        return { id: network.id, name: network.spec.name };
      },
      attachNetwork: async (request, context) => {
        this.#mustLead();
        const { id } = await this.attach(callerOf(context), request);
        return { taskId: id };
      },
      detachNetwork: async ({ containerId, networkId }, context) => {
        this.#mustLead();
        await this.detach(callerOf(context), containerId, networkId);
        return {};
      },
    };
  }

  #mustLead(): void {
    if (!this.#options.proposer.isLeader) throw this.#options.notLeader();
  }

  /** SwarmError not_found; forbidden in Docker's words unless it is attachable. */
  #attachable(key: string): Network {
    const { store } = this.#options;
    const network = store.get('network', key) ?? store.byName('network', key);
    if (network === undefined) throw new SwarmError('not_found', `network ${key} not found`);
    if (network.spec.attachable) return network;
    const { name } = network.spec;
    throw new SwarmError(
      'forbidden',
      `Could not attach to network ${name}: network ${name} not manually attachable: ` +
        'it was made without --attachable',
    );
  }

  /** The task once it has its address; the one that is there already when it was asked before. */
  async attach(nodeId: string, request: AttachmentRequest): Promise<Task> {
    const { store, clock } = this.#options;
    const network = this.#attachable(request.networkId);
    const untilMs = clock.nowMs() + ALLOCATION_WAIT_MS;
    // Taken off and put on again (a restart): the same address is free once the host has let go.
    while (this.#isLeaving(nodeId, request.containerId, network.id) && clock.nowMs() < untilMs) {
      await clock.sleep(ALLOCATION_POLL_MS);
    }
    const found = this.#find(nodeId, request.containerId, network.id);
    const id = found?.id ?? (await this.#make(nodeId, network, request));
    for (;;) {
      const task = store.get('task', id);
      if (task === undefined) throw new SwarmError('cancelled', 'the attachment was taken back');
      if (task.status.state >= TaskState.ASSIGNED) return task;
      const { error } = task.status;
      if (error !== '' || clock.nowMs() >= untilMs) {
        await this.detach(nodeId, request.containerId, network.id);
        const { name } = network.spec;
        const why = error || 'no address was given in time';
        throw new SwarmError('unavailable', `Could not attach to network ${name}: ${why}`);
      }
      await clock.sleep(ALLOCATION_POLL_MS);
    }
  }

  async detach(nodeId: string, containerId: string, networkId: string): Promise<void> {
    const detach = async (): Promise<void> => {
      const task = this.#find(nodeId, containerId, networkId);
      if (task === undefined) return;
      await transact(this.#options.proposer, setDesired(task, TaskState.REMOVE));
    };
    // Changed meanwhile: by its own host, or it is gone.
    await retried(DETACH_TRIES, detach, ['out_of_sequence', 'not_found']);
  }

  #find(nodeId: string, containerId: string, networkId: string): Task | undefined {
    const places = this.#places(nodeId, containerId, networkId);
    return places.find(({ desiredState }) => isWantedState(desiredState));
  }

  #isLeaving(nodeId: string, containerId: string, networkId: string): boolean {
    const places = this.#places(nodeId, containerId, networkId);
    return places.some(({ desiredState }) => !isWantedState(desiredState));
  }

  #places(nodeId: string, containerId: string, networkId: string): readonly Task[] {
    return this.#own(nodeId).filter(
      ({ status, networks }) =>
        status.containerId === containerId && networks.some((each) => each.networkId === networkId),
    );
  }

  /** Of the host, that have not ended. */
  #own(nodeId: string): readonly Task[] {
    const tasks = [...this.#options.store.tasksOfNode(nodeId)];
    return tasks.filter(({ serviceId, status }) => serviceId === '' && !isTerminal(status.state));
  }

  async #make(nodeId: string, network: Network, request: AttachmentRequest): Promise<string> {
    const { ids, clock, proposer } = this.#options;
    if (this.#own(nodeId).length >= ATTACHMENTS_MAX) {
      throw new SwarmError('exhausted', `a host may have ${ATTACHMENTS_MAX} attachments`);
    }
    const nowMs = Math.floor(clock.wallMs());
    const object: Task = {
      id: ids.object(),
      version: 0,
      createdAtMs: 0,
      updatedAtMs: 0,
      serviceId: '',
      serviceName: '',
      slot: 0,
      generation: 0,
      jobIteration: undefined,
      nodeId,
      spec: attachmentSpec(network.id, request.aliases, request.address),
      serviceLabels: {},
      specVersion: 0,
      desiredState: TaskState.RUNNING,
      status: { ...statusOfNew(nowMs), containerId: request.containerId },
      networks: [{ networkId: network.id, address: '', aliases: request.aliases }],
      ports: [],
      genericResources: [],
      notBeforeMs: 0,
      movedFrom: '',
    };
    await transact(proposer, { kind: 'create', table: 'task', object });
    return object.id;
  }
}

function callerOf(context: CallContext): string {
  return need(context.peer, 'the caller').nodeId;
}

/**
 * A task that is only a place on an attachable network, for a container that no service owns: it
 * runs while the container is on the network. It makes the network ready on this host; the
 * container is its user's, and is never touched.
 */
import type { Task } from '../model/types.ts';
import type { Controller, Exit, Prepared, Started } from './controller.ts';
import type { Networks } from './networks.ts';

const ENDED: Exit = { exitCode: 0, oomKilled: false, error: '' };

/** No service: the managers made it because this host asked. */
export function isAttachment(task: Task): boolean {
  return task.serviceId === '';
}

export class AttachmentController implements Controller {
  readonly #networks: Networks;
  readonly #task: Task;
  #end: () => void = () => {};

  constructor(networks: Networks, task: Task) {
    this.#networks = networks;
    this.#task = task;
  }

  async prepare(): Promise<Prepared> {
    await Promise.all(this.#task.networks.map(({ networkId }) => this.#networks.ready(networkId)));
    return { containerId: this.#task.status.containerId, gatewayAddress: '' };
  }

  async start(): Promise<Started> {
    return { ...(await this.prepare()), pid: 0, isChecked: false };
  }

  watchHealth(): () => void {
    return () => {};
  }

  wait(): Promise<Exit> {
    return new Promise((resolve) => {
      this.#end = () => resolve(ENDED);
    });
  }

  async shutdown(): Promise<Exit> {
    this.#end();
    return ENDED;
  }

  async release(): Promise<void> {}

  async remove(): Promise<void> {}
}

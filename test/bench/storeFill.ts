/**
 * A store of a million tasks as a busy cluster has them: running on 1,000 nodes for 1,000 services,
 * each with a container id, times of every phase, and strings of its own as if read from the wire.
 */
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { createTask } from '../../manager/placement/task.ts';
import { Store } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task, TaskStatus } from '../../model/types.ts';
import { node, service } from '../support/objects.ts';

export const TASKS = 1_000_000;
const NODES = 1_000;
const SERVICES = 1_000;
const BATCH = 200;
const NOW_MS = 1_700_000_000_000;

/** Another string of the same characters, as decoding makes. */
function fresh(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function runs(ids: Ids, at: number): TaskStatus {
  const startMs = NOW_MS + at * 7;
  const states = [0, 64, 192, 256, 320, 384, 448, 512];
  return {
    state: TaskState.RUNNING,
    atMs: startMs + 700,
    message: fresh('started'),
    error: '',
    containerId: ids.container(),
    pid: 1 + (at % 32_000),
    exitCode: 0,
    oomKilled: false,
    gatewayAddress: '',
    phases: Object.fromEntries(states.map((state, step) => [state, startMs + step * 91])),
  };
}

export class Filled {
  readonly store = new Store();
  readonly ids = new Ids(new SeededRandom(1));

  /** `env`: of every service, to give a task's record its size on the wire. */
  constructor(tasks = TASKS, env: readonly string[] = ['A=1']) {
    const nodes = Array.from({ length: NODES }, (_, at) => node(this.ids.object(), at + 1));
    for (const object of nodes) this.apply([{ kind: 'create', table: 'node', object }]);
    const each = tasks / SERVICES;
    let made = 0;
    for (let at = 0; at < SERVICES; at += 1) {
      const wanted = service(`service-${at}`, { replicas: each, task: { container: { env } } });
      const object: Service = { ...wanted, id: this.ids.object() };
      this.apply([{ kind: 'create', table: 'service', object }]);
      for (let slot = 1; slot <= each; slot += BATCH) {
        const count = Math.min(BATCH, each - slot + 1);
        this.apply(
          Array.from({ length: count }, (_, next) => {
            made += 1;
            return this.task(object, slot + next, fresh(nodes[made % NODES].id), made);
          }),
        );
      }
    }
  }

  task(of: Service, slot: number, nodeId: string, at: number): Change {
    const desiredState = TaskState.RUNNING;
    const wanted = { slot, nodeId, generation: 1, desiredState, notBeforeMs: 0 } as const;
    const { object } = createTask(this.ids, of, wanted, NOW_MS) as { object: Task };
    const own = { serviceId: fresh(of.id), serviceName: fresh(of.spec.name) };
    const status = runs(this.ids, at);
    return { kind: 'create', table: 'task', object: { ...object, ...own, status } };
  }

  apply(changes: readonly Change[]): void {
    const version = this.store.version + 1;
    const { rejected } = this.store.apply(version, NOW_MS + version, { atomic: false, changes });
    if (rejected.length > 0) throw new Error(rejected[0].message);
  }
}

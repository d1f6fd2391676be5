/** The scheduler alone: 10,000 tasks onto 1,000 nodes, spread over zones; nothing is applied. */
import { SystemClock } from '../../base/clock.ts';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { atOnce } from '../../base/slices.ts';
import { createTask } from '../../manager/placement/task.ts';
import { Scheduler } from '../../manager/scheduler/scheduler.ts';
import { byTable } from '../../manager/store/contents.ts';
import { Store } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { node, service } from '../support/objects.ts';
import { type Figure, figure } from './report.ts';

const NODES = 1_000;
const TASKS = 10_000;
const ZONES = 10;
const ROUNDS = 5;
const LEAST = 15_000;
const NOW_MS = 1_700_000_000_000;

export async function benchmark(): Promise<Figure[]> {
  const target = { text: `>= ${LEAST}/s`, least: LEAST };
  return [1, 100].map((services) => {
    // One round nobody counts: code is compiled.
    const values = Array.from({ length: ROUNDS + 1 }, () => placementsPerSecond(services)).slice(1);
    const of = services === 1 ? 'one service' : `${services} services`;
    return figure(`placements, ${NODES} nodes, ${TASKS} tasks of ${of}`, '/s', values, target);
  });
}

function placementsPerSecond(services: number): number {
  const clock = new SystemClock();
  const { store, version } = filled(services);
  const scheduler = new Scheduler();
  let ids = byTable(() => new Set<string>());
  let everything = true;
  let spentMs = 0;
  let placed = 0;
  for (let at = version; placed < TASKS; at += 1) {
    const startMs = clock.nowMs();
    const { changes } = atOnce(scheduler.plan(store, { everything, ids }, NOW_MS));
    spentMs += clock.nowMs() - startMs;
    if (changes.length === 0) throw new Error(`only ${placed} of ${TASKS} tasks were placed`);
    placed += changes.length;
    store.apply(at, NOW_MS, { atomic: false, changes });
    everything = false;
    ids = byTable(() => new Set<string>());
  }
  return Math.round(placed / (spentMs / 1000));
}

function filled(services: number): { store: Store; version: number } {
  const store = new Store();
  const ids = new Ids(new SeededRandom(1));
  let version = 1;
  const apply = (changes: readonly Change[]): void => {
    store.apply(version, NOW_MS, { atomic: false, changes });
    version += 1;
  };
  for (let at = 1; at <= NODES; at += 1) {
    const labels = { zone: `z${at % ZONES}` };
    apply([{ kind: 'create', table: 'node', object: node(`n${at}`, at, { spec: { labels } }) }]);
  }
  const made: Service[] = [];
  for (let at = 0; at < services; at += 1) {
    const task = {
      reservations: { nanoCpus: 1e7, memoryBytes: 2 ** 20, pids: 0 },
      placement: { spreadOver: ['node.labels.zone'] },
    };
    const object = service(`s${at}`, { replicas: TASKS / services, task });
    apply([{ kind: 'create', table: 'service', object }]);
    made.push(object);
  }
  for (const each of made) {
    for (let slot = 1; slot <= TASKS / services; slot += 1) {
      const wanted = {
        slot,
        nodeId: '',
        generation: 1,
        desiredState: TaskState.RUNNING,
        notBeforeMs: 0,
      };
      const change = createTask(ids, each, wanted, NOW_MS) as { object: Task };
      const status = { ...change.object.status, state: TaskState.PENDING };
      apply([{ kind: 'create', table: 'task', object: { ...change.object, status } }]);
    }
  }
  return { store, version };
}

/** /tsswarm/rebalance and /tsswarm/why: what only this API has, about the cluster as a whole. */
import { hasCode } from '../../../base/errors.ts';
import type { Slices, Steps } from '../../../base/slices.ts';
import type { Control } from '../../../manager/control/types.ts';
import { type Move, planMoves } from '../../../manager/rebalancer/moves.ts';
import type { View } from '../../../manager/store/types.ts';
import { hostnameOf, type Reason, taskLabel } from '../../../manager/why/task.ts';
import { type Why, whyOfService, whyOfTask } from '../../../manager/why/why.ts';
import { taskPlace } from '../../../model/taskName.ts';
import type { Task } from '../../../model/types.ts';
import { timeOf } from '../docker/common.ts';
import { controlOf, findOptional, findTask } from '../find.ts';
import { json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

/** Moves told in one answer; what is left is moved all the same. */
const MOVES_TOLD = 1000;

export function addClusterRoutes(router: Router, parts: ApiParts, slices: Slices): void {
  router.post('/tsswarm/rebalance', async (request) => {
    const control = controlOf(parts.node);
    const store = await control.read();
    const nowMs = parts.clock.wallMs();
    const { moves, unsettled } = await slices.run(
      planMoves(store, nowMs, MOVES_TOLD, Number.MAX_SAFE_INTEGER),
    );
    if (!request.flag('plan') && moves.length > 0) await control.rebalance();
    return json({ Moves: moves.map((move) => moveToJson(store, move)), Unsettled: unsettled });
  });
  router.get('/tsswarm/why/{key...}', async (request) => {
    const { store, quorum } = await storeOf(controlOf(parts.node));
    const why = await slices.run(whyOf(store, request.params.key, parts.clock.wallMs()));
    return json(whyToJson({ ...why, reasons: [...quorum, ...why.reasons] }));
  });
}

/** Without a quorum the question is asked all the more: what this manager knows is answered. */
async function storeOf(control: Control): Promise<{ store: View; quorum: readonly Reason[] }> {
  try {
    return { store: await control.read(), quorum: [] };
  } catch (error) {
    if (!hasCode(error, 'no_quorum')) throw error;
    const reason = {
      kind: 'quorum',
      taskId: '',
      subject: 'the swarm',
      text: error.message,
    } as const;
    return { store: control.store, quorum: [reason] };
  }
}

/** A service by id or name; a task by id or name, or 'web.3': what is in slot 3 now. */
function* whyOf(store: View, key: string, nowMs: number): Steps<Why> {
  const service = findOptional(store, 'service', key);
  if (service !== undefined) return yield* whyOfService(store, service, nowMs);
  const slot = /^(.+)\.(\d+)$/.exec(key);
  const named = slot === null ? undefined : findOptional(store, 'service', slot[1]);
  if (slot !== null && named !== undefined) {
    const isIn = (task: Task): boolean => taskPlace(task) === slot[2];
    const tasks = [...store.tasksOfService(named.id)].filter(isIn);
    tasks.sort((left, right) => right.generation - left.generation);
    if (tasks.length > 0) return yield* whyOfTask(store, tasks[0], nowMs);
  }
  return yield* whyOfTask(store, yield* findTask(store, key), nowMs);
}

function moveToJson(store: View, { task, service, toNodeId, why }: Move): object {
  return {
    TaskID: task.id,
    Task: taskLabel(store, task),
    ServiceID: service.id,
    Service: service.spec.name,
    FromNodeID: task.nodeId,
    From: hostnameOf(store, task.nodeId),
    ToNodeID: toNodeId,
    To: hostnameOf(store, toNodeId),
    Why: why,
  };
}

function whyToJson({ kind, id, name, summary, reasons }: Why): object {
  return {
    Kind: kind,
    ID: id,
    Name: name,
    Summary: summary,
    Reasons: reasons.map((reason) => ({
      Kind: reason.kind,
      ...(reason.taskId === '' ? {} : { TaskID: reason.taskId }),
      Subject: reason.subject,
      Text: reason.text,
      ...(reason.untilMs === undefined ? {} : { Until: timeOf(reason.untilMs) }),
      ...(reason.refusals === undefined
        ? {}
        : {
            Refusals: reason.refusals.map((refusal) => ({
              Filter: refusal.filter,
              Reason: refusal.reason,
              Count: refusal.nodes.length,
              Nodes: refusal.nodes,
              Detail: refusal.detail,
            })),
          }),
    })),
  };
}

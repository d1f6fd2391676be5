/**
 * Whether a task differs from what its service now wants, so that a rolling update must replace it.
 * A change of placement alone leaves a task that still fits where it is; of dynamic ports only what
 * the user fixed counts. Pure comparison.
 */
import { fitsPlacement } from '../../model/constraint.ts';
import { sameValue } from '../../model/equal.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Node, PortConfig, Service, Task, TaskSpec } from '../../model/types.ts';

/** `node`: where the task is, when it is anywhere. */
export function isDirty(service: Service, task: Task, node: Node | undefined): boolean {
  if (task.specVersion === service.specVersion) return false;
  if (task.status.state >= TaskState.PENDING && !samePorts(service.spec.ports, task.ports)) {
    return true;
  }
  const wanted = service.spec.task;
  if (task.spec === wanted || sameValue(task.spec, wanted)) return false;
  const have = { ...pulled(task, wanted), placement: wanted.placement };
  if (!sameValue(have, wanted)) return true;
  return node !== undefined && !fitsPlacement(wanted.placement, node);
}

/** What opened the registry matters no more once the image is there. */
function pulled({ spec, status }: Task, wanted: TaskSpec): TaskSpec {
  if (status.state < TaskState.READY) return spec;
  const { registryAuth } = wanted.container;
  return { ...spec, container: { ...spec.container, registryAuth } };
}

function samePorts(wanted: readonly PortConfig[], have: readonly PortConfig[]): boolean {
  if (wanted.length !== have.length) return false;
  return wanted.every((port, at) => {
    const other = have[at];
    return (
      port.protocol === other.protocol &&
      port.targetPort === other.targetPort &&
      port.publishMode === other.publishMode &&
      (port.publishedPort === 0 || port.publishedPort === other.publishedPort)
    );
  });
}

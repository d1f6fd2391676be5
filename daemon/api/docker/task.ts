/** A task as Docker's JSON. */

import type { View } from '../../../manager/store/types.ts';
import { shownSlot } from '../../../model/taskName.ts';
import { taskStateName } from '../../../model/taskState.ts';
import type { Task } from '../../../model/types.ts';
import { metaOf, timeOf } from './common.ts';
import { attachedNetworkToDocker } from './network.ts';
import { genericToDocker, portToDocker, taskSpecToDocker } from './serviceSpec.ts';

export function taskToDocker(task: Task, view: View): object {
  const { status } = task;
  const hostPorts = task.ports.filter((port) => port.publishMode === 'host').map(portToDocker);
  return {
    ...metaOf(task),
    Labels: {},
    Spec: taskSpecToDocker(task.spec),
    ...(task.jobIteration === undefined ? {} : { JobIteration: { Index: task.jobIteration } }),
    ...genericToDocker(task.genericResources),
    ServiceID: task.serviceId,
    ...slotToDocker(task),
    ...(task.nodeId === '' ? {} : { NodeID: task.nodeId }),
    Status: {
      Timestamp: timeOf(status.atMs),
      State: taskStateName(status.state),
      Message: status.message,
      ...(status.error === '' ? {} : { Err: status.error }),
      ...(status.containerId === ''
        ? {}
        : {
            ContainerStatus: {
              ContainerID: status.containerId,
              PID: status.pid,
              ExitCode: status.exitCode,
            },
          }),
      PortStatus: hostPorts.length === 0 ? {} : { Ports: hostPorts },
    },
    DesiredState: taskStateName(task.desiredState),
    NetworksAttachments: task.networks.flatMap((attachment) => {
      const network = view.get('network', attachment.networkId);
      if (network === undefined) return [];
      return [
        {
          Network: attachedNetworkToDocker(network),
          Addresses: attachment.address === '' ? [] : [attachment.address],
        },
      ];
    }),
  };
}

/** Docker counts a job's slots from 0, which its JSON leaves out; its client relies on it. */
function slotToDocker(task: Task): object {
  const number = shownSlot(task) ?? 0;
  return number > 0 ? { Slot: number } : {};
}

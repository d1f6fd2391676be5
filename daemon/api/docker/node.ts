/** A node, and its specification, as Docker's JSON. */

import type { RaftSummary } from '../../../manager/control/types.ts';
import type { Cluster, Node, NodeSpec } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { metaOf } from './common.ts';
import { genericToDocker } from './serviceSpec.ts';
import { nodeTlsInfo } from './swarm.ts';

export function nodeToDocker(
  node: Node,
  raft: RaftSummary | undefined,
  cluster: Cluster | undefined,
): object {
  const member = raft?.managers.find((manager) => manager.nodeId === node.id);
  const { description } = node;
  return {
    ...metaOf(node),
    Spec: nodeSpecToDocker(node.spec),
    Description: {
      Hostname: description.hostname,
      Platform: { Architecture: description.architecture, OS: description.os },
      Resources: {
        NanoCPUs: description.nanoCpus,
        MemoryBytes: description.memoryBytes,
        ...genericToDocker(description.genericResources),
      },
      Engine: {
        EngineVersion: description.engineVersion,
        Labels: description.engineLabels,
        Plugins: [{ Type: 'Network', Name: 'overlay' }],
      },
      TLSInfo: nodeTlsInfo(cluster, node.tls),
    },
    Status: {
      State: node.state,
      ...(node.stateMessage === '' ? {} : { Message: node.stateMessage }),
      Addr: node.address,
    },
    // One that is still catching up is no manager yet: it counts for no quorum.
    ...(node.manager === undefined || node.role !== 'manager'
      ? {}
      : {
          ManagerStatus: {
            ...(member?.isLeader === true ? { Leader: true } : {}),
            Reachability:
              member === undefined ? 'unknown' : member.reachable ? 'reachable' : 'unreachable',
            Addr: node.manager.address,
          },
        }),
  };
}

export function nodeSpecToDocker(spec: NodeSpec): object {
  return {
    ...(spec.name === '' ? {} : { Name: spec.name }),
    Labels: spec.labels,
    Role: spec.role,
    Availability: spec.availability,
  };
}

export function nodeSpecFromDocker(fields: Fields): NodeSpec {
  return {
    name: fields.text('Name'),
    labels: fields.labels('Labels'),
    role: fields.choice('Role', ['worker', 'manager'], 'worker'),
    availability: fields.choice('Availability', ['active', 'pause', 'drain'], 'active'),
  };
}

/**
 * Why a service cannot go back to a specification that it had once: a network, secret or config was
 * removed, or another service has its port. The store would refuse most of it without end, and
 * nobody would read why.
 */
import { NODE_LOCAL_NETWORKS } from '../../model/defaults.ts';
import type { Service, ServiceSpec } from '../../model/types.ts';
import { portHolder } from '../placement/publishedPorts.ts';
import type { View } from '../store/types.ts';

/** '' = it can. */
export function obstacleTo(view: View, service: Service, spec: ServiceSpec): string {
  for (const { target } of spec.task.networks) {
    if (NODE_LOCAL_NETWORKS.includes(target) || view.get('network', target) !== undefined) continue;
    return `network ${target} not found`;
  }
  const { secrets, configs } = spec.task.container;
  for (const [table, references] of [['secret', secrets] as const, ['config', configs] as const]) {
    const gone = references.find(({ id }) => view.get(table, id) === undefined);
    if (gone !== undefined) return `${table} ${gone.name} not found`;
  }
  for (const port of spec.ports) {
    const holder = portHolder(view, service.id, port);
    if (holder === undefined) continue;
    const { publishedPort, protocol } = port;
    return `port ${publishedPort}/${protocol} is published by "${holder.spec.name}" now`;
  }
  return '';
}

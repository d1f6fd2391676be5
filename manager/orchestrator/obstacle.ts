/**
 * Why a service cannot go back to a specification that it had once: a network, secret or config was
 * removed, or another service has its port. The store would refuse it without end, and nobody would
 * read why.
 */
import { NODE_LOCAL_NETWORKS } from '../../model/defaults.ts';
import type { PortConfig, Service, ServiceSpec } from '../../model/types.ts';
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
  const wanted = new Set(spec.ports.map(portKey));
  wanted.delete('');
  for (const other of view.all('service')) {
    if (other.id === service.id) continue;
    const taken = [...other.spec.ports, ...other.ports].map(portKey).find((key) => wanted.has(key));
    if (taken !== undefined) return `port ${taken} is published by "${other.spec.name}" now`;
  }
  return '';
}

/** '8080/tcp'; '' for one that is not the cluster's, or not chosen yet. */
function portKey({ publishMode, publishedPort, protocol }: PortConfig): string {
  return publishMode === 'ingress' && publishedPort !== 0 ? `${publishedPort}/${protocol}` : '';
}

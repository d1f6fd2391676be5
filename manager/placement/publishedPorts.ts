/**
 * Who publishes a port in the cluster. A port through the ingress is every host's, so another
 * service can have it neither there nor on a host of its own. Reads services and decides nothing.
 */
import type { PortConfig, Service } from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** The service other than `serviceId` that has the port already; a port not chosen is nobody's. */
export function portHolder(view: View, serviceId: string, port: PortConfig): Service | undefined {
  if (port.publishedPort === 0) return undefined;
  for (const other of view.all('service')) {
    if (other.id === serviceId) continue;
    const has = [...other.spec.ports, ...other.ports].some(
      ({ protocol, publishedPort, publishMode }) =>
        protocol === port.protocol &&
        publishedPort === port.publishedPort &&
        (publishMode === 'ingress' || port.publishMode === 'ingress'),
    );
    if (has) return other;
  }
  return undefined;
}

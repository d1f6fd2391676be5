/**
 * A task as the store keeps it: the same fields as any task, in the least memory, as there may be a
 * million. Every record has one shape; what tasks have in common (ids of services, nodes, networks,
 * specifications, usual texts, empty lists) is shared; the times of phases rest packed in a text
 * and are an object only when read. Adds, drops and decides nothing.
 */
import { sameValue } from '../../model/equal.ts';
import { PackedStatus } from '../../model/packedStatus.ts';
import type {
  GenericResource,
  Labels,
  ObjectBase,
  PortConfig,
  Service,
  Task,
  TaskNetwork,
  TaskSpec,
} from '../../model/types.ts';
import type { Contents } from './contents.ts';

const NO_NETWORKS: readonly TaskNetwork[] = [];
const NO_PORTS: readonly PortConfig[] = [];
const NO_RESOURCES: readonly GenericResource[] = [];
const NO_ALIASES: readonly string[] = [];

/** `before`: what it takes the place of. */
export function taskRecord(
  contents: Contents,
  before: Task | undefined,
  after: Task,
  base: Omit<ObjectBase, 'id'>,
): Task {
  const service = contents.get('service', after.serviceId);
  return {
    id: before?.id ?? after.id,
    version: base.version,
    createdAtMs: base.createdAtMs,
    updatedAtMs: base.updatedAtMs,
    serviceId: service?.id ?? before?.serviceId ?? after.serviceId,
    serviceName: before?.serviceName ?? service?.spec.name ?? after.serviceName,
    slot: after.slot,
    generation: after.generation,
    nodeId: contents.get('node', after.nodeId)?.id ?? after.nodeId,
    spec: sharedSpec(contents, before, service, after.spec),
    serviceLabels: sharedLabels(before, service, after.serviceLabels),
    specVersion: after.specVersion,
    desiredState: after.desiredState,
    status: PackedStatus.of(contents.texts, after.status),
    networks: sharedNetworks(contents, before, after.networks),
    ports: after.ports.length === 0 ? NO_PORTS : after.ports,
    notBeforeMs: after.notBeforeMs,
    movedFrom: after.movedFrom,
    jobIteration: after.jobIteration,
    genericResources: after.genericResources.length === 0 ? NO_RESOURCES : after.genericResources,
  };
}

function sharedSpec(
  { equalSpecs }: Contents,
  before: Task | undefined,
  service: Service | undefined,
  spec: TaskSpec,
): TaskSpec {
  // A thousand tasks that were read one after another hold one specification: compared once.
  const found = equalSpecs.get(spec);
  if (found !== undefined && (found === before?.spec || found === service?.spec.task)) return found;
  const candidates = [before?.spec, service?.spec.task, service?.previousSpec?.task];
  const equal = candidates.find((known) => known !== undefined && sameValue(known, spec));
  if (equal !== undefined && equal !== spec) equalSpecs.set(spec, equal);
  return equal ?? spec;
}

function sharedLabels(before: Task | undefined, service: Service | undefined, labels: Labels) {
  const known = before?.serviceLabels;
  if (known !== undefined && sameValue(known, labels)) return known;
  const services = service?.spec.labels;
  return services !== undefined && sameValue(services, labels) ? services : labels;
}

function sharedNetworks(
  contents: Contents,
  before: Task | undefined,
  networks: readonly TaskNetwork[],
): readonly TaskNetwork[] {
  if (networks.length === 0) return NO_NETWORKS;
  if (before !== undefined && sameValue(before.networks, networks)) return before.networks;
  return networks.map(({ networkId, address, aliases }) => ({
    networkId: contents.get('network', networkId)?.id ?? networkId,
    address,
    aliases: aliases.length === 0 ? NO_ALIASES : aliases,
  }));
}

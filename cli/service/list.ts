/** service ls and inspect. */
import { filtersText } from '../client.ts';
import { type Context, forEachName, parseFilters } from '../context.ts';
import type { PortJson, ServiceJson } from '../docker.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
} from '../output/list.ts';
import { networkNames, prettyService } from './pretty.ts';

const ID_LENGTH = 12;

function modeOf(service: ServiceJson): string {
  const { Global, ReplicatedJob, GlobalJob } = service.Spec.Mode ?? {};
  if (ReplicatedJob !== undefined) return 'replicated job';
  if (GlobalJob !== undefined) return 'global job';
  return Global === undefined ? 'replicated' : 'global';
}

/** How many tasks of a job must end well. */
function completionsOf({ Spec, ServiceStatus }: ServiceJson): number {
  const { DesiredTasks = 0, CompletedTasks = 0 } = ServiceStatus ?? {};
  return Spec.Mode?.ReplicatedJob?.TotalCompletions ?? Math.max(DesiredTasks, CompletedTasks);
}

function replicasOf(service: ServiceJson): string {
  const status = service.ServiceStatus;
  const max = service.Spec.TaskTemplate.Placement?.MaxReplicas ?? 0;
  const limit = max === 0 ? '' : ` (max ${max} per node)`;
  const { ReplicatedJob, GlobalJob } = service.Spec.Mode ?? {};
  const done =
    ReplicatedJob === undefined && GlobalJob === undefined
      ? ''
      : ` (${status?.CompletedTasks ?? 0}/${completionsOf(service)} completed)`;
  return `${status?.RunningTasks ?? 0}/${status?.DesiredTasks ?? 0}${limit}${done}`;
}

function shortImage(image: string): string {
  return image.replace(/@sha256:[0-9a-f]+$/, '');
}

function portText(port: PortJson): string {
  return `${port.HostIP ?? '*'}:${port.PublishedPort ?? 0}->${port.TargetPort}/${port.Protocol}`;
}

const COLUMNS: readonly Column<ServiceJson>[] = [
  { header: 'ID', field: 'ID', value: (item) => item.ID.slice(0, ID_LENGTH) },
  { header: 'NAME', field: 'Name', value: (item) => item.Spec.Name },
  { header: 'MODE', field: 'Mode', value: modeOf },
  { header: 'REPLICAS', field: 'Replicas', value: replicasOf },
  {
    header: 'IMAGE',
    field: 'Image',
    value: (item) => shortImage(item.Spec.TaskTemplate.ContainerSpec.Image),
  },
  {
    header: 'PORTS',
    field: 'Ports',
    value: (item) =>
      (item.Endpoint.Ports ?? [])
        .filter((port) => port.PublishMode === 'ingress')
        .map(portText)
        .join(', '),
  },
];

export async function listServices(
  context: Context,
  flags: ListOptions & { readonly filter?: readonly string[] },
): Promise<void> {
  const query = { status: true, filters: filtersText(parseFilters(flags.filter)) };
  printServices(context, await context.client.get<ServiceJson[]>('/services', query), flags);
}

export function printServices(
  context: Context,
  found: readonly ServiceJson[],
  flags: ListOptions,
): void {
  const services = [...found];
  const collator = new Intl.Collator('en', { numeric: true });
  services.sort((left, right) => collator.compare(left.Spec.Name, right.Spec.Name));
  printList(context, services, COLUMNS, flags, (item) => item.ID.slice(0, ID_LENGTH));
}

export async function inspectServices(
  context: Context,
  names: readonly string[],
  flags: InspectFlags,
): Promise<void> {
  const services: ServiceJson[] = [];
  await forEachName(context, names, async (name) => {
    const path = `/services/${encodeURIComponent(name)}`;
    services.push(await context.client.get<ServiceJson>(path));
  });
  if (flags.pretty !== true || flags.json === true) {
    printObjects(context, services, flags);
    return;
  }
  const nowMs = context.clock.wallMs();
  for (const service of services) {
    const networks = await networkNames(context, service);
    context.out.write(`${prettyService(service, networks, nowMs)}\n`);
  }
}

/** stack ls, ps, services and rm: what there is of a stack, found by docker's label. */
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import { type Context, forEachName, parseFilters, patiently } from '../context.ts';
import type { FileObjectJson, NetworkJson, ServiceJson, TaskJson } from '../docker.ts';
import { type ListOptions, printList } from '../output/list.ts';
import { printServices } from '../service/list.ts';
import { removeServices } from '../service/write.ts';
import { printTasks } from '../tasks.ts';
import { checkStackName, stackFilter, stackServices } from './deploy.ts';
import { NAMESPACE_LABEL } from './names.ts';

interface Stack {
  readonly Name: string;
  readonly Services: number;
}

export async function listStacks(context: Context, options: ListOptions): Promise<void> {
  const query = { filters: filtersText({ label: [NAMESPACE_LABEL] }) };
  const services = await context.client.get<ServiceJson[]>('/services', query);
  const counts = new Map<string, number>();
  for (const service of services) {
    const name = service.Spec.Labels?.[NAMESPACE_LABEL] ?? '';
    if (name !== '') counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const collator = new Intl.Collator('en', { numeric: true });
  const stacks = [...counts]
    .map(([Name, Services]): Stack => ({ Name, Services }))
    .sort((left, right) => collator.compare(left.Name, right.Name));
  const columns = [
    { header: 'NAME', field: 'Name', value: (row: Stack) => row.Name },
    { header: 'SERVICES', field: 'Services', value: (row: Stack) => String(row.Services) },
  ];
  printList(context, stacks, columns, options, (row) => row.Name);
}

type Filters = { readonly filter?: readonly string[] };

/** The filters asked for, and the stack's. */
function within(stack: string, flags: Filters): string | undefined {
  const asked = parseFilters(flags.filter);
  const label = [...(asked.label ?? []), `${NAMESPACE_LABEL}=${stack}`];
  return filtersText({ ...asked, label });
}

export async function stackServiceList(
  context: Context,
  stack: string,
  flags: ListOptions & Filters,
): Promise<void> {
  checkStackName(stack);
  const query = { status: true, filters: within(stack, flags) };
  const services = await context.client.get<ServiceJson[]>('/services', query);
  if (services.length === 0 && flags.json !== true) {
    context.err.write(`Nothing found in stack: ${stack}\n`);
    return;
  }
  printServices(context, services, flags);
}

export async function stackPs(
  context: Context,
  stack: string,
  flags: ListOptions & Filters & { readonly resolve: boolean; readonly trunc: boolean },
): Promise<void> {
  checkStackName(stack);
  const query = { filters: within(stack, flags) };
  const tasks = await context.client.get<TaskJson[]>('/tasks', query);
  if (tasks.length === 0) throw new SwarmError('not_found', `nothing found in stack: ${stack}`);
  await printTasks(context, tasks, { ...flags, noTrunc: !flags.trunc, noResolve: !flags.resolve });
}

/** A network is free when the last task on it has stopped. */
const NETWORK_LIMIT_MS = 60_000;
const NETWORK_POLL_MS = 100;

/** Services, secrets, configs, networks, in this order; then waits until the tasks have stopped. */
export async function removeStacks(
  context: Context,
  names: readonly string[],
  detach: boolean,
): Promise<void> {
  for (const name of names) checkStackName(name);
  for (const name of names) await removeStack(context, name, detach);
}

async function removeStack(context: Context, stack: string, detach: boolean): Promise<void> {
  const { client, out, err } = context;
  const query = { filters: stackFilter(stack) };
  const [services, secrets, configs, networks] = await Promise.all([
    stackServices(context, stack),
    client.get<FileObjectJson[]>('/secrets', query),
    client.get<FileObjectJson[]>('/configs', query),
    client.get<NetworkJson[]>('/networks', query),
  ]);
  if (services.length + secrets.length + configs.length + networks.length === 0) {
    err.write(`Nothing found in stack: ${stack}\n`);
    return;
  }
  const ids = services.map((service) => service.ID);
  const line = (service: ServiceJson): string => `Removing service ${service.Spec.Name}\n`;
  for (const service of services) {
    out.write(line(service));
    await client.delete(`/services/${service.ID}`);
  }
  const objects = [
    ...secrets.map((item) => ['secret', item] as const),
    ...configs.map((item) => ['config', item] as const),
  ];
  await forEachName(
    context,
    objects.map((_, at) => String(at)),
    async (at) => {
      const [kind, { ID, Spec }] = objects[Number(at)];
      out.write(`Removing ${kind} ${Spec.Name}\n`);
      await client.delete(`/${kind}s/${ID}`);
    },
  );
  await forEachName(
    context,
    networks.map((network) => network.Name),
    async (name) => {
      const network = networks.find((item) => item.Name === name) as NetworkJson;
      out.write(`Removing network ${name}\n`);
      await removeNetwork(context, network);
    },
  );
  if (!detach) await removeServices(context, [], false, ids);
}

/** Tasks that are still stopping hold a network: tried again until they have. */
async function removeNetwork(context: Context, network: NetworkJson): Promise<void> {
  const endMs = context.clock.nowMs() + NETWORK_LIMIT_MS;
  for (;;) {
    try {
      await patiently(context, () => context.client.delete(`/networks/${network.Id}`));
      return;
    } catch (error) {
      const gone = error instanceof SwarmError && error.code === 'not_found';
      if (gone) return;
      const inUse = error instanceof SwarmError && /in use|active endpoints/.test(error.message);
      if (!inUse || context.clock.nowMs() > endMs || context.signal.aborted) throw error;
    }
    await context.clock.sleep(NETWORK_POLL_MS);
  }
}

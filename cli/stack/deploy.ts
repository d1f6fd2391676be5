/**
 * stack deploy: makes what a stack file says true. Networks, secrets and configs first, then
 * services in the order of depends_on; what exists is updated. Everything is read, converted and
 * checked before the first thing is changed.
 */
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import { type Context, orUndefined, patiently } from '../context.ts';
import type { FileObjectJson, NetworkJson, ServiceJson, ServiceSpecJson } from '../docker.ts';
import { authHeader, credentialsFor } from '../registryAuth.ts';
import { fillFileIds } from '../service/fileIds.ts';
import { pinned, tagged } from '../service/pinned.ts';
import { waitForService } from '../service/progress.ts';
import { convertFileObject, convertNetworks, convertServices, type Named } from './convert.ts';
import { contentOf, type LoadedStack } from './load.ts';
import { IMAGE_LABEL, NAMESPACE_LABEL } from './names.ts';
import { deployOrder } from './order.ts';
import { together } from './read.ts';

export type ResolveImage = 'always' | 'changed' | 'never';

export interface DeployOptions {
  readonly prune: boolean;
  readonly detach: boolean;
  readonly quiet: boolean;
  readonly resolveImage: ResolveImage;
  readonly withRegistryAuth: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const HOST_NETWORKS = new Set(['host', 'none', 'bridge']);

export function checkStackName(name: string): void {
  if (NAME.test(name)) return;
  const how = 'use letters, digits, "-", "_" and ".", beginning with a letter or digit';
  throw new SwarmError('invalid', `invalid stack name "${name}": ${how}`);
}

export async function deployStack(
  context: Context,
  stack: string,
  loaded: LoadedStack,
  options: DeployOptions,
): Promise<void> {
  const { file } = loaded;
  const [order, networks, services] = together(
    () => deployOrder(file),
    () => convertNetworks(stack, file),
    () => convertServices(stack, file),
  );
  const secrets = await fileObjects(stack, loaded, 'secrets');
  const configs = await fileObjects(stack, loaded, 'configs');
  for (const name of networks.external) await mustExist(context, name);
  const existing = await stackServices(context, stack);
  await updateExisting(context, secrets, configs);
  if (options.prune) await prune(context, existing, services);
  await createNetworks(context, stack, networks.create, options.quiet);
  for (const [body, data] of secrets) await putFileObject(context, 'secret', body, data, options);
  for (const [body, data] of configs) await putFileObject(context, 'config', body, data, options);
  await fillFileIds(context, [...services.values()]);
  const deployed = new Map<string, { readonly id: string; readonly before?: ServiceJson }>();
  for (const { key, waitsFor } of order) {
    const spec = services.get(key) as ServiceSpecJson;
    if (!options.detach) {
      for (const name of waitsFor) {
        const first = deployed.get(name);
        if (first === undefined) continue;
        await waitForService(context, first.id, { quiet: true, before: first.before });
        if (context.exitCode !== 0) return;
      }
    }
    const before = existing.find((item) => item.Spec.Name === spec.Name);
    const id = await putService(context, spec, before, options);
    deployed.set(key, { id, before });
  }
  if (options.detach) return;
  for (const { id, before } of deployed.values()) {
    await waitForService(context, id, { quiet: options.quiet, before, named: true });
  }
}

type FileObjects = readonly (readonly [Named, Buffer])[];

/** Those of the file that are not external, with what they hold. */
async function fileObjects(
  stack: string,
  { file, variables }: LoadedStack,
  section: 'secrets' | 'configs',
): Promise<FileObjects> {
  const out: [Named, Buffer][] = [];
  for (const [key, object] of Object.entries(file[section])) {
    if (object.external === true) continue;
    const data = await contentOf(object, `${section}.${key}`, variables);
    out.push([convertFileObject(stack, key, object), data]);
  }
  return out;
}

async function mustExist(context: Context, name: string): Promise<void> {
  if (HOST_NETWORKS.has(name)) return;
  const network = await orUndefined(
    context.client.get<NetworkJson>(`/networks/${encodeURIComponent(name)}`),
  );
  const make = `"tsswarm network create ${name}"`;
  if (network === undefined) {
    throw new SwarmError('not_found', `the external network ${name} does not exist: ${make} first`);
  }
  if (network.Scope !== 'swarm') {
    throw new SwarmError(
      'invalid',
      `the external network ${name} is of this host only; services need one of the swarm`,
    );
  }
}

/** Before anything is made or removed: what exists of them must hold what the file says. */
async function updateExisting(
  context: Context,
  secrets: FileObjects,
  configs: FileObjects,
): Promise<void> {
  for (const [kind, objects] of [
    ['secret', secrets],
    ['config', configs],
  ] as const) {
    for (const [body, data] of objects) {
      const existing = await fileObject(context, kind, body.Name);
      if (existing !== undefined) await updateFileObject(context, kind, existing, body, data);
    }
  }
}

export function stackFilter(stack: string): string | undefined {
  return filtersText({ label: [`${NAMESPACE_LABEL}=${stack}`] });
}

export function stackServices(context: Context, stack: string): Promise<ServiceJson[]> {
  const query = { filters: stackFilter(stack), status: true };
  return patiently(context, () => context.client.get<ServiceJson[]>('/services', query));
}

async function prune(
  context: Context,
  existing: readonly ServiceJson[],
  services: ReadonlyMap<string, ServiceSpecJson>,
): Promise<void> {
  const wanted = new Set([...services.values()].map((spec) => spec.Name));
  for (const service of existing.filter((item) => !wanted.has(item.Spec.Name))) {
    context.out.write(`Removing service ${service.Spec.Name}\n`);
    await context.client.delete(`/services/${service.ID}`);
  }
}

async function createNetworks(
  context: Context,
  stack: string,
  wanted: readonly Named[],
  quiet: boolean,
): Promise<void> {
  const query = { filters: stackFilter(stack) };
  const existing = await context.client.get<NetworkJson[]>('/networks', query);
  const names = new Set(existing.map((network) => network.Name));
  for (const body of wanted) {
    if (names.has(body.Name)) continue;
    if (!quiet) context.out.write(`Creating network ${body.Name}\n`);
    await context.client.post('/networks/create', body);
  }
}

/** Those that exist have been taken up by then. */
async function putFileObject(
  context: Context,
  kind: 'secret' | 'config',
  body: Named,
  data: Buffer,
  options: DeployOptions,
): Promise<void> {
  const { client, out } = context;
  if ((await fileObject(context, kind, body.Name)) !== undefined) return;
  if (!options.quiet) out.write(`Creating ${kind} ${body.Name}\n`);
  await client.post(`/${kind}s/create`, { ...body, Data: data.toString('base64') });
}

function fileObject(
  { client }: Context,
  kind: 'secret' | 'config',
  name: string,
): Promise<FileObjectJson | undefined> {
  return orUndefined(client.get<FileObjectJson>(`/${kind}s/${encodeURIComponent(name)}`));
}

/** Only labels change; the daemon refuses other content, and compares a secret's, too. */
async function updateFileObject(
  { client }: Context,
  kind: 'secret' | 'config',
  existing: FileObjectJson,
  body: Named,
  data: Buffer,
): Promise<void> {
  const Data = data.toString('base64');
  try {
    const query = { version: existing.Version.Index };
    await client.post(`/${kind}s/${existing.ID}/update`, { ...body, Data }, query);
  } catch (error) {
    if (!(error instanceof SwarmError) || !/only updates to Labels/i.test(error.message)) {
      throw error;
    }
    throw new SwarmError(
      'invalid',
      `the ${kind} ${body.Name} exists with other content, and content never changes: ` +
        `give it another name in the file (${kind}s.KEY.name)`,
      { cause: error },
    );
  }
}

/** Creates or updates a service; its id. */
async function putService(
  context: Context,
  spec: ServiceSpecJson,
  before: ServiceJson | undefined,
  options: DeployOptions,
): Promise<string> {
  const { client, out } = context;
  const container = spec.TaskTemplate.ContainerSpec;
  const credentials = options.withRegistryAuth ? await credentialsFor(container.Image) : undefined;
  const headers = authHeader(credentials);
  const isSame = before?.Spec.Labels?.[IMAGE_LABEL] === container.Image;
  const isAsked = options.resolveImage !== 'never';
  if (before !== undefined && isSame && options.resolveImage !== 'always') {
    container.Image = before.Spec.TaskTemplate.ContainerSpec.Image;
  } else {
    container.Image = tagged(isAsked ? await pinned(context, container.Image) : container.Image);
  }
  if (before === undefined) {
    if (!options.quiet) out.write(`Creating service ${spec.Name}\n`);
    const made = await client.json<{ ID: string }>('POST', '/services/create', {
      body: spec,
      headers,
    });
    return made.ID;
  }
  if (!options.quiet) out.write(`Updating service ${spec.Name} (id: ${before.ID})\n`);
  spec.TaskTemplate.ForceUpdate = before.Spec.TaskTemplate.ForceUpdate ?? 0;
  await client.json('POST', `/services/${before.ID}/update`, {
    body: spec,
    headers,
    query: {
      version: before.Version.Index,
      registryAuthFrom: 'spec',
    },
  });
  return before.ID;
}

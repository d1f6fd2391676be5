/** create, update, rollback, scale, rm: what changes a service, and the wait for it. */
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import { type Context, EXIT_ERROR, forEachName, patiently } from '../context.ts';
import type {
  ModeJson,
  NetworkJson,
  NodeJson,
  ServiceJson,
  ServiceSpecJson,
  TaskJson,
} from '../docker.ts';
import { authHeader, credentialsFor } from '../registryAuth.ts';
import { fillFileIds } from './fileIds.ts';
import { applyCreateLists, applyUpdateLists } from './lists.ts';
import { splitCommand } from './parse.ts';
import { pinned } from './pinned.ts';
import { waitForService } from './progress.ts';
import { applyScalars } from './scalars.ts';

type Flags = Readonly<Record<string, unknown>>;

const RETRIES = 5;

export function getService(context: Context, name: string): Promise<ServiceJson> {
  return context.client.get<ServiceJson>(`/services/${encodeURIComponent(name)}`);
}

const MODES: Readonly<Record<string, ModeJson>> = {
  replicated: { Replicated: {} },
  global: { Global: {} },
  'replicated-job': { ReplicatedJob: {} },
  'global-job': { GlobalJob: {} },
};

export async function createService(
  context: Context,
  image: string,
  args: readonly string[],
  flags: Flags,
): Promise<void> {
  const mode = String(flags.mode);
  if (!Object.hasOwn(MODES, mode)) {
    const known = Object.keys(MODES).join(', ');
    throw new SwarmError('invalid', `--mode ${mode} is unknown: use one of ${known}`);
  }
  const spec: ServiceSpecJson = {
    Name: typeof flags.name === 'string' ? flags.name : '',
    TaskTemplate: {
      ContainerSpec: { Image: image, ...(args.length === 0 ? {} : { Args: [...args] }) },
      ForceUpdate: 0,
    },
    EndpointSpec: { Mode: 'vip' },
    Mode: structuredClone(MODES[mode]),
  };
  applyScalars(spec, flags);
  applyCreateLists(spec, flags);
  if (flags.resolveImage !== false) {
    spec.TaskTemplate.ContainerSpec.Image = await pinned(context, image);
  }
  await fillFileIds(context, [spec]);
  const created = await context.client.json<{ ID: string }>('POST', '/services/create', {
    body: spec,
    headers: await authFor(flags, image),
  });
  context.out.write(`${created.ID}\n`);
  if (flags.detach !== true)
    await waitForService(context, created.ID, { quiet: flags.quiet === true });
}

/** The header that gives the hosts what they pull with, where it is wanted. */
async function authFor(flags: Flags, image: string): Promise<Record<string, string>> {
  return flags.withRegistryAuth === true ? authHeader(await credentialsFor(image)) : {};
}

/** Reads, changes and writes; again when somebody else was faster. */
async function change(
  context: Context,
  name: string,
  query: Readonly<Record<string, string>>,
  edit: (spec: ServiceSpecJson) => Promise<void>,
  flags: Flags = {},
): Promise<ServiceJson> {
  for (let attempt = 1; ; attempt += 1) {
    const service = await getService(context, name);
    const spec = structuredClone(service.Spec);
    await edit(spec);
    try {
      const full = { version: service.Version.Index, ...query };
      await context.client.json('POST', `/services/${service.ID}/update`, {
        body: spec,
        query: full,
        headers: await authFor(flags, spec.TaskTemplate.ContainerSpec.Image),
      });
      return service;
    } catch (error) {
      const stale = error instanceof SwarmError && error.message.includes('out of sequence');
      if (!stale || attempt === RETRIES) throw error;
    }
  }
}

export async function updateService(context: Context, name: string, flags: Flags): Promise<void> {
  const resolved = await withNetworkIds(context, flags);
  const image = typeof flags.image === 'string' ? flags.image : undefined;
  const edit = async (spec: ServiceSpecJson): Promise<void> => {
    const task = spec.TaskTemplate;
    applyScalars(spec, resolved);
    applyUpdateLists(spec, resolved);
    if (typeof flags.args === 'string') task.ContainerSpec.Args = splitCommand(flags.args);
    if (flags.force === true) task.ForceUpdate = (task.ForceUpdate ?? 0) + 1;
    if (image !== undefined) {
      const exact = flags.resolveImage === false ? image : await pinned(context, image);
      task.ContainerSpec.Image = exact;
    }
    await fillFileIds(context, [spec]);
  };
  const service = await change(context, name, {}, edit, flags);
  context.out.write(`${name}\n`);
  if (flags.detach === true) return;
  await waitForService(context, service.ID, { quiet: flags.quiet === true, before: service });
}

/** A stored service names its networks by id, so names to add or remove become ids first. */
async function withNetworkIds(context: Context, flags: Flags): Promise<Flags> {
  const out: Record<string, unknown> = { ...flags };
  for (const key of ['networkAdd', 'networkRm']) {
    const texts = flags[key] as readonly string[] | undefined;
    if (texts === undefined) continue;
    out[key] = await Promise.all(
      texts.map(async (text) => {
        const name = /(?:^|,)name=([^,]+)/.exec(text)?.[1] ?? text;
        const path = `/networks/${encodeURIComponent(name)}`;
        const found = await context.client.get<NetworkJson>(path);
        const id = found.Scope === 'swarm' ? found.Id : found.Name;
        return text === name ? id : text.replace(`name=${name}`, `name=${id}`);
      }),
    );
  }
  return out;
}

export async function rollbackService(context: Context, name: string, flags: Flags): Promise<void> {
  const service = await change(context, name, { rollback: 'previous' }, async () => {});
  context.out.write(`${name}\n`);
  if (flags.detach === true) return;
  const quiet = flags.quiet === true;
  await waitForService(context, service.ID, { quiet, before: service, rollback: true });
}

/** 'web=3' texts; all are checked before any is changed, and waited for after all are. */
export async function scaleServices(
  context: Context,
  texts: readonly string[],
  detach: boolean,
): Promise<void> {
  const wanted = texts.map((text): readonly [string, number] => {
    const match = /^([^=]+)=(\d+)$/.exec(text);
    if (match === null) {
      throw new SwarmError(
        'invalid',
        `invalid scale "${text}": write SERVICE=REPLICAS, e.g. web=3`,
      );
    }
    return [match[1], Number(match[2])];
  });
  const changed: ServiceJson[] = [];
  for (const [name, replicas] of wanted) {
    try {
      const service = await change(context, name, {}, async (spec) => {
        if (spec.Mode?.Global !== undefined || spec.Mode?.GlobalJob !== undefined) {
          throw new SwarmError('invalid', `${name} is global: it has one task on each host`);
        }
        if (spec.Mode?.ReplicatedJob !== undefined) {
          spec.Mode.ReplicatedJob.TotalCompletions = replicas;
          return;
        }
        spec.Mode = { Replicated: { Replicas: replicas } };
      });
      changed.push(service);
      context.out.write(`${name} scaled to ${replicas}\n`);
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      context.err.write(`tsswarm: ${error.message}\n`);
      context.exitCode = EXIT_ERROR;
    }
  }
  if (detach) return;
  for (const before of changed) await waitForService(context, before.ID, { quiet: false, before });
}

/** How long no task of a removed service may end; the grace period is 10 s by default. */
const STOP_LIMIT_MS = 60_000;
const STOP_POLL_MS = 100;

/**
 * Removes services and waits until none of their tasks runs, but for those on hosts down; also for
 * those of services that were `removed` before, by id.
 */
export async function removeServices(
  context: Context,
  names: readonly string[],
  detach: boolean,
  removed: readonly string[] = [],
): Promise<void> {
  const ids = [...removed];
  await forEachName(context, names, async (name) => {
    const service = await getService(context, name);
    await context.client.delete(`/services/${service.ID}`);
    ids.push(service.ID);
    context.out.write(`${name}\n`);
  });
  if (detach || ids.length === 0) return;
  const { clock } = context;
  let left = Infinity;
  let movedMs = clock.nowMs();
  while (left > 0) {
    if (context.signal.aborted) {
      throw new SwarmError('cancelled', 'interrupted; the tasks are stopped in the background');
    }
    const now = await patiently(context, () => countStopping(context, ids));
    if (now < left) movedMs = clock.nowMs();
    left = now;
    if (clock.nowMs() - movedMs > STOP_LIMIT_MS) {
      throw new SwarmError(
        'timeout',
        `${left} tasks are still stopping; "tsswarm node ps" shows them`,
      );
    }
    if (left > 0) await clock.sleep(STOP_POLL_MS);
  }
}

const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'orphaned', 'remove']);

async function countStopping(context: Context, ids: readonly string[]): Promise<number> {
  const { client } = context;
  const filters = filtersText({ service: ids });
  const [tasks, nodes] = await Promise.all([
    client.get<TaskJson[]>('/tasks', { filters }),
    client.get<NodeJson[]>('/nodes'),
  ]);
  const down = new Set(nodes.filter((node) => node.Status.State === 'down').map((node) => node.ID));
  return tasks.filter((task) => !ENDED.has(task.Status.State) && !down.has(task.NodeID ?? ''))
    .length;
}

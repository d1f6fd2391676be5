/**
 * Ids of the secrets and configs that specifications name: one look-up of each kind for all of
 * them.
 */
import { SwarmError } from '../../base/errors.ts';
import { filtersText } from '../client.ts';
import type { Context } from '../context.ts';
import type { FileObjectJson, ServiceSpecJson } from '../docker.ts';

/** Services name secrets and configs by name; the API wants their ids beside. */
export async function fillFileIds(
  context: Context,
  specs: readonly ServiceSpecJson[],
): Promise<void> {
  const containers = specs.map((spec) => spec.TaskTemplate.ContainerSpec);
  const ids = async (kind: string, names: readonly string[]): Promise<Map<string, string>> => {
    if (names.length === 0) return new Map();
    const query = { filters: filtersText({ name: [...new Set(names)] }) };
    const found = await context.client.get<FileObjectJson[]>(`/${kind}s`, query);
    return new Map(found.map((item) => [item.Spec.Name, item.ID]));
  };
  const secrets = containers
    .flatMap((item) => item.Secrets ?? [])
    .filter((use) => use.SecretID === '');
  const configs = containers
    .flatMap((item) => item.Configs ?? [])
    .filter((use) => use.ConfigID === '');
  const secretIds = await ids(
    'secret',
    secrets.map((use) => use.SecretName),
  );
  for (const use of secrets) use.SecretID = known('secret', use.SecretName, secretIds);
  const configIds = await ids(
    'config',
    configs.map((use) => use.ConfigName),
  );
  for (const use of configs) use.ConfigID = known('config', use.ConfigName, configIds);
}

function known(kind: string, name: string, ids: ReadonlyMap<string, string>): string {
  const id = ids.get(name);
  if (id !== undefined) return id;
  const make = `"tsswarm ${kind} create ${name} FILE"`;
  throw new SwarmError('not_found', `the ${kind} ${name} does not exist: ${make} first`);
}

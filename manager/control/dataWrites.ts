/**
 * The writes of secrets and configs, as the leader decides them: what a request may say, what a new
 * object is, and the ids behind the references of a service. Proposing is writes.ts's; no data ever
 * stands in a message.
 */
import { SwarmError } from '../../base/errors.ts';
import { invalid } from '../../model/checks.ts';
import { validateDataSpec } from '../../model/data.ts';
import { sameValue } from '../../model/equal.ts';
import type {
  Config,
  ContainerSpec,
  DataSpec,
  DataTable,
  FileReference,
  Secret,
} from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** SwarmError invalid or conflict. */
export function newData(view: View, table: DataTable, id: string, spec: DataSpec): Secret | Config {
  validateDataSpec(table, spec);
  // Said here in Docker's words; the store refuses it whatever this view has missed.
  if (view.byName(table, spec.name) !== undefined) {
    throw new SwarmError('conflict', `${table} ${spec.name} already exists`);
  }
  return { id, version: 0, createdAtMs: 0, updatedAtMs: 0, spec };
}

/** `now` with the labels of `spec`; data that is given must be what is there. */
export function relabelled(table: DataTable, now: Secret | Config, spec: DataSpec): Secret {
  const sameName = spec.name === '' || spec.name === now.spec.name;
  const sameData = spec.data.length === 0 || sameValue(spec.data, now.spec.data);
  const sameWay = spec.templating === '' || spec.templating === now.spec.templating;
  if (!sameName || !sameData || !sameWay) throw invalid('only updates to Labels are allowed');
  const after = { ...now.spec, labels: spec.labels };
  validateDataSpec(table, after);
  return { ...now, spec: after };
}

/** The container with its secrets and configs by id and name. SwarmError invalid when unknown. */
export function resolveReferences(view: View, container: ContainerSpec): ContainerSpec {
  const resolve = (table: DataTable, reference: FileReference): FileReference => {
    const { id, name } = reference;
    const found = id === '' ? view.byName(table, name) : view.get(table, id);
    if (found === undefined) {
      throw invalid(
        `${table} not found: ${name || id}: create it first ("docker ${table} create")`,
      );
    }
    return { ...reference, id: found.id, name: found.spec.name };
  };
  return {
    ...container,
    secrets: container.secrets.map((item) => resolve('secret', item)),
    configs: container.configs.map((item) => resolve('config', item)),
  };
}

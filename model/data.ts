/**
 * Secrets and configs as users ask for them: what a specification and a reference may say, and
 * where in a container the file of a reference is. Docker's words and bounds where it has them.
 */
import { isAbsolute, join } from 'node:path/posix';
import { KIB } from '../base/bytes.ts';
import { checkLabels, checkWhole, invalid } from './checks.ts';
import type { ContainerSpec, DataSpec, DataTable, FileReference } from './types.ts';

export const DATA_BYTES_MAX: Readonly<Record<DataTable, number>> = {
  secret: 500 * KIB,
  config: 1000 * KIB,
};
export const SECRETS_DIRECTORY = '/run/secrets';
const NAME = /^[a-zA-Z0-9]+(?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?$/;
const NAME_LENGTH = 64;
const OWNER = /^\d{1,10}$/;
const OWNER_MAX = 0xffff_fffe;
/** Each is a mount or a file in every task's container. */
const REFERENCES_MAX = 500;

export function validateDataSpec(table: DataTable, spec: DataSpec): void {
  if (!NAME.test(spec.name) || spec.name.length > NAME_LENGTH) {
    throw invalid(
      'invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character ' +
        'must be [a-zA-Z0-9]',
    );
  }
  checkLabels(table, spec.labels);
  const most = DATA_BYTES_MAX[table];
  if (spec.data.length === 0 || spec.data.length > most) {
    throw invalid(`${table} data must be larger than 0 and less than ${most} bytes`);
  }
}

/** Absolute path in the container, without '.' and doubled slashes. */
export function targetPath(table: DataTable, target: string): string {
  return isAbsolute(target)
    ? join(target)
    : join(table === 'secret' ? SECRETS_DIRECTORY : '/', target);
}

/** References to secrets and configs: each a file of its own, at a path that can be. */
export function validateReferences(container: ContainerSpec): void {
  const owners = new Map<string, string>();
  for (const mount of container.mounts) owners.set(join(`${mount.target}/`), 'a mount');
  for (const table of ['secret', 'config'] as const) {
    const references = table === 'secret' ? container.secrets : container.configs;
    if (references.length > REFERENCES_MAX) {
      throw invalid(`${references.length} ${table}s: a service has at most ${REFERENCES_MAX}`);
    }
    for (const reference of references) {
      checkReference(table, reference);
      const path = targetPath(table, reference.target);
      const owner = owners.get(`${path}/`);
      if (owner !== undefined) {
        throw invalid(
          `${table} references '${owner}' and '${reference.name}' have a conflicting target: ` +
            `'${reference.target}'`,
        );
      }
      owners.set(`${path}/`, reference.name);
    }
  }
}

function checkReference(table: DataTable, reference: FileReference): void {
  const { id, name, target, uid, gid, mode } = reference;
  if (id === '' && name === '') throw invalid(`malformed ${table} reference: it names no ${table}`);
  const parts = target.split('/');
  if (target === '' || target.endsWith('/') || target.includes('\0') || parts.includes('..')) {
    throw invalid(
      `malformed file target "${target}" of ${table} ${name}: use the path of a file without ".."`,
    );
  }
  for (const [what, owner] of Object.entries({ uid, gid })) {
    if (OWNER.test(owner) && Number(owner) <= OWNER_MAX) continue;
    throw invalid(`invalid ${what} "${owner}" of ${table} ${name}: use a number`);
  }
  checkWhole(`mode of ${table} ${name}`, mode, 0, 0o7777);
}

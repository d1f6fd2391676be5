/**
 * Secrets and configs as Docker's JSON, and how a container refers to them, both ways. A config's
 * data is shown, as Docker shows it; a secret's never.
 */
import { SwarmError } from '../../../base/errors.ts';
import type { Config, DataSpec, DataTable, FileReference, Secret } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { metaOf } from './common.ts';

export function secretToDocker({ spec, ...secret }: Secret): object {
  return { ...metaOf({ ...secret }), Spec: { Name: spec.name, Labels: spec.labels, ...way(spec) } };
}

export function configToDocker({ spec, ...config }: Config): object {
  const Data = Buffer.from(spec.data).toString('base64');
  return {
    ...metaOf({ ...config }),
    Spec: { Name: spec.name, Labels: spec.labels, Data, ...way(spec) },
  };
}

function way({ templating }: DataSpec): object {
  return templating === '' ? {} : { Templating: { Name: templating } };
}

/** The body of /secrets/create and the like. */
export function dataSpecFromDocker(fields: Fields): DataSpec {
  fields.refuse('Driver');
  const templating = fields.objectOrEmpty('Templating');
  const driver = templating.text('Name');
  if (driver !== '' && driver !== 'golang') templating.refused('Name', 'use golang');
  templating.refuse('Options');
  return {
    name: fields.text('Name'),
    labels: fields.labels('Labels'),
    data: bytesOf(fields),
    templating: driver === 'golang' ? 'golang' : '',
  };
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function bytesOf(fields: Fields): Uint8Array {
  const text = fields.text('Data').replace(/[\r\n]/g, '');
  if (BASE64.test(text)) return Buffer.from(text, 'base64');
  throw new SwarmError('invalid', `${fields.at('Data')} is not base64`);
}

export function referenceToDocker(table: DataTable, item: FileReference): object {
  const File = { Name: item.target, UID: item.uid, GID: item.gid, Mode: item.mode };
  return table === 'secret'
    ? { File, SecretID: item.id, SecretName: item.name }
    : { File, ConfigID: item.id, ConfigName: item.name };
}

export function referenceFromDocker(table: DataTable, fields: Fields): FileReference {
  if (fields.has('Runtime')) fields.refused('Runtime', 'give the config a File');
  const file = fields.object('File');
  if (file === undefined) {
    throw new SwarmError(
      'invalid',
      `malformed ${table} reference: ${fields.at('File')} is missing`,
    );
  }
  const kind = table === 'secret' ? 'Secret' : 'Config';
  return {
    id: fields.text(`${kind}ID`),
    name: fields.text(`${kind}Name`),
    target: file.text('Name'),
    uid: file.text('UID', '0'),
    gid: file.text('GID', '0'),
    mode: file.whole('Mode', 0),
  };
}

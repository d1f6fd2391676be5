/**
 * One stack file as a whole: the sections of the top, and the version. Takes what YAML gave, with
 * variables already replaced, and returns the long form. Never reads a file.
 */
import { resolve } from 'node:path';
import type { Notes, Reader } from './read.ts';
import * as read from './read.ts';
import { serviceReader } from './service.ts';
import type { StackFile, StackFileObject, StackNetwork, StackVolume } from './types.ts';

/** 'external: true', or the old 'external: {name: x}' -> true, and the name. */
interface External {
  readonly external?: boolean | string;
  readonly name?: string;
}

const external: Reader<boolean | string> = (value, path, notes) => {
  if (typeof value !== 'object') return read.flag(value, path, notes);
  return read.object<{ name: string }>({ name: read.text })(value, path, notes).name ?? true;
};

/** What an external object may say beside its name: nothing, since it exists already. */
function settled<T extends External>(value: T, path: string, key: string): T {
  if (value.external === undefined || value.external === false) {
    const { external: _, ...rest } = value;
    return rest as T;
  }
  const extra = Object.keys(value).find((name) => name !== 'external' && name !== 'name');
  if (extra !== undefined) {
    throw read.wrong(`${path}.${extra}`, 'what is external exists already: leave this out');
  }
  if (typeof value.external === 'string' && value.name !== undefined) {
    throw read.wrong(`${path}.external.name`, 'name is given twice');
  }
  const name = typeof value.external === 'string' ? value.external : (value.name ?? key);
  return { name, external: true } as T;
}

/** A section of the top: names and objects, of which an empty one is {}. */
function section<T extends External>(one: Reader<T>): Reader<Record<string, T>> {
  return (value, path, notes) =>
    read.eachOf(value, path, (item, at, key) => settled(one(item ?? {}, at, notes), at, key));
}

type Loose<T> = Omit<T, 'external'> & External;

const network = read.object<Loose<StackNetwork>>({
  name: read.text,
  external,
  driver: read.text,
  driver_opts: read.map(read.text),
  attachable: read.flag,
  internal: read.flag,
  enable_ipv6: read.flag,
  labels: read.labels,
  ipam: read.object({
    driver: read.text,
    options: read.map(read.text),
    config: read.list(
      read.object({
        subnet: read.text,
        gateway: read.text,
        ip_range: read.text,
        aux_addresses: read.map(read.text),
      }),
    ),
  }),
});

const volume = read.object<Loose<StackVolume>>({
  name: read.text,
  external,
  driver: read.text,
  driver_opts: read.map(read.text),
  labels: read.labels,
});

function fileObject(what: 'secret' | 'config', directory: string): Reader<Loose<StackFileObject>> {
  const table: read.Table<Loose<StackFileObject>> = {
    name: read.text,
    external,
    file: (value, path, notes) => resolve(directory, read.text(value, path, notes)),
    environment: read.text,
    content: read.text,
    labels: read.labels,
    template_driver: read.text,
    driver: read.text,
    driver_opts: read.map(read.text),
  };
  const one = read.object<Loose<StackFileObject>>(table);
  return (value, path, notes) => {
    const found = one(value, path, notes);
    for (const key of ['driver', 'driver_opts'] as const) {
      if (found[key] !== undefined) {
        notes.push(`${path}.${key}: ${what}s are kept by the swarm itself: leave it out`);
      }
    }
    const sources = [found.file, found.environment, found.content].filter(
      (item) => item !== undefined,
    );
    const isExternal = found.external !== undefined && found.external !== false;
    if (!isExternal && sources.length !== 1) {
      throw read.wrong(path, 'give one of file, environment, content, or external: true');
    }
    return found;
  };
}

const TOP_REFUSALS: read.Refusals = {
  include: 'give each file with -c',
  models: 'models are not supported: leave it out',
};

const VERSION_TEXT = /^3(\.\d+)?$/;

const version: Reader<string> = (value, path, notes) => {
  const text = read.text(value, path, notes);
  if (VERSION_TEXT.test(text)) return text;
  throw read.wrong(
    path,
    `"${text}" is not supported: stack files are of version 3.0 to 3.13, or without one`,
  );
};

/** SwarmError invalid with the path; what is passed over is noted. */
export function readStackFile(value: unknown, directory: string, notes: Notes): StackFile {
  const all = read.entries(value ?? {}, 'the file');
  const extensions = Object.fromEntries(all.filter(([key]) => key.startsWith('x-')));
  if (!all.some(([key]) => ['services', 'version', 'name', ...SECTIONS].includes(key))) {
    throw read.wrong('services', 'this is missing: it is no stack file');
  }
  const one = serviceReader(directory);
  const found = read.object<Omit<StackFile, 'extensions'>>(
    {
      version,
      name: read.text,
      services: (item, path, inner) =>
        read.eachOf(item, path, (service, at) => one(service ?? {}, at, inner)),
      networks: section(network) as Reader<StackFile['networks']>,
      volumes: section(volume) as Reader<StackFile['volumes']>,
      secrets: section(fileObject('secret', directory)) as Reader<StackFile['secrets']>,
      configs: section(fileObject('config', directory)) as Reader<StackFile['configs']>,
    },
    TOP_REFUSALS,
  )(value ?? {}, '', notes);
  return {
    ...found,
    services: found.services ?? {},
    networks: found.networks ?? {},
    volumes: found.volumes ?? {},
    secrets: found.secrets ?? {},
    configs: found.configs ?? {},
    extensions,
  };
}

const SECTIONS = ['networks', 'volumes', 'secrets', 'configs'];

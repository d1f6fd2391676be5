/**
 * The daemon's configuration file (/etc/tsswarm/daemon.json): a JSON object with the keys of
 * Docker's daemon.json that this daemon knows, each the same as a flag. Reads and checks it; an
 * unknown key, a value of the wrong type, or a key that is also given as a flag is an error that
 * names the key.
 */
import { readFileSync } from 'node:fs';
import { messageOf, SwarmError } from '../base/errors.ts';

export const DEFAULT_DATA_ROOT = '/var/lib/tsswarm';
const DEFAULT_CONFIG_FILE = '/etc/tsswarm/daemon.json';

type Kind = 'text' | 'list' | 'count' | 'flag';

/** Key of the file -> the flag's name in code, and what its value is. */
const KEYS: Readonly<Record<string, readonly [flag: string, kind: Kind]>> = {
  'data-root': ['dataRoot', 'text'],
  'exec-root': ['execRoot', 'text'],
  group: ['group', 'text'],
  hosts: ['host', 'list'],
  'log-level': ['logLevel', 'text'],
  'cgroup-parent': ['cgroupParent', 'text'],
  labels: ['label', 'list'],
  'advertise-addr': ['advertiseAddr', 'text'],
  'node-generic-resources': ['nodeGenericResource', 'list'],
  'insecure-registries': ['insecureRegistry', 'list'],
  'registry-mirrors': ['registryMirror', 'list'],
  'metrics-addr': ['metricsAddr', 'text'],
  tls: ['tls', 'flag'],
  tlsverify: ['tlsverify', 'flag'],
  tlscacert: ['tlscacert', 'text'],
  tlscert: ['tlscert', 'text'],
  tlskey: ['tlskey', 'text'],
  'userns-remap': ['usernsRemap', 'text'],
  'image-gc-size': ['imageGcSize', 'text'],
  'image-gc-age': ['imageGcAge', 'text'],
  'max-concurrent-downloads': ['maxConcurrentDownloads', 'count'],
  'max-concurrent-uploads': ['maxConcurrentUploads', 'count'],
};

const KIND_WORDS: Readonly<Record<Kind, string>> = {
  text: 'a string',
  list: 'a list of strings',
  count: 'a whole number above 0',
  flag: 'true or false',
};

/**
 * The flags that the file sets; none when it is not there and was not asked for. `isGiven` says
 * whether a flag was given on the command line. SwarmError invalid.
 */
export function readConfigFile(
  file: string | undefined,
  isGiven: (flag: string) => boolean,
): Record<string, unknown> {
  const path = file ?? DEFAULT_CONFIG_FILE;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (absent && file === undefined) return {};
    throw new SwarmError('invalid', `cannot read the configuration file: ${messageOf(error)}`);
  }
  return parseConfig(text, path, isGiven);
}

export function parseConfig(
  text: string,
  path: string,
  isGiven: (flag: string) => boolean,
): Record<string, unknown> {
  let json: unknown;
  try {
    json = text.trim() === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw new SwarmError('invalid', `${path} is not valid JSON: ${messageOf(error)}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new SwarmError('invalid', `${path} must be a JSON object`);
  }
  const flags: Record<string, unknown> = {};
  const entries = Object.entries(json);
  const unknown = entries.map(([key]) => key).filter((key) => !Object.hasOwn(KEYS, key));
  if (unknown.length > 0) {
    const known = Object.keys(KEYS).sort().join(', ');
    throw new SwarmError(
      'invalid',
      `${path}: the following directives don't match any configuration option: ` +
        `${unknown.join(', ')} (known: ${known})`,
    );
  }
  const twice = entries.map(([key]) => key).filter((key) => isGiven(KEYS[key][0]));
  if (twice.length > 0) {
    throw new SwarmError(
      'invalid',
      `${path}: the following directives are specified both as a flag and in the configuration ` +
        `file: ${twice.join(', ')}`,
    );
  }
  for (const [key, value] of entries) {
    const [flag, kind] = KEYS[key];
    if (!fits(value, kind)) {
      throw new SwarmError('invalid', `${path}: ${key} must be ${KIND_WORDS[kind]}`);
    }
    flags[flag] = value;
  }
  return flags;
}

function fits(value: unknown, kind: Kind): boolean {
  switch (kind) {
    case 'text':
      return typeof value === 'string' && value !== '';
    case 'list':
      return Array.isArray(value) && value.every((item) => typeof item === 'string');
    case 'count':
      return Number.isSafeInteger(value) && (value as number) > 0;
    case 'flag':
      return typeof value === 'boolean';
  }
}

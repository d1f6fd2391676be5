/**
 * Stack files from where they are: reads them, the `.env` beside the first, env files and the
 * content of secrets and configs, and calls the pure parts in their order: YAML, variables, long
 * form, merging. Never talks to a daemon.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { unreadable } from '../input.ts';
import { readStackFile } from './file.ts';
import { interpolateAll, type Variables } from './interpolate.ts';
import { mergeStackFiles } from './merge.ts';
import { wrong } from './read.ts';
import type { StackFile, StackFileObject, StackService } from './types.ts';
import { parseYaml } from './yaml.ts';

export interface LoadOptions {
  /** Paths; '-' is standard input. */
  readonly files: readonly string[];
  /** An unsupported key is a warning. */
  readonly lax: boolean;
  readonly skipInterpolation?: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: () => Promise<string>;
}

export interface LoadedStack {
  readonly file: StackFile;
  /** What was passed over (--lax); one line each. */
  readonly warnings: readonly string[];
  readonly variables: Variables;
}

/** SwarmError invalid: what is wrong in which file and where, all that is unsupported at once. */
export async function loadStack(options: LoadOptions): Promise<LoadedStack> {
  if (options.files.length === 0) {
    throw new SwarmError('invalid', 'name the stack file: -c FILE, or -c - for standard input');
  }
  const [first] = options.files;
  const directory = first === '-' ? process.cwd() : resolve(dirname(first));
  const variables = await allVariables(directory, options.environment);
  const found: StackFile[] = [];
  const notes: string[] = [];
  const wrongs: string[] = [];
  for (const name of options.files) {
    const text = name === '-' ? await options.stdin() : await readText(name, name);
    const label = name === '-' ? 'standard input' : name;
    const raw = parseYaml(text, label);
    const own: string[] = [];
    try {
      const value = options.skipInterpolation === true ? raw : interpolateAll(raw, variables);
      found.push(readStackFile(value, directory, own));
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      wrongs.push(...error.message.split('\n').map((line) => `${label}: ${line}`));
    }
    notes.push(...own.map((note) => `${label}: ${note}`));
  }
  const unsupported = options.lax ? [] : notes;
  if (wrongs.length > 0 || unsupported.length > 0) {
    const hint = unsupported.length === 0 ? [] : ['(--lax passes over what is not supported)'];
    throw new SwarmError('invalid', [...wrongs, ...unsupported, ...hint].join('\n  '));
  }
  const merged = mergeStackFiles(found);
  const services: [string, StackService][] = [];
  for (const [name, service] of Object.entries(enabled(merged, options.environment))) {
    const withProfile = await withProfiles(name, service, directory);
    services.push([name, await withEnvFiles(name, withProfile, directory, variables)]);
  }
  return {
    file: { ...merged, services: Object.fromEntries(services) },
    warnings: notes,
    variables,
  };
}

/** Services of profiles that are not asked for (COMPOSE_PROFILES) are left out. */
function enabled(
  file: StackFile,
  environment: LoadOptions['environment'],
): Readonly<Record<string, StackService>> {
  const wanted = (environment.COMPOSE_PROFILES ?? '').split(',').map((item) => item.trim());
  const isEnabled = ({ profiles = [] }: StackService): boolean =>
    profiles.length === 0 || wanted.includes('*') || profiles.some((one) => wanted.includes(one));
  return Object.fromEntries(
    Object.entries(file.services).filter(([, service]) => isEnabled(service)),
  );
}

/** The caller's environment, before the .env file beside the first stack file. */
async function allVariables(
  directory: string,
  environment: LoadOptions['environment'],
): Promise<Variables> {
  let text = '';
  const path = join(directory, '.env');
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    // There need not be one.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unreadable(path, error);
  }
  const own: Variables = (name) => environment[name];
  const file = parseDotEnv(text, own);
  return (name) => own(name) ?? file.get(name);
}

/** NAME=value lines with comments and quotes, as `.env` files have them. */
export function parseDotEnv(text: string, environment: Variables): Map<string, string> {
  const found = new Map<string, string>();
  const known: Variables = (name) => environment(name) ?? found.get(name);
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*?)\s*$/.exec(line);
    if (match === null) continue;
    const [, name, rest] = match;
    const quoted = /^(["'])((?:\\.|(?!\1).)*)\1/.exec(rest);
    if (quoted === null) found.set(name, expand(rest.replace(/(^|\s)#.*$/, '').trim(), known));
    else if (quoted[1] === "'") found.set(name, quoted[2]);
    else
      found.set(name, expand(quoted[2].replace(/\\n/g, '\n').replace(/\\(["\\])/g, '$1'), known));
  }
  return found;
}

function expand(text: string, variables: Variables): string {
  return interpolateAll(text, variables, '.env') as string;
}

/** Lines of an env file: what follows the first '=' is the value as it is; null without one. */
export function parseEnvFile(text: string): [string, string | null][] {
  return text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const equals = line.indexOf('=');
      return equals < 0 ? [line.trim(), null] : [line.slice(0, equals), line.slice(equals + 1)];
    });
}

/** `stack config` writes a profile itself in the place of its file. */
const SECCOMP_FILE = /^seccomp:(?!unconfined$|\{)(.+)$/;

/** Security options with the seccomp profile's text in the place of its file. */
async function withProfiles(
  name: string,
  service: StackService,
  directory: string,
): Promise<StackService> {
  if (service.security_opt === undefined) return service;
  const options: string[] = [];
  for (const [at, option] of service.security_opt.entries()) {
    const [, file] = SECCOMP_FILE.exec(option) ?? [];
    const where = `services.${name}.security_opt[${at}]: ${file}`;
    const text = file === undefined ? '' : await readText(resolve(directory, file), where);
    options.push(file === undefined ? option : `seccomp:${text}`);
  }
  return { ...service, security_opt: options };
}

/** The environment with env files beneath it, and with variables taken from the caller's. */
async function withEnvFiles(
  name: string,
  service: StackService,
  directory: string,
  variables: Variables,
): Promise<StackService> {
  const { env_file: files, ...rest } = service;
  const all: Record<string, string | null> = {};
  for (const [at, { path, required }] of (files ?? []).entries()) {
    const full = resolve(directory, path);
    const where = `services.${name}.env_file[${at}]`;
    const text = await readText(full, `${where}: ${path}`, required === false);
    for (const [key, value] of parseEnvFile(text)) all[key] = value;
  }
  Object.assign(all, service.environment);
  for (const [key, value] of Object.entries(all)) all[key] = value ?? variables(key) ?? null;
  return Object.keys(all).length === 0 ? rest : { ...rest, environment: all };
}

/** What a secret or config holds. `path` is where the file says so: 'secrets.key'. */
export async function contentOf(
  object: StackFileObject,
  path: string,
  variables: Variables,
): Promise<Buffer> {
  if (object.content !== undefined) return Buffer.from(object.content);
  if (object.environment !== undefined) {
    const value = variables(object.environment);
    if (value === undefined) {
      throw wrong(`${path}.environment`, `the variable ${object.environment} is not set`);
    }
    return Buffer.from(value);
  }
  const file = object.file ?? '';
  try {
    return await readFile(file);
  } catch (cause) {
    throw unreadable(`${path}.file: ${file}`, cause);
  }
}

async function readText(file: string, where: string, mayLack = false): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    if (mayLack && (cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw unreadable(where, cause);
  }
}

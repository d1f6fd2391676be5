/**
 * Credentials of registries as the docker client keeps them ($DOCKER_CONFIG/config.json, else
 * ~/.docker/config.json), so that a `docker login` counts here too. Asks credential helpers that
 * the file names; never prints what it finds.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { SwarmError } from '../base/errors.ts';

export const HUB = 'https://index.docker.io/v1/';
const HELPER_LIMIT_MS = 10_000;

export interface Credentials {
  readonly username: string;
  readonly password: string;
  /** Instead of a password. */
  readonly identitytoken?: string;
  readonly serveraddress: string;
}

interface Entry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
}

interface ConfigFile {
  auths?: Record<string, Entry>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
  detachKeys?: string;
}

function configPath(): string {
  return join(process.env.DOCKER_CONFIG ?? join(homedir(), '.docker'), 'config.json');
}

export async function readConfig(): Promise<ConfigFile> {
  const path = configPath();
  try {
    return JSON.parse(await readFile(path, 'utf8')) as ConfigFile;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new SwarmError('invalid', `${path}: it cannot be read as JSON`, { cause });
  }
}

/** The registry's name in the file: 'web' and 'user/web' are Docker Hub's. */
export function registryOf(image: string): string {
  const slash = image.indexOf('/');
  const first = slash < 0 ? '' : image.slice(0, slash);
  const isHost = first.includes('.') || first.includes(':') || first === 'localhost';
  return isHost && first !== 'docker.io' ? first : HUB;
}

/** undefined: none are known, the registry is asked without. */
export async function credentialsFor(image: string): Promise<Credentials | undefined> {
  const registry = registryOf(image);
  const config = await readConfig();
  const helper = config.credHelpers?.[registry] ?? config.credsStore;
  if (helper !== undefined && helper !== '') return fromHelper(helper, registry);
  const entry = config.auths?.[registry] ?? config.auths?.[`https://${registry}`];
  if (entry === undefined) return undefined;
  const [username = '', ...password] = Buffer.from(entry.auth ?? '', 'base64')
    .toString('utf8')
    .split(':');
  return {
    username: entry.username ?? username,
    password: entry.password ?? password.join(':').replace(/\0+$/, ''),
    ...(entry.identitytoken === undefined ? {} : { identitytoken: entry.identitytoken }),
    serveraddress: registry,
  };
}

function fromHelper(helper: string, registry: string): Promise<Credentials | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      `docker-credential-${helper}`,
      ['get'],
      { timeout: HELPER_LIMIT_MS },
      (error, stdout) => {
        if (error !== null) {
          if (stdout.includes('credentials not found')) return resolve(undefined);
          const what = `docker-credential-${helper}: ${stdout.trim() || error.message}`;
          return reject(new SwarmError('unavailable', what, { cause: error }));
        }
        const { Username = '', Secret = '' } = JSON.parse(stdout) as Record<string, string>;
        const token = Username === '<token>';
        resolve({
          username: token ? '' : Username,
          password: token ? '' : Secret,
          ...(token ? { identitytoken: Secret } : {}),
          serveraddress: registry,
        });
      },
    );
    child.stdin?.end(registry);
  });
}

/** The header that carries them, as the API wants it. */
export function authHeader(credentials: Credentials | undefined): Record<string, string> {
  if (credentials === undefined) return {};
  const json = Buffer.from(JSON.stringify(credentials));
  // With padding: Go's decoder, on the other side of proxies, insists on it.
  const text = json.toString('base64').replaceAll('+', '-').replaceAll('/', '_');
  return { 'X-Registry-Auth': text };
}

/** Keeps (or, for undefined, forgets) what logs in to a registry; false when there was nothing. */
export async function keepCredentials(
  registry: string,
  credentials: Credentials | undefined,
): Promise<boolean> {
  const config = await readConfig();
  const auths = { ...config.auths };
  if (credentials === undefined && !Object.hasOwn(auths, registry)) return false;
  if (credentials === undefined) delete auths[registry];
  else if (credentials.identitytoken !== undefined) {
    auths[registry] = { auth: '', identitytoken: credentials.identitytoken };
  } else {
    const both = `${credentials.username}:${credentials.password}`;
    auths[registry] = { auth: Buffer.from(both).toString('base64') };
  }
  const path = configPath();
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const text = `${JSON.stringify({ ...config, auths }, undefined, '\t')}\n`;
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
  return true;
}

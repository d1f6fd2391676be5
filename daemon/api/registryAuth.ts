/**
 * Registry credentials as Docker's clients send them: the X-Registry-Auth header (JSON in base64,
 * URL alphabet or not) and the body of /auth. They are handed on and never kept or logged here.
 */
import { SwarmError } from '../../base/errors.ts';
import type { RegistryAuth } from '../../runtime/image/types.ts';
import { Fields } from './fields.ts';
import type { ApiRequest } from './http.ts';

const HEADER = 'x-registry-auth';
/** Tokens of some clouds have several KiB. */
const MAX_HEADER_LENGTH = 64 * 1024;

/** The header as it came; '' when there is none or it says nothing. */
export function registryAuthHeader(request: ApiRequest): string {
  const header = request.incoming.headers[HEADER];
  const text = typeof header === 'string' ? header.trim() : '';
  return parseRegistryAuth(text) === undefined ? '' : text;
}

export function registryAuthOf(request: ApiRequest): RegistryAuth | undefined {
  const header = request.incoming.headers[HEADER];
  return parseRegistryAuth(typeof header === 'string' ? header.trim() : '');
}

/** undefined when it holds no credentials. SwarmError invalid when it is not what Docker sends. */
export function parseRegistryAuth(text: string): RegistryAuth | undefined {
  if (text === '') return undefined;
  const wrong = (why: string): SwarmError =>
    new SwarmError('invalid', `invalid X-Registry-Auth header: ${why}`);
  if (text.length > MAX_HEADER_LENGTH) throw wrong('it is too long');
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) throw wrong('it must be base64url-encoded JSON');
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(text, 'base64').toString('utf8'));
  } catch {
    throw wrong('it must be base64url-encoded JSON');
  }
  if (json === null) return undefined;
  if (typeof json !== 'object' || Array.isArray(json)) throw wrong('it must be a JSON object');
  return credentialsOf(new Fields(json, 'X-Registry-Auth'));
}

/**
 * From AuthConfig's fields; `auth` is 'user:password' in base64, as configuration files have it.
 */
export function credentialsOf(fields: Fields): RegistryAuth | undefined {
  let username = fields.text('username');
  let password = fields.text('password');
  const joined = fields.text('auth');
  if (username === '' && joined !== '') {
    const plain = Buffer.from(joined, 'base64').toString('utf8');
    const colon = plain.indexOf(':');
    if (colon > 0) {
      username = plain.slice(0, colon);
      password = plain.slice(colon + 1);
    }
  }
  const identityToken = fields.text('identitytoken');
  const registryToken = fields.text('registrytoken');
  if (username === '' && identityToken === '' && registryToken === '') return undefined;
  return {
    ...(username === '' ? {} : { username, password }),
    ...(identityToken === '' ? {} : { identityToken }),
    ...(registryToken === '' ? {} : { registryToken }),
  };
}

/** 'https://index.docker.io/v1/', 'host:5000' -> the registry's name in references. */
export function registryOfServer(server: string): string {
  const host = server.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return ['', 'index.docker.io', 'registry-1.docker.io'].includes(host) ? 'docker.io' : host;
}

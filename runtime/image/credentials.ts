/**
 * Registry credentials in the form Docker's clients send (AuthConfig): JSON, in a header as base64
 * in the URL alphabet or not. Pure: they are read, and neither kept nor logged here.
 */
import { SwarmError } from '../../base/errors.ts';
import type { RegistryAuth } from './types.ts';

/** Tokens of some clouds have several KiB. */
const MAX_HEADER_LENGTH = 64 * 1024;

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
  return credentialsOf(json as Readonly<Record<string, unknown>>);
}

/**
 * From AuthConfig's fields; `auth` is 'user:password' in base64, as configuration files have it.
 */
export function credentialsOf(fields: Readonly<Record<string, unknown>>): RegistryAuth | undefined {
  const text = (name: string): string => {
    const value = fields[name];
    if (value === undefined || value === null) return '';
    if (typeof value === 'string') return value;
    throw new SwarmError('invalid', `registry credentials: ${name} must be a string`);
  };
  let username = text('username');
  let password = text('password');
  const joined = text('auth');
  if (username === '' && joined !== '') {
    const plain = Buffer.from(joined, 'base64').toString('utf8');
    const colon = plain.indexOf(':');
    if (colon > 0) {
      username = plain.slice(0, colon);
      password = plain.slice(colon + 1);
    }
  }
  const identityToken = text('identitytoken');
  const registryToken = text('registrytoken');
  if (username === '' && identityToken === '' && registryToken === '') return undefined;
  return {
    ...(username === '' ? {} : { username, password }),
    ...(identityToken === '' ? {} : { identityToken }),
    ...(registryToken === '' ? {} : { registryToken }),
  };
}

/**
 * Registry credentials of a request (the X-Registry-Auth header), and the names of registries in
 * Docker's log-in. They are handed on and never kept or logged here.
 */
import { SwarmError } from '../../base/errors.ts';
import { parseRegistryAuth } from '../../runtime/image/credentials.ts';
import type { RegistryAuth } from '../../runtime/image/types.ts';
import type { ApiRequest } from './http.ts';

const HEADER = 'x-registry-auth';

function headerOf(request: ApiRequest): string {
  const header = request.incoming.headers[HEADER];
  return typeof header === 'string' ? header.trim() : '';
}

/** The header as it came; '' when there is none or it says nothing. SwarmError invalid. */
export function registryAuthHeader(request: ApiRequest): string {
  const text = headerOf(request);
  return parseRegistryAuth(text) === undefined ? '' : text;
}

export function registryAuthOf(request: ApiRequest): RegistryAuth | undefined {
  return parseRegistryAuth(headerOf(request));
}

/** DNS: a name is not longer, and a port comes after it. */
const HOST_MAX = 260;

/** 'https://index.docker.io/v1/', 'host:5000' -> the registry's name in references. */
export function registryOfServer(server: string): string {
  const host = server.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  if (['', 'index.docker.io', 'registry-1.docker.io'].includes(host)) return 'docker.io';
  // It becomes a part of a path and of a URL.
  if (/^([\w-]+(\.[\w-]+)*|\[[\da-f:.]+\])(:\d{1,5})?$/i.test(host) && host.length <= HOST_MAX) {
    return host;
  }
  throw new SwarmError('invalid', 'serveraddress: no registry has such an address: use host:port');
}

/**
 * The three files a container gets from the network: /etc/hosts, /etc/hostname, /etc/resolv.conf.
 * Text is made here and written whole; nothing is read back.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { AttachRequest } from './types.ts';

export const DNS_ADDRESS = '127.0.0.11';
const HOSTNAME_MAX = 64;

/** SwarmError invalid for what would put another line or field into one of the files. */
function plain(text: string, what: string): string {
  if (text !== '' && !/[\s#]/.test(text)) return text;
  throw new SwarmError('invalid', `${what} "${text}" must be one word`);
}

/** `addresses`: the container's own, the first one first. */
export function hostsText(request: AttachRequest, addresses: readonly string[]): string {
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'ff00::0\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
  ];
  for (const host of request.extraHosts) {
    lines.push(`${plain(host.address, 'host address')}\t${plain(host.name, 'host name')}`);
  }
  const name = plain(request.hostname, 'hostname');
  for (const address of addresses) lines.push(`${address}\t${name}`);
  return `${lines.join('\n')}\n`;
}

/** The same request with the last entry of each of these names at its address. */
export function followed(
  request: AttachRequest,
  hosts: AttachRequest['extraHosts'],
): AttachRequest {
  const extraHosts = [...request.extraHosts];
  for (const host of hosts) {
    const at = extraHosts.findLastIndex(({ name }) => name === host.name);
    if (at >= 0) extraHosts[at] = host;
  }
  return { ...request, extraHosts };
}

export function hostnameText(request: AttachRequest): string {
  const name = plain(request.hostname, 'hostname');
  if (name.length > HOSTNAME_MAX) {
    throw new SwarmError('invalid', `hostname "${name}" is longer than ${HOSTNAME_MAX} characters`);
  }
  return `${name}\n`;
}

export function resolvConfText(request: AttachRequest): string {
  const lines = [`nameserver ${DNS_ADDRESS}`];
  const search = request.dns.search.map((domain) => plain(domain, 'search domain'));
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  const options = request.dns.options.map((option) => plain(option, 'DNS option'));
  if (!options.some((option) => option.startsWith('ndots:'))) options.push('ndots:0');
  lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

export interface NetworkFiles {
  readonly hostsFile: string;
  readonly hostnameFile: string;
  readonly resolvConfFile: string;
}

export function writeFiles(
  directory: string,
  request: AttachRequest,
  addresses: readonly string[],
): NetworkFiles {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const write = (name: string, text: string): string => {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: 0o644 });
    return path;
  };
  return {
    hostsFile: write('hosts', hostsText(request, addresses)),
    hostnameFile: write('hostname', hostnameText(request)),
    resolvConfFile: write('resolv.conf', resolvConfText(request)),
  };
}

export function removeFiles(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

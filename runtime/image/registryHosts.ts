/**
 * What the operator said of registries: which may be spoken to without trust in a certificate (or
 * without TLS), which mirrors stand before Docker Hub, and where certificates for a host lie. Reads
 * certificate directories, and nothing from the network.
 */
import { readdir, readFile } from 'node:fs/promises';
import { BlockList, isIP } from 'node:net';
import path from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { DEFAULT_DOMAIN } from './reference.ts';

export interface RegistrySettings {
  /** 'host[:port]', or an address range '10.0.0.0/8' that hosts written as addresses fall into. */
  readonly insecureRegistries: readonly string[];
  /** URLs without a path, asked before Docker Hub, in this order. */
  readonly mirrors: readonly string[];
  /** Each may have <host[:port]>/{*.crt, *.cert + *.key}; the first that has the host counts. */
  readonly certificateDirectories: readonly string[];
}

export const NO_SETTINGS: RegistrySettings = {
  insecureRegistries: [],
  mirrors: [],
  certificateDirectories: [],
};

/** What a TLS connection to one host needs besides the built-in certificates. PEM. */
export interface HostCertificates {
  readonly authorities: readonly string[];
  readonly client: { readonly certificate: string; readonly key: string } | undefined;
}

export const NO_CERTIFICATES: HostCertificates = { authorities: [], client: undefined };

export class RegistryHosts {
  readonly #names: ReadonlySet<string>;
  readonly #ranges = new BlockList();
  readonly #directories: readonly string[];
  /** Base URLs of the mirrors. */
  readonly mirrors: readonly URL[];

  /** SwarmError invalid for an entry that can be neither a host nor a range, or no URL. */
  constructor(settings: RegistrySettings) {
    const names = new Set<string>();
    for (const entry of settings.insecureRegistries) {
      if (!this.#addRange(entry)) names.add(checkedHost(entry));
    }
    this.#names = names;
    this.#directories = settings.certificateDirectories;
    this.mirrors = settings.mirrors.map(mirrorUrl);
  }

  #addRange(entry: string): boolean {
    const slash = entry.indexOf('/');
    if (slash < 0) return false;
    const address = entry.slice(0, slash);
    const family = isIP(address);
    const bits = Number(entry.slice(slash + 1));
    if (family === 0 || !Number.isInteger(bits) || bits < 0 || bits > (family === 4 ? 32 : 128)) {
      throw new SwarmError(
        'invalid',
        `insecure-registries: "${entry}" is no registry: write host:port, or a range like ` +
          '10.0.0.0/8',
      );
    }
    this.#ranges.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6');
    return true;
  }

  /** Whether the operator listed `host` ('host[:port]'): no certificate is asked of it. */
  isInsecure(host: string): boolean {
    if (this.#names.has(host) || this.#names.has(hostname(host))) return true;
    const name = hostname(host);
    const family = isIP(name);
    return family !== 0 && this.#ranges.check(name, family === 4 ? 'ipv4' : 'ipv6');
  }

  /** Whether plain HTTP to `host` is allowed. */
  isPlainAllowed(host: string): boolean {
    return isLoopback(host) || this.isInsecure(host);
  }

  /** As Docker's certs.d. SwarmError invalid when a client certificate has no key, or is unread. */
  async certificates(host: string): Promise<HostCertificates> {
    for (const directory of this.#directories) {
      const at = path.join(directory, host);
      let names: string[];
      try {
        names = (await readdir(at)).sort();
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOENT' || code === 'ENOTDIR') continue;
        throw new SwarmError('invalid', `cannot read ${at}: ${messageOf(error)}`, { cause: error });
      }
      return readCertificates(at, names);
    }
    return NO_CERTIFICATES;
  }
}

async function readCertificates(at: string, names: readonly string[]): Promise<HostCertificates> {
  const read = (name: string): Promise<string> => readFile(path.join(at, name), 'utf8');
  const authorities = await Promise.all(names.filter((name) => name.endsWith('.crt')).map(read));
  const certificate = names.find((name) => name.endsWith('.cert'));
  const key = names.find((name) => name.endsWith('.key'));
  if (certificate === undefined && key === undefined) return { authorities, client: undefined };
  const wanted = `${certificate?.slice(0, -'.cert'.length)}.key`;
  if (certificate === undefined || !names.includes(wanted)) {
    const missing = certificate === undefined ? key?.replace(/\.key$/, '.cert') : wanted;
    throw new SwarmError('invalid', `${at}: ${missing} is missing beside ${certificate ?? key}`);
  }
  const client = { certificate: await read(certificate), key: await read(wanted) };
  return { authorities, client };
}

/** 'host', 'host:5000', '[::1]:5000' -> the name without port and brackets. */
export function hostname(host: string): string {
  return host.startsWith('[') ? host.slice(1, host.indexOf(']')) : host.replace(/:\d+$/, '');
}

/** 'localhost:5000', '127.0.0.1', '[::1]:5000'. */
export function isLoopback(host: string): boolean {
  const name = hostname(host);
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
}

function checkedHost(entry: string): string {
  const url = `http://${entry}`;
  if (entry !== '' && URL.canParse(url) && new URL(url).pathname === '/' && !/[/@?#]/.test(entry)) {
    return entry;
  }
  throw new SwarmError('invalid', `insecure-registries: "${entry}" is no host or host:port`);
}

function mirrorUrl(text: string): URL {
  const wrong = (why: string): SwarmError =>
    new SwarmError('invalid', `registry-mirrors: "${text}" ${why}`);
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) {
    throw wrong('is no URL: write it like https://mirror.example.com');
  }
  const url = new URL(text);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw wrong('may have no path, query or fragment');
  }
  if (url.username !== '' || url.password !== '') throw wrong('may have no user or password');
  return url;
}

/** Where the registry of `domain` is reached: Docker Hub has another name there. */
export function registryHost(domain: string): string {
  return domain === DEFAULT_DOMAIN ? 'registry-1.docker.io' : domain;
}

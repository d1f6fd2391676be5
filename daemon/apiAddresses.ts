/**
 * Where the API is served, from the daemon's flags: unix sockets, and TCP with certificates on both
 * sides. TCP without is refused but on loopback, and there only when it is asked for in so many
 * words: whoever reaches the API is root on this host.
 */
import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import * as tls from 'node:tls';
import { messageOf, SwarmError } from '../base/errors.ts';

const TLS_PORT = 2376;
const PLAIN_PORT = 2375;

export interface ApiTls {
  /** Who may call: clients whose certificates this CA issued; PEM. */
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

export type ApiAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | {
      readonly kind: 'tcp';
      readonly host: string;
      readonly port: number;
      /** undefined: in the clear. */
      readonly tls: ApiTls | undefined;
    };

/** As given: undefined where a flag was not. */
export interface TlsFlags {
  readonly tls: boolean | undefined;
  readonly verify: boolean | undefined;
  readonly caFile: string | undefined;
  readonly certificateFile: string | undefined;
  readonly keyFile: string | undefined;
}

export const NO_TLS_FLAGS: TlsFlags = {
  tls: undefined,
  verify: undefined,
  caFile: undefined,
  certificateFile: undefined,
  keyFile: undefined,
};

/** SwarmError invalid or unsupported says which flag is wrong. Reads the files named. */
export function apiAddresses(hosts: readonly string[], flags: TlsFlags): readonly ApiAddress[] {
  const secured = isSecured(flags) ? readTls(flags) : undefined;
  return hosts.map((host) => {
    if (host.startsWith('unix:///')) return { kind: 'unix', path: host.slice('unix://'.length) };
    if (host.startsWith('tcp://')) return tcpAddress(host, flags, secured);
    throw new SwarmError(
      'unsupported',
      `cannot serve on "${host}": use unix:///path or tcp://address:port`,
    );
  });
}

/** 'host:port' of --metrics-addr; undefined for ''. SwarmError invalid. */
export function metricsAddress(text: string): { host: string; port: number } | undefined {
  if (text === '') return undefined;
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:/[\]]*):(\d+)$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) {
    throw new SwarmError('invalid', `--metrics-addr "${text}": write it as address:port`);
  }
  return { host: match[1].replace(/^\[|\]$/g, '') || '127.0.0.1', port };
}

function isSecured(flags: TlsFlags): boolean {
  if (flags.verify === true) return true;
  const files = flags.caFile ?? flags.certificateFile ?? flags.keyFile;
  if (flags.tls === true || (files !== undefined && flags.verify === undefined)) {
    throw new SwarmError(
      'unsupported',
      'the API is served to clients with certificates only: use --tlsverify with --tlscacert, ' +
        '--tlscert and --tlskey',
    );
  }
  return false;
}

function tcpAddress(address: string, flags: TlsFlags, secured: ApiTls | undefined): ApiAddress {
  const match = /^tcp:\/\/(\[[0-9a-fA-F:.]+\]|[^:/[\]]*)(?::(\d+))?\/?$/.exec(address);
  const port = Number(match?.[2] ?? (secured === undefined ? PLAIN_PORT : TLS_PORT));
  if (match === null || port > 65_535) {
    throw new SwarmError('invalid', `cannot serve on "${address}": write it as tcp://address:port`);
  }
  const host = match[1].replace(/^\[|\]$/g, '') || '127.0.0.1';
  if (secured === undefined) checkPlain(address, host, flags);
  return { kind: 'tcp', host, port, tls: secured };
}

/** Docker's words. */
function checkPlain(address: string, host: string, flags: TlsFlags): void {
  if (!isLoopback(host)) {
    throw new SwarmError(
      'invalid',
      `API is accessible on ${address} without encryption. Access to the remote API is ` +
        'equivalent to root access on the host: use --tlsverify, or a loopback address',
    );
  }
  if (flags.tls === false || flags.verify === false) return;
  throw new SwarmError(
    'invalid',
    `binding ${address} to an IP address without --tlsverify is insecure and gives root access ` +
      'on this machine to everyone who has access to it: use --tlsverify, or --tls=false if that ' +
      'is intended',
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function readTls(flags: TlsFlags): ApiTls {
  const read = (flag: string, path: string | undefined): string => {
    if (path === undefined) {
      throw new SwarmError('invalid', `--tlsverify needs ${flag}: name the file`);
    }
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      throw new SwarmError('invalid', `${flag} ${path} cannot be read: ${messageOf(error)}`);
    }
  };
  const files = {
    ca: read('--tlscacert', flags.caFile),
    certificate: read('--tlscert', flags.certificateFile),
    key: read('--tlskey', flags.keyFile),
  };
  try {
    tls.createSecureContext({ ca: files.ca, cert: files.certificate, key: files.key });
  } catch (error) {
    throw new SwarmError(
      'invalid',
      '--tlscacert, --tlscert and --tlskey name files that cannot be used together: ' +
        messageOf(error),
    );
  }
  return files;
}

/** 'tcp://[::1]:2376', for people. */
export function addressText(address: ApiAddress): string {
  if (address.kind === 'unix') return `unix://${address.path}`;
  return `tcp://${isIPv6(address.host) ? `[${address.host}]` : address.host}:${address.port}`;
}

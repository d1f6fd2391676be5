/**
 * Which address of this host the others use. Given as an address or an interface's name, with or
 * without a port; chosen by itself only where there is exactly one candidate, as Docker does.
 */
import { isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { SwarmError } from '../base/errors.ts';
import { DEFAULT_GRPC_PORT } from '../model/defaults.ts';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** 'host', 'host:port'; the port is `defaultPort` when absent. */
export function parseHostPort(text: string, what: string, defaultPort: number): HostPort {
  const match = /^([^\s:]+)(?::(\d{1,5}))?$/.exec(text);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match === null || port < 1 || port > 65_535) {
    throw new SwarmError('invalid', `invalid ${what} "${text}": write host or host:port`);
  }
  return { host: match[1], port };
}

/** Interfaces that containers use; never an address that other hosts reach. */
const OWN_INTERFACE = /^(tss|docker|br-|veth|virbr|cni)/;

const LOOPBACK = /^127\./;

interface Candidate {
  readonly name: string;
  readonly address: string;
}

function candidates(): Candidate[] {
  return Object.entries(networkInterfaces())
    .filter(([name]) => !OWN_INTERFACE.test(name))
    .flatMap(([name, entries]) =>
      (entries ?? [])
        .filter((entry) => entry.family === 'IPv4' && !entry.internal)
        .map((entry) => ({ name, address: entry.address })),
    );
}

/** SwarmError unavailable that says what to do unless this host has the address `advertised`. */
export function checkOwnAddress(advertised: string): void {
  const own = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  if (own.some(({ address }) => address === advertised)) return;
  throw new SwarmError(
    'unavailable',
    `this host has no address ${advertised}, by which the swarm knows it ` +
      `(${list(candidates())}): ` +
      'give it that address back; if it has another one for good, start the daemon with ' +
      '--advertise-addr ADDRESS; if its state was copied from another machine, ' +
      'run "tsswarm leave --force" and join again',
  );
}

function list(found: readonly Candidate[]): string {
  return found.map(({ name, address }) => `${address} on ${name}`).join(', ');
}

/**
 * The advertised address: `text` is '', an IPv4 address of this host, or an interface, each with an
 * optional port; with `alone` a loopback address too, for a swarm that stays on this host.
 * SwarmError invalid when it is none of this host's or cannot be chosen.
 */
function resolveAdvertise(
  text: string,
  options: { readonly alone: boolean; readonly defaultPort?: number },
): HostPort {
  const { defaultPort = DEFAULT_GRPC_PORT } = options;
  const found = candidates();
  if (text === '') {
    if (found.length === 1) return { host: found[0].address, port: defaultPort };
    const reason =
      found.length === 0
        ? 'this host has no address other hosts could reach'
        : `this host has several addresses (${list(found)})`;
    throw new SwarmError('invalid', `could not choose an address: ${reason}: use --advertise-addr`);
  }
  const given = byInterface(parseHostPort(text, '--advertise-addr', defaultPort));
  if (!isIPv4(given.host)) {
    throw new SwarmError(
      'invalid',
      `"${given.host}" is neither an IPv4 address nor an interface of this host (${list(found)})`,
    );
  }
  if (options.alone && LOOPBACK.test(given.host)) return given;
  if (!found.some(({ address }) => address === given.host)) {
    throw new SwarmError(
      'invalid',
      `${given.host} is not an address of this host (${list(found)}): ` +
        'other hosts could not reach it',
    );
  }
  return given;
}

/**
 * `known`, at the address that `text` says ('' = as known). SwarmError invalid when that is none of
 * this host's now.
 */
export function movedTo<T extends { readonly advertiseHost: string; readonly port: number }>(
  known: T,
  text: string,
): T {
  if (text === '') return known;
  const { host, port } = resolveAdvertise(text, { alone: true, defaultPort: known.port });
  if (host === known.advertiseHost && port === known.port) return known;
  return { ...known, advertiseHost: host, port };
}

/** The address of the interface, when it names one. */
function byInterface(given: HostPort): HostPort {
  const byName = candidates().filter(({ name }) => name === given.host);
  if (byName.length > 1) {
    throw new SwarmError(
      'invalid',
      `interface ${given.host} has several addresses (${list(byName)}): give one of them`,
    );
  }
  return byName.length === 1 ? { host: byName[0].address, port: given.port } : given;
}

/** SwarmError unsupported when `text` ('' = whatever is advertised) is another address. */
function checkDataPath(text: string, advertised: HostPort): void {
  if (text === '' || byInterface({ host: text, port: 0 }).host === advertised.host) return;
  throw new SwarmError(
    'unsupported',
    `--data-path-addr ${text} is not supported by tsswarm: traffic of containers uses the ` +
      `advertised address, ${advertised.host}`,
  );
}

/** Where the gRPC listener binds: '' = every address, at the advertised port. */
function resolveListen(text: string, advertised: HostPort): HostPort {
  if (text === '') return { host: '0.0.0.0', port: advertised.port };
  const given = byInterface(parseHostPort(text, '--listen-addr', advertised.port));
  if (!isIPv4(given.host)) {
    throw new SwarmError(
      'invalid',
      `invalid --listen-addr "${text}": give an IPv4 address or an interface of this host`,
    );
  }
  return given;
}

export interface AddressRequest {
  readonly advertiseAddress: string;
  readonly listenAddress: string;
  readonly dataPathAddress: string;
}

/** What the flags of init and join stand for on this host. SwarmError as of each. */
export function resolveAddresses(
  request: AddressRequest,
  options: { readonly alone: boolean },
): { readonly advertised: HostPort; readonly listen: HostPort } {
  const advertised = resolveAdvertise(request.advertiseAddress, options);
  checkDataPath(request.dataPathAddress, advertised);
  return { advertised, listen: resolveListen(request.listenAddress, advertised) };
}

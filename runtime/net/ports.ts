/**
 * Who has which port of this host: containers' published ports, with the services' ingress ports
 * and the host's own processes looked at before one is given. A given port is held by a socket
 * that nothing ever reaches (the rules come before it), so that no process takes it meanwhile.
 * The rules themselves are in hostTable.ts.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { AF_INET6, familyOf } from '../../base/ipAddress.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import {
  bind,
  close,
  define,
  EADDRINUSE,
  errno,
  errnoText,
  listen,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockopt,
  socket,
  socketAddress,
  systemError,
} from '../sys/libc.ts';
import { NOT_EVERY, Relay, type RelayLimits, type RelayTarget } from './relay.ts';
import type { IngressState, PublishedPort } from './types.ts';

const SHUT_RD = 0;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
/** Where `docker run -p 80` chooses from. */
const DYNAMIC_FIRST = 32_768;
const DYNAMIC_COUNT = 28_232;
const DYNAMIC_TRIES = 500;
/** One container's ports; each is a chain of its own. */
const PORTS_MAX = 4096;
const ANY_ADDRESS = '0.0.0.0';
const ANY_ADDRESS_6 = '::';

const shutdown = define<(fd: number, how: number) => number>('', 'int shutdown(int fd, int how)');

interface Owner {
  readonly containerId: string;
  /** For messages; '' = its id. */
  readonly name: string;
}

interface Claim {
  readonly owner: Owner;
  readonly ports: readonly PublishedPort[];
  readonly sockets: readonly number[];
  readonly relays: readonly Relay[];
}

/** Connections by IPv6 that no rule turns to the container are carried by a relay. */
function isCarried({ protocol, hostAddress }: PublishedPort): boolean {
  return protocol === 'tcp' && familyOf(hostAddress) === AF_INET6;
}

function overlap(left: string, right: string): boolean {
  if (left === '' || right === '' || left === right) return true;
  if (familyOf(left) !== familyOf(right)) return false;
  return [left, right].some((one) => one === ANY_ADDRESS || one === ANY_ADDRESS_6);
}

function clash(left: PublishedPort, right: PublishedPort): boolean {
  return (
    left.protocol === right.protocol &&
    left.hostPort === right.hostPort &&
    overlap(left.hostAddress, right.hostAddress)
  );
}

/**
 * Closed, but bound: having listened, and allowing no reuse any more, it keeps others from the port
 * as a listener would.
 */
function stopListening(fd: number): void {
  const zero = Buffer.alloc(4);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, zero, zero.length);
  shutdown(fd, SHUT_RD);
}

/**
 * A socket that has the port, or undefined where somebody else has it. A TCP one that is not to
 * listen refuses connections; they come to it only while the rules are gone.
 */
export function holdPort(port: PublishedPort): number | undefined {
  const { protocol, hostAddress, hostPort } = port;
  // Without an address: IPv4; what comes by IPv6 is the relay's.
  const address = hostAddress === '' ? ANY_ADDRESS : hostAddress;
  const family = familyOf(address);
  const type = protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM;
  const fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError('cannot make a socket to hold a port');
  const one = Buffer.from([1, 0, 0, 0]);
  if (type === SOCK_STREAM) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, one, one.length);
  if (family === AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, one, one.length);
  const where = socketAddress(address, hostPort);
  let code = bind(fd, where, where.length) < 0 ? errno() : 0;
  if (code === 0 && type === SOCK_STREAM && listen(fd, 0) < 0) code = errno();
  if (code === 0) {
    if (type === SOCK_STREAM && !isCarried(port)) stopListening(fd);
    return fd;
  }
  close(fd);
  if (code === EADDRINUSE) return undefined;
  throw new SwarmError(
    'invalid',
    `cannot publish port ${hostPort}/${protocol} on ${address}: ${errnoText(code)}`,
  );
}

/** A port of every address has its IPv6 part beside it, if nobody else has that one. */
function listenByIpv6(port: PublishedPort): number | undefined {
  if (port.protocol !== 'tcp' || port.hostAddress !== '') return undefined;
  try {
    return holdPort({ ...port, hostAddress: ANY_ADDRESS_6 });
  } catch {
    return undefined; // a host without IPv6
  }
}

/** Inodes of the sockets that listen on the port, from the kernel's tables of sockets. */
function listeners(protocol: string, port: number): Set<string> {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const table of [protocol, `${protocol}6`]) {
    let text = '';
    try {
      text = readFileSync(`/proc/thread-self/net/${table}`, 'utf8');
    } catch {
      continue; // a kernel without that family has no such socket
    }
    for (const line of text.split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      const isOpen = protocol === 'udp' || state === '0A';
      if (isOpen && local?.endsWith(`:${hexPort}`)) inodes.add(`socket:[${inode}]`);
    }
  }
  return inodes;
}

/** 'process nginx (pid 7)', or what can be said without knowing. */
function processWithPort(protocol: string, port: number): string {
  const wanted = listeners(protocol, port);
  const pids = wanted.size === 0 ? [] : readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  for (const pid of pids) {
    try {
      const fds = readdirSync(`/proc/${pid}/fd`);
      if (!fds.some((fd) => wanted.has(safeLink(`/proc/${pid}/fd/${fd}`)))) continue;
      return `process ${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()} (pid ${pid})`;
    } catch {
      // ended while we looked
    }
  }
  return 'another program of this host';
}

function safeLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // closed while we looked
  }
}

function letGo({ sockets, relays }: Claim): void {
  for (const fd of sockets) close(fd);
  for (const relay of relays) relay.close();
}

export interface PortsEnvironment {
  readonly random: Random;
  readonly log: Log;
  readonly limits: RelayLimits;
}

export class Ports {
  readonly #random: Random;
  readonly #log: Log;
  readonly #limits: RelayLimits;
  readonly #ingress: () => IngressState | undefined;
  readonly #addressOf: (containerId: string) => string;
  readonly #claims = new Map<string, Claim>();

  /** `addressOf`: where published ports of a container lead to, '' = nowhere now. */
  constructor(
    environment: PortsEnvironment,
    ingress: () => IngressState | undefined,
    addressOf: (containerId: string) => string,
  ) {
    this.#random = environment.random;
    this.#log = environment.log;
    this.#limits = environment.limits;
    this.#addressOf = addressOf;
    this.#ingress = ingress;
  }

  /**
   * The container has these ports instead of what it had; all or none. Returns them with dynamic
   * ones chosen. SwarmError conflict names who has one.
   */
  claim(owner: Owner, wanted: readonly PublishedPort[]): readonly PublishedPort[] {
    if (wanted.length > PORTS_MAX) {
      throw new SwarmError('invalid', `more than ${PORTS_MAX} published ports of one container`);
    }
    const before = this.#claims.get(owner.containerId);
    this.#claims.delete(owner.containerId);
    if (before !== undefined) letGo(before);
    const sockets: number[] = [];
    const ports: PublishedPort[] = [];
    try {
      for (const port of wanted) {
        const { port: given, fd } = this.#give(port, ports, owner);
        ports.push(given);
        sockets.push(fd);
      }
    } catch (error) {
      for (const fd of sockets) close(fd);
      if (before !== undefined) this.adopt(before.owner, before.ports);
      throw error;
    }
    if (ports.length > 0) this.#take(owner, ports, sockets);
    return ports;
  }

  #give(
    port: PublishedPort,
    ports: readonly PublishedPort[],
    owner: Owner,
  ): { port: PublishedPort; fd: number } {
    if (port.hostPort !== 0) {
      const taker = this.#taker(port, ports, owner);
      const fd = taker === '' ? holdPort(port) : undefined;
      if (fd !== undefined) return { port, fd };
      const { protocol, hostPort } = port;
      throw new SwarmError(
        'conflict',
        `port ${hostPort}/${protocol} is already taken by ` +
          (taker || processWithPort(protocol, hostPort)),
      );
    }
    const start = this.#random.below(DYNAMIC_COUNT);
    for (let attempt = 0; attempt < DYNAMIC_TRIES; attempt += 1) {
      const hostPort = DYNAMIC_FIRST + ((start + attempt) % DYNAMIC_COUNT);
      const chosen = { ...port, hostPort };
      if (this.#taker(chosen, ports, owner) !== '') continue;
      const fd = holdPort(chosen);
      if (fd !== undefined) return { port: chosen, fd };
    }
    throw new SwarmError('exhausted', 'no free port of this host was found to publish one on');
  }

  /** '' = nobody of ours. */
  #taker(port: PublishedPort, mine: readonly PublishedPort[], owner: Owner): string {
    if (mine.some((other) => clash(port, other))) {
      return `container ${owner.name || shortId(owner.containerId)} itself`;
    }
    for (const claim of this.#claims.values()) {
      if (!claim.ports.some((other) => clash(port, other))) continue;
      return `container ${claim.owner.name || shortId(claim.owner.containerId)}`;
    }
    for (const other of this.#ingress()?.ports ?? []) {
      const isSame = other.protocol === port.protocol && other.publishedPort === port.hostPort;
      if (!isSame || !overlap(other.hostAddress ?? '', port.hostAddress)) continue;
      return `service ${other.serviceName || other.serviceId}`;
    }
    return '';
  }

  /** Ports of services that lead to a container of this host instead, who had them before. */
  contested(): string[] {
    const claims = [...this.#claims.values()];
    return (this.#ingress()?.ports ?? []).flatMap((port) => {
      const { protocol, publishedPort: hostPort, hostAddress = '' } = port;
      const wanted = { protocol, hostPort, hostAddress, containerPort: 0 };
      const holder = claims.find(({ ports }) => ports.some((other) => clash(wanted, other)));
      if (holder === undefined) return [];
      const name = holder.owner.name || shortId(holder.owner.containerId);
      return `${hostPort}/${protocol} of ${port.serviceName || port.serviceId}: container ${name}`;
    });
  }

  /** What an earlier daemon gave; a port that somebody took meanwhile is the container's still. */
  adopt(owner: Owner, ports: readonly PublishedPort[]): void {
    if (ports.length === 0) return;
    const sockets = ports.map((port) => {
      try {
        return holdPort(port);
      } catch {
        return undefined; // its address is gone: the rules for it match nothing until it is back
      }
    });
    this.#take(owner, ports, sockets);
  }

  /** `sockets`: what holds each of the ports. */
  #take(
    owner: Owner,
    ports: readonly PublishedPort[],
    sockets: readonly (number | undefined)[],
  ): void {
    const held: number[] = [];
    const relays: Relay[] = [];
    for (const [at, port] of ports.entries()) {
      const fd = sockets[at];
      if (fd !== undefined && isCarried(port)) relays.push(this.#relay(owner, port, fd));
      else if (fd !== undefined) held.push(fd);
      const other = listenByIpv6(port);
      if (other !== undefined) relays.push(this.#relay(owner, port, other));
    }
    this.#claims.set(owner.containerId, { owner, ports, sockets: held, relays });
  }

  #relay(
    { containerId }: Owner,
    { containerPort, hostPort: port }: PublishedPort,
    fd: number,
  ): Relay {
    let told = false;
    const onError = (error: Error): void => {
      const fields = { port, container: shortId(containerId), reason: messageOf(error) };
      if (!told) this.#log.warn(NOT_EVERY, fields);
      told = true;
    };
    const target = (): RelayTarget | undefined => {
      const address = this.#addressOf(containerId);
      return address === '' ? undefined : { address, port: containerPort };
    };
    return new Relay(fd, target, { limits: this.#limits, onError });
  }

  rename(containerId: string, name: string): void {
    const claim = this.#claims.get(containerId);
    if (claim === undefined) return;
    this.#claims.set(containerId, { ...claim, owner: { containerId, name } });
  }

  release(containerId: string): void {
    const claim = this.#claims.get(containerId);
    this.#claims.delete(containerId);
    if (claim !== undefined) letGo(claim);
  }

  close(): void {
    for (const containerId of [...this.#claims.keys()]) this.release(containerId);
  }
}

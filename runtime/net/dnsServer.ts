/**
 * A container's DNS server at 127.0.0.11: one UDP and one TCP socket made inside its namespace on a
 * port of their own, behind a DNAT of port 53, so that a container which serves DNS itself is not
 * disturbed. The port is kept across a restart of the daemon: the DNAT rule stays as it is.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { AF_INET } from '../../base/ipAddress.ts';
import type { Random } from '../../base/random.ts';
import {
  bind,
  check,
  close,
  define,
  EADDRINUSE,
  errno,
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
import type { NetworkNamespace } from '../sys/netns.ts';
import { decide, failure, type Transport, type Zone } from './dns.ts';
import { type DnsUpstream, framed, type OwnServers } from './dnsUpstream.ts';
import { DNS_ADDRESS } from './files.ts';
import type { NftTable } from './table.ts';

const EINPROGRESS = 115;
const F_DUPFD_CLOEXEC = 1030;
const DNS_PORT = 53;
const PORT_FIRST = 32_768;
const PORT_COUNT = 28_000;
const PORT_TRIES = 20;
/** Questions of one container that upstream servers are being asked. */
const RELAYED_MAX = 64;
const TCP_BACKLOG = 64;
const TCP_CONNECTIONS_MAX = 32;
const TCP_IDLE_MS = 10_000;
const TCP_MESSAGE_BYTES = 65_537;

const connect = define<(fd: number, address: Uint8Array, length: number) => number>(
  '',
  'int connect(int fd, const void *address, unsigned int length)',
);

const duplicate = define<(fd: number, command: number, least: number) => number>(
  '',
  'int fcntl(int fd, int command, int least)',
);

export const DNS_TABLE = 'tsswarm_dns';

/** In the container's namespace: port 53 of the DNS address is `port`. */
export function dnsTable(port: number): NftTable {
  const fixed = `
chain name_questions {
  type nat hook output priority -100; policy accept;
  ip daddr ${DNS_ADDRESS} udp dport 53 dnat to ${DNS_ADDRESS}:${port}
  ip daddr ${DNS_ADDRESS} tcp dport 53 dnat to ${DNS_ADDRESS}:${port}
}
`;
  return { family: 'ip', name: DNS_TABLE, fixed, chains: new Map(), elements: new Map() };
}

/** A socket of the thread's namespace; for TCP connecting to port 53 of `server` already. */
export function upstreamSocket(transport: Transport, server: string): number {
  const type = transport === 'udp' ? SOCK_DGRAM : SOCK_STREAM;
  const fd = check(
    socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
    'cannot make a DNS socket',
  );
  if (transport === 'udp') return fd;
  const address = socketAddress(server, DNS_PORT);
  if (connect(fd, address, address.length) >= 0 || errno() === EINPROGRESS) return fd;
  const failure = systemError(`cannot reach DNS server ${server}`);
  close(fd);
  throw failure;
}

/** A bound socket, or undefined where the port is taken. Inside the namespace. */
function boundSocket(type: number, port: number): number | undefined {
  const fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError('cannot make a DNS socket');
  if (type === SOCK_STREAM) {
    const one = Buffer.from([1, 0, 0, 0]);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, one, one.length); // else restarts are slower
  }
  const address = socketAddress(DNS_ADDRESS, port);
  if (bind(fd, address, address.length) >= 0) return fd;
  const code = errno();
  close(fd);
  if (code === EADDRINUSE) return undefined;
  throw systemError(`cannot bind ${DNS_ADDRESS}:${port}`, code);
}

interface BoundPair {
  readonly udp: number;
  readonly tcp: number;
  readonly port: number;
}

function bindPair(port: number): BoundPair | undefined {
  const udp = boundSocket(SOCK_DGRAM, port);
  if (udp === undefined) return undefined;
  const tcp = boundSocket(SOCK_STREAM, port);
  if (tcp !== undefined && listen(tcp, TCP_BACKLOG) >= 0) return { udp, tcp, port };
  close(udp);
  if (tcp !== undefined) close(tcp);
  return undefined;
}

/** Sockets that were kept open while no daemon ran. */
export interface KeptSockets {
  readonly containerId: string;
  readonly udp: number;
  readonly tcp: number;
}

/** The port to listen on (0 = a free one), or bound sockets for it that were kept. */
export interface DnsSockets {
  readonly port: number;
  readonly kept?: KeptSockets | undefined;
}

export interface DnsServerOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly upstream: DnsUpstream;
  /** The zones this container may ask, at the moment of the question. */
  readonly zones: () => readonly Zone[];
  /** Whether it may ask outside: not from internal networks alone. */
  readonly asksOutside: () => boolean;
  /** The container's own upstream servers; none = the host's. */
  readonly own: OwnServers;
}

export class DnsServer {
  readonly port: number;
  readonly #options: DnsServerOptions;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #pair: BoundPair;
  readonly #connections = new Set<Socket>();
  #open = true;
  #relayed = 0;

  private constructor(options: DnsServerOptions, pair: BoundPair) {
    this.#options = options;
    this.port = pair.port;
    this.#pair = pair;
    this.#udp = createSocket('udp4');
    this.#tcp = createServer((connection) => this.#serve(connection));
    this.#tcp.maxConnections = TCP_CONNECTIONS_MAX;
    this.#udp.on('error', () => {}); // a failed send: the asker repeats its question
    this.#udp.on('message', (message, from) => {
      if (from.port === 0) return; // made by hand: nobody can be answered there
      void this.#answer(message, 'udp', (bytes) => {
        if (this.#open) this.#udp.send(bytes, from.port, from.address);
      });
    });
    this.#tcp.on('error', () => {}); // a failed accept: the asker tries again
  }

  /** Listens in `namespace`. Throws SwarmError. */
  static async open(
    namespace: NetworkNamespace,
    { port, kept }: DnsSockets,
    options: DnsServerOptions,
  ): Promise<DnsServer> {
    const pair = namespace.within(() => {
      if (kept !== undefined) return { udp: kept.udp, tcp: kept.tcp, port };
      if (port !== 0) return bindPair(port);
      for (let attempt = 0; attempt < PORT_TRIES; attempt += 1) {
        const found = bindPair(PORT_FIRST + options.random.below(PORT_COUNT));
        if (found !== undefined) return found;
      }
      return undefined;
    });
    if (pair === undefined) {
      throw new SwarmError('conflict', `no port for DNS in ${namespace.path}: ${port} is taken`);
    }
    const server = new DnsServer(options, pair);
    await Promise.all([
      new Promise<void>((resolve) => server.#udp.bind({ fd: pair.udp }, resolve)),
      new Promise<void>((resolve) => server.#tcp.listen({ fd: pair.tcp }, resolve)),
    ]);
    return server;
  }

  /** Copies of its sockets, the caller's to close; none once it is closed. */
  copies(): readonly number[] {
    if (!this.#open) return [];
    return [this.#pair.udp, this.#pair.tcp].map((fd) =>
      check(duplicate(fd, F_DUPFD_CLOEXEC, 0), 'cannot copy a DNS socket'),
    );
  }

  async #answer(
    message: Buffer,
    transport: Transport,
    reply: (bytes: Buffer) => void,
  ): Promise<void> {
    const { zones, random } = this.#options;
    const decision = decide(message, transport, zones(), random);
    if (decision.kind === 'ignore') return;
    if (decision.kind === 'answer') {
      reply(decision.bytes);
      return;
    }
    const answer = (await this.#relay(message, transport)) ?? failure(message);
    if (answer !== undefined) reply(answer);
  }

  /** No container has all of what the host relays at a time to itself. */
  async #relay(message: Buffer, transport: Transport): Promise<Buffer | undefined> {
    if (this.#relayed >= RELAYED_MAX || !this.#options.asksOutside()) return undefined;
    this.#relayed += 1;
    try {
      return await this.#options.upstream.ask(message, transport, this.#options.own);
    } finally {
      this.#relayed -= 1;
    }
  }

  #serve(connection: Socket): void {
    this.#connections.add(connection);
    let received = Buffer.alloc(0);
    let idle: Timer = this.#options.clock.after(TCP_IDLE_MS, () => connection.destroy());
    connection.on('error', () => connection.destroy());
    connection.on('close', () => {
      idle.cancel();
      this.#connections.delete(connection);
    });
    connection.on('data', (chunk) => {
      idle.cancel();
      idle = this.#options.clock.after(TCP_IDLE_MS, () => connection.destroy());
      received = Buffer.concat([received, chunk]);
      if (received.length > TCP_MESSAGE_BYTES) connection.destroy();
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const message = received.subarray(2, end);
        received = received.subarray(end);
        void this.#answer(message, 'tcp', (bytes) => {
          if (connection.writable) connection.write(framed(bytes));
        });
      }
    });
  }

  close(): void {
    this.#open = false;
    for (const connection of this.#connections) connection.destroy();
    this.#tcp.close();
    this.#udp.close();
  }
}

/**
 * Asks upstream servers on behalf of containers: those of the host's resolv.conf from the host's
 * namespace, a container's own from the container's. One after another, each with a deadline, all
 * within a bound on how many are under way. It relays messages as they are; only the id is its own,
 * so that answers cannot be guessed or mixed up.
 */
import { createSocket } from 'node:dgram';
import { readFileSync, statSync } from 'node:fs';
import { createConnection, isIP, Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import { nameservers, rcodeOf, type Transport } from './dns.ts';

const UPSTREAMS_MAX = 3;
const UPSTREAM_TIMEOUT_MS = 2_000;
/** Beyond this a question is answered SERVFAIL at once. */
const CONCURRENT_MAX = 512;
const RESOLV_CONF = '/etc/resolv.conf';
const DNS_PORT = 53;
const SERVFAIL = 2;
const REFUSED = 5;
const ID_BOUND = 65_536;
const LENGTH_BYTES = 2;

/** A container's own servers (IPv4) and the way to them. */
export interface OwnServers {
  readonly addresses: readonly string[];
  /** A socket of the container's namespace; for TCP connecting to port 53 of `server` already. */
  readonly open: (transport: Transport, server: string) => number;
}

export class DnsUpstream {
  readonly #clock: Clock;
  readonly #random: Random;
  #underWay = 0;
  #resolvConfMtimeMs = -1;
  #servers: readonly string[] = [];

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The answer to `query`, its id restored; undefined when no server answered or too many ask. */
  async ask(query: Buffer, transport: Transport, own: OwnServers): Promise<Buffer | undefined> {
    if (this.#underWay >= CONCURRENT_MAX) return undefined;
    this.#underWay += 1;
    try {
      const isOwn = own.addresses.length > 0;
      const servers = isOwn ? own.addresses.slice(0, UPSTREAMS_MAX) : this.#hostServers();
      let last: Buffer | undefined;
      for (const server of servers) {
        const answer = await this.#askOne(server, query, transport, isOwn ? own : undefined);
        if (answer === undefined) continue;
        last = answer;
        const rcode = rcodeOf(answer);
        if (rcode !== SERVFAIL && rcode !== REFUSED) return answer;
      }
      return last;
    } finally {
      this.#underWay -= 1;
    }
  }

  #hostServers(): readonly string[] {
    try {
      const { mtimeMs } = statSync(RESOLV_CONF);
      if (mtimeMs !== this.#resolvConfMtimeMs) {
        this.#servers = nameservers(readFileSync(RESOLV_CONF, 'utf8'), UPSTREAMS_MAX);
        this.#resolvConfMtimeMs = mtimeMs;
      }
    } catch {
      this.#servers = []; // a host without a resolver: outside names fail, inside ones work
      this.#resolvConfMtimeMs = -1;
    }
    return this.#servers;
  }

  async #askOne(
    server: string,
    query: Buffer,
    transport: Transport,
    own: OwnServers | undefined,
  ): Promise<Buffer | undefined> {
    if (isIP(server) !== 4 && (own !== undefined || isIP(server) !== 6)) return undefined;
    const relayed = Buffer.from(query);
    relayed.writeUInt16BE(this.#random.below(ID_BOUND), 0);
    let fd: number | undefined;
    try {
      fd = own?.open(transport, server);
    } catch {
      return undefined; // no way to this server from the container: the next one is tried
    }
    const exchange = transport === 'udp' ? this.#askUdp : this.#askTcp;
    const answer = await exchange.call(this, server, relayed, fd);
    if (answer === undefined) return undefined;
    const restored = Buffer.from(answer);
    query.copy(restored, 0, 0, 2);
    return restored;
  }

  #askUdp(server: string, query: Buffer, fd: number | undefined): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket = createSocket(isIP(server) === 6 ? 'udp6' : 'udp4');
      const finish = (answer: Buffer | undefined): void => {
        timer.cancel();
        socket.removeAllListeners();
        socket.on('error', () => {}); // closing: whatever comes now has no reader
        socket.close();
        resolve(answer);
      };
      const timer = this.#clock.after(UPSTREAM_TIMEOUT_MS, () => finish(undefined));
      socket.on('error', () => finish(undefined));
      socket.on('message', (answer) => {
        if (answer.length > 2 && answer.readUInt16BE(0) === query.readUInt16BE(0)) finish(answer);
      });
      // Connected: only this server's answers come in, and a refusal is seen at once.
      const ask = (): void =>
        socket.connect(DNS_PORT, server, ((error?: Error) => {
          // Node calls back with the error too, undocumented: no route to the server, for one.
          if (error === undefined) socket.send(query);
          else finish(undefined);
        }) as () => void);
      if (fd === undefined) ask();
      else socket.bind({ fd }, ask);
    });
  }

  #askTcp(server: string, query: Buffer, fd: number | undefined): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const socket =
        fd === undefined
          ? createConnection({ host: server, port: DNS_PORT })
          : new Socket({ fd, readable: true, writable: true });
      let received = Buffer.alloc(0);
      const finish = (answer: Buffer | undefined): void => {
        timer.cancel();
        socket.destroy();
        resolve(answer);
      };
      const timer = this.#clock.after(UPSTREAM_TIMEOUT_MS, () => finish(undefined));
      socket.on('error', () => finish(undefined));
      socket.on('close', () => finish(undefined));
      socket.write(framed(query)); // waits for the connection
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        if (received.length < LENGTH_BYTES) return;
        const end = LENGTH_BYTES + received.readUInt16BE(0);
        if (received.length >= end) finish(received.subarray(LENGTH_BYTES, end));
      });
    });
  }
}

/** A message with TCP's length prefix. */
export function framed(message: Buffer): Buffer {
  const bytes = Buffer.alloc(LENGTH_BYTES + message.length);
  bytes.writeUInt16BE(message.length, 0);
  message.copy(bytes, LENGTH_BYTES);
  return bytes;
}

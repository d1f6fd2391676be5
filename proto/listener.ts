/**
 * The TLS listener under the gRPC server and links: asks every caller for a certificate, requires
 * none, keeps a record of who is connected, and changes its own certificate without a restart. It
 * decides nothing about what a caller may do; it says of each connection whether it has verified
 * it.
 */
import { constants as cryptoConstants } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import * as tls from 'node:tls';
import { SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type NodeCredentials, type PeerIdentity, peerFromCertificate } from './credentials.ts';
import { LINK_PROTOCOL } from './link.ts';

const MAX_CONNECTIONS = 8192;
/** Callers without a certificate that counts: they can only join, one call each. */
const MAX_UNVERIFIED = 256;
const HANDSHAKE_TIMEOUT_MS = 5000;

export interface ListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly tls: NodeCredentials;
}

function contextOptions(credentials: NodeCredentials): tls.SecureContextOptions {
  return {
    ca: credentials.rootCertificate,
    cert: credentials.certificate,
    key: credentials.privateKey,
    minVersion: 'TLSv1.3',
    // A resumed session would carry the verdict of an earlier handshake past a rotation.
    secureOptions: cryptoConstants.SSL_OP_NO_TICKET,
  };
}

export interface HandOn {
  call(socket: tls.TLSSocket, isMember: boolean): void;
  /** A caller that wants a link, and who TLS has verified it to be. */
  link(socket: tls.TLSSocket, from: string, peer: PeerIdentity | undefined): void;
}

export class TlsListener {
  readonly #log: Log;
  readonly #handOn: HandOn;
  /** Node id of each connection's verified peer; undefined without one. */
  readonly #sockets = new Map<tls.TLSSocket, string | undefined>();
  /** By 'address:port' of the caller: why its certificate does not count. For messages only. */
  readonly #problems = new Map<string, string>();
  #server: tls.Server | undefined;
  #unverified = 0;

  constructor(log: Log, handOn: HandOn) {
    this.#log = log;
    this.#handOn = handOn;
  }

  /** SwarmError unavailable when the port cannot be had. */
  async listen(options: ListenOptions): Promise<{ port: number }> {
    const server = tls.createServer({
      ...contextOptions(options.tls),
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ['h2', LINK_PROTOCOL],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      noDelay: true,
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.on('secureConnection', (socket) => this.#accept(socket));
    server.on('tlsClientError', (error) => {
      this.#log.debug('TLS handshake failed', { error: error.message });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const where = `${options.host}:${options.port}`;
        reject(new SwarmError('unavailable', `cannot listen on ${where}: ${error.message}`));
      });
      server.listen(options.port, options.host, resolve);
    });
    server.on('error', (error) => this.#log.error('listener', { error: error.message }));
    this.#server = server;
    return { port: (server.address() as AddressInfo).port };
  }

  setTls(credentials: NodeCredentials): void {
    this.#server?.setSecureContext(contextOptions(credentials));
  }

  disconnect(nodeId: string): void {
    for (const [socket, peer] of this.#sockets) if (peer === nodeId) socket.destroy();
  }

  /** Why the certificate that came from 'address:port' does not count; '' when there is none. */
  problemOf(from: string): string {
    return this.#problems.get(from) ?? '';
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets.keys()) socket.destroy();
    if (server === undefined) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  }

  #accept(socket: tls.TLSSocket): void {
    socket.on('error', (error) => this.#log.debug('connection', { from, error: error.message }));
    const from = `${socket.remoteAddress}:${socket.remotePort}`;
    const isLink = socket.alpnProtocol === LINK_PROTOCOL;
    if (this.#server === undefined || (socket.alpnProtocol !== 'h2' && !isLink)) {
      socket.destroy();
      return;
    }
    const certificate = socket.getPeerCertificate();
    // It does not change while the connection lasts (TLS 1.3), and every call asks for it.
    socket.getPeerCertificate = (): tls.DetailedPeerCertificate =>
      certificate as tls.DetailedPeerCertificate;
    const presented = certificate?.raw !== undefined;
    const peer = socket.authorized && presented ? peerFromCertificate(certificate) : undefined;
    if (peer === undefined) {
      // Strangers must not take what the cluster's own hosts need.
      if (this.#unverified >= MAX_UNVERIFIED) {
        socket.destroy();
        return;
      }
      this.#unverified += 1;
      socket.once('close', () => {
        this.#unverified -= 1;
      });
    }
    if (presented && peer === undefined) {
      this.#problems.set(from, String(socket.authorizationError ?? 'not a node certificate'));
    }
    this.#sockets.set(socket, peer?.nodeId);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#problems.delete(from);
    });
    if (isLink) this.#handOn.link(socket, from, peer);
    else this.#handOn.call(socket, peer !== undefined);
  }
}

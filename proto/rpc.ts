/**
 * gRPC over mutual TLS; grpc-js's one door. RpcServer: a TLS listener that asks for certificates
 * without requiring them, feeding grpc-js and links; an identity counts only where TLS verified it,
 * and every call passes the injected authorizer. RpcChannel: a connection with short back-offs and
 * a connect deadline, typed calls by service descriptor. It knows no store and decides no policy.
 */
import * as tls from 'node:tls';
import type { DescMethod } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { AssertionError } from '../base/assert.ts';
import { KIB, MIB } from '../base/bytes.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  checkServer,
  type ExpectedServer,
  type NodeCredentials,
  type PeerIdentity,
  peerFromCertificate,
  TLS_SERVER_NAME,
} from './credentials.ts';
import { LinkGate } from './link.ts';
import { type ListenOptions, TlsListener } from './listener.ts';
import {
  type AnyMessage,
  decoder,
  encoder,
  type Guard,
  guard,
  pathOf,
  readAll,
  targetOf,
  writeTo,
} from './rpcCodec.ts';
import {
  type CallOptions,
  type Client,
  type Conversation,
  type Handlers,
  type Incoming,
  MessageQueue,
  type MethodName,
  type ServiceDescriptor,
} from './rpcTypes.ts';
import { ServedCall } from './servedCall.ts';
import { ERROR_CODE_KEY, ERROR_DETAIL_KEY, errorOfStatus, statusOf } from './status.ts';
import { statusAtOnce } from './statusAtOnce.ts';

export type * from './rpcTypes.ts';

/** Assignments of a large node and Raft batches stay well below it. */
const MAX_MESSAGE_BYTES = 16 * MIB;
/** Strangers ask for a certificate only, and what they send is decoded before it is judged. */
const MAX_STRANGER_MESSAGE_BYTES = 64 * KIB;
const MAX_STRANGER_STREAMS = 8;
/** One stream's and connection's window: a batch of Raft entries should not wait for updates. */
const FLOW_WINDOW_BYTES = MIB;
const MAX_STREAMS_PER_CONNECTION = 256;
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MOST_MS = 500;
const CONNECT_TIMEOUT_MS = 1500;
const UNARY_TIMEOUT_MS = 10_000;
const KEEPALIVE_MS = 5000;
const KEEPALIVE_TIMEOUT_MS = 3000;

// ---- server ------------------------------------------------------------------------------------

/**
 * Throws SwarmError (unauthorized, forbidden) unless `peer` may call `method`. `problem` says why
 * a certificate that was presented does not count; '' when none was.
 */
export type Authorize = (
  peer: PeerIdentity | undefined,
  method: MethodName,
  problem: string,
) => void;

export interface RpcServerOptions {
  readonly log: Log;
  readonly clock: Clock;
  readonly authorize: Authorize;
}

type ServerCall = grpc.ServerDuplexStream<AnyMessage, AnyMessage> & { request: AnyMessage };
type UnaryAnswer = grpc.sendUnaryData<AnyMessage>;
type AnyHandler = (...parts: unknown[]) => Promise<AnyMessage | undefined>;

interface Served {
  readonly server: grpc.Server;
  readonly injector: ReturnType<grpc.Server['createConnectionInjector']>;
}

function serve(maxMessageBytes: number, maxStreams: number): Served {
  const server = new grpc.Server({
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    'grpc.max_concurrent_streams': maxStreams,
    'grpc-node.flow_control_window': Math.min(FLOW_WINDOW_BYTES, maxMessageBytes),
    'grpc.enable_channelz': 0,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    // Only the interface is asked for of what an interceptor gives back.
    interceptors: [(method, call) => statusAtOnce(method, call as grpc.ServerInterceptingCall)],
  });
  // Callers reach it through TlsListener only: what is injected has been through TLS.
  const plain = grpc.ServerCredentials.createInsecure();
  return { server, injector: server.createConnectionInjector(plain) };
}

export class RpcServer {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #authorize: Authorize;
  /** For the cluster's own hosts, and for callers without a certificate that counts. */
  readonly #members: Served;
  readonly #strangers: Served;
  readonly #listener: TlsListener;
  readonly links: LinkGate;
  /** Of each connection's certificate, which is one object for as long as the connection lasts. */
  readonly #peers = new WeakMap<tls.PeerCertificate, PeerIdentity>();

  constructor(options: RpcServerOptions) {
    this.#log = options.log;
    this.#clock = options.clock;
    this.#authorize = options.authorize;
    this.#members = serve(MAX_MESSAGE_BYTES, MAX_STREAMS_PER_CONNECTION);
    this.#strangers = serve(MAX_STRANGER_MESSAGE_BYTES, MAX_STRANGER_STREAMS);
    this.links = new LinkGate(this.#clock, (...asked) => this.#judge(...asked));
    this.#listener = new TlsListener(this.#log, {
      call: (socket, isMember) => {
        const { injector } = isMember ? this.#members : this.#strangers;
        injector.injectConnection(socket);
      },
      link: (socket, from, peer) => this.links.take(socket, from, peer),
    });
  }

  /** Serves the methods given; returns the function that withdraws them. */
  handle<S extends ServiceDescriptor>(service: S, implementation: Handlers<S>): () => void {
    const paths: string[] = [];
    for (const method of service.methods) {
      const handler = (implementation as Record<string, AnyHandler | undefined>)[method.localName];
      if (handler === undefined) continue;
      const adapted = this.#adapt(method, handler.bind(implementation));
      for (const { server } of [this.#members, this.#strangers]) {
        const added = server.register(
          pathOf(method),
          adapted as grpc.handleUnaryCall<AnyMessage, AnyMessage>,
          encoder(method.output),
          decoder(method.input),
          GRPC_KIND[method.methodKind],
        );
        if (!added) throw new AssertionError(`${pathOf(method)} is served twice`);
      }
      paths.push(pathOf(method));
    }
    return () => {
      for (const path of paths) {
        for (const { server } of [this.#members, this.#strangers]) server.unregister(path);
      }
    };
  }

  /** SwarmError unavailable when the port cannot be had. */
  listen(options: ListenOptions): Promise<{ port: number }> {
    return this.#listener.listen(options);
  }

  /** New connections use `credentials` from now on; those that are open stay as they are. */
  setTls(credentials: NodeCredentials): void {
    this.#listener.setTls(credentials);
  }

  /** Ends every connection of a node (it was removed, or its role changed). */
  disconnect(nodeId: string): void {
    this.#listener.disconnect(nodeId);
  }

  async close(): Promise<void> {
    for (const { server, injector } of [this.#members, this.#strangers]) {
      injector.destroy();
      server.forceShutdown();
    }
    await this.#listener.close();
  }

  /** The caller's identity, checked: grpc-js shows a certificate only where TLS authorized it. */
  #identify(call: ServerCall, method: MethodName): PeerIdentity | undefined {
    const certificate = call.getAuthContext().sslPeerCertificate;
    const peer = certificate === undefined ? undefined : this.#peerOf(certificate);
    return this.#judge(peer, method, peer === undefined ? call.getPeer() : '');
  }

  #judge(peer: PeerIdentity | undefined, method: MethodName, from: string): typeof peer {
    const isExpired = peer !== undefined && peer.expiresAtMs <= this.#clock.wallMs();
    const problem = isExpired ? 'CERT_HAS_EXPIRED' : this.#listener.problemOf(from);
    const counts = isExpired ? undefined : peer;
    this.#authorize(counts, method, problem);
    return counts;
  }

  #peerOf(certificate: tls.PeerCertificate): PeerIdentity | undefined {
    let peer = this.#peers.get(certificate);
    if (peer === undefined) {
      peer = peerFromCertificate(certificate);
      if (peer !== undefined) this.#peers.set(certificate, peer);
    }
    return peer;
  }

  #adapt(method: DescMethod, handler: AnyHandler): (call: ServerCall, done: UnaryAnswer) => void {
    const name: MethodName = { service: method.parent.typeName, method: method.name };
    const bidi = method.methodKind === 'bidi_streaming';
    const streamsOut = method.methodKind === 'server_streaming' || bidi;
    const run = async (call: ServerCall): Promise<AnyMessage | undefined> => {
      const context = new ServedCall(call, this.#identify(call, name));
      if (!streamsOut) return handler(call.request, context);
      const { signal } = context;
      const input = bidi ? readAll(call, signal) : call.request;
      const send = (message: AnyMessage): Promise<void> => writeTo(call, message, signal);
      return handler(input, send, context);
    };
    return (call, done) => {
      const fail = (error: unknown): void => {
        if (error instanceof AssertionError) throw error;
        if (!(error instanceof SwarmError)) {
          this.#log.error('handler failed', { method: pathOf(method), error: String(error) });
        }
        const status = grpcStatusOf(error);
        if (streamsOut) call.emit('error', status);
        else done(status);
      };
      // An assertion thrown by `fail` stays unhandled on purpose: it ends the process.
      void run(call).then((answer) => {
        if (streamsOut) call.end();
        else done(null, answer ?? null);
      }, fail);
    };
  }
}

const GRPC_KIND: Readonly<Record<DescMethod['methodKind'], string>> = {
  unary: 'unary',
  server_streaming: 'serverStream',
  client_streaming: 'clientStream',
  bidi_streaming: 'bidi',
};

function grpcStatusOf(error: unknown): grpc.ServerErrorResponse {
  const status = statusOf(error);
  const metadata = new grpc.Metadata();
  metadata.set(ERROR_CODE_KEY, status.errorCode);
  metadata.set(ERROR_DETAIL_KEY, Buffer.from(status.detail));
  return Object.assign(new Error(status.message), {
    code: status.code,
    details: status.message,
    metadata,
  });
}

// ---- client ------------------------------------------------------------------------------------

export interface RpcChannelOptions {
  readonly clock: Clock;
  readonly expect?: ExpectedServer;
  /** Default 1.5 s: a SYN that nobody answers is not waited for as long as TCP would. */
  readonly connectTimeoutMs?: number;
}

/**
 * How to trust the server: with a node's credentials; with the root certificate alone (a caller
 * without a certificate yet); or not at all, which only fetching the root certificate may do.
 */
export type ChannelTrust =
  | { readonly kind: 'node'; readonly credentials: NodeCredentials }
  | { readonly kind: 'root'; readonly rootCertificate: string }
  | { readonly kind: 'unverified' };

function channelCredentials(
  trust: ChannelTrust,
  expected: ExpectedServer,
): grpc.ChannelCredentials {
  if (trust.kind === 'unverified') {
    const context = tls.createSecureContext({ minVersion: 'TLSv1.3' });
    return grpc.ChannelCredentials.createFromSecureContext(context, { rejectUnauthorized: false });
  }
  const context = tls.createSecureContext({
    minVersion: 'TLSv1.3',
    ...(trust.kind === 'root'
      ? { ca: trust.rootCertificate }
      : {
          ca: trust.credentials.rootCertificate,
          cert: trust.credentials.certificate,
          key: trust.credentials.privateKey,
        }),
  });
  return grpc.ChannelCredentials.createFromSecureContext(context, {
    checkServerIdentity: (_host, certificate) => checkServer(certificate, expected),
  });
}

/** grpc-js never gives up a TLS handshake, nor ends it when its channel is closed: this does. */
function boundHandshakes(
  credentials: grpc.ChannelCredentials,
  clock: Clock,
  timeoutMs: number,
): grpc.ChannelCredentials {
  const makeConnector = credentials._createSecureConnector.bind(credentials);
  credentials._createSecureConnector = (...parts) => {
    const connector = makeConnector(...parts);
    const connect = connector.connect.bind(connector);
    connector.connect = async (socket) => {
      const timer = clock.afterIdle(timeoutMs, () => socket.destroy());
      try {
        return await connect(socket);
      } finally {
        timer.cancel();
      }
    };
    return connector;
  };
  return credentials;
}

/** One connection to one server, made when first used and again when lost. */
export class RpcChannel {
  readonly address: string;
  readonly #options: RpcChannelOptions;
  readonly #credentials: grpc.ChannelCredentials;
  #client: grpc.Client | undefined;
  #connecting: Timer | undefined;
  #closed = false;

  constructor(address: string, trust: ChannelTrust, options: RpcChannelOptions) {
    this.address = address;
    this.#options = options;
    this.#credentials = boundHandshakes(
      channelCredentials(trust, options.expect ?? {}),
      options.clock,
      options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    );
  }

  get clock(): Clock {
    return this.#options.clock;
  }

  /** The library's client, with a watch over how long it takes to connect. */
  grpcClient(): grpc.Client {
    if (this.#closed) throw new SwarmError('cancelled', `the channel to ${this.address} is closed`);
    this.#client ??= new grpc.Client(targetOf(this.address), this.#credentials, {
      'grpc.ssl_target_name_override': TLS_SERVER_NAME,
      'grpc.default_authority': TLS_SERVER_NAME,
      'grpc.initial_reconnect_backoff_ms': BACKOFF_FIRST_MS,
      'grpc.max_reconnect_backoff_ms': BACKOFF_MOST_MS,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc-node.flow_control_window': FLOW_WINDOW_BYTES,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_channelz': 0,
      'grpc.service_config_disable_resolution': 1,
    });
    this.#watchConnect(this.#client);
    return this.#client;
  }

  close(): void {
    this.#closed = true;
    this.#connecting?.cancel();
    this.#client?.close();
    this.#client = undefined;
  }

  /** A connection attempt that hangs is given up, so that the next call makes a new one. */
  #watchConnect(client: grpc.Client): void {
    const channel = client.getChannel();
    const ready = grpc.connectivityState.READY;
    if (this.#connecting !== undefined || channel.getConnectivityState(true) === ready) return;
    const timeoutMs = this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#connecting = this.clock.afterIdle(timeoutMs, () => {
      this.#connecting = undefined;
      if (this.#client !== client) return;
      if (channel.getConnectivityState(false) !== grpc.connectivityState.CONNECTING) return;
      this.#client = undefined;
      client.close();
    });
  }
}

function fromService(address: string, error: grpc.ServiceError): SwarmError {
  const code = error.metadata?.get(ERROR_CODE_KEY)[0];
  const detail = error.metadata?.get(ERROR_DETAIL_KEY)[0];
  return errorOfStatus(
    address,
    error.code,
    error.details,
    typeof code === 'string' ? code : undefined,
    detail instanceof Uint8Array ? detail : undefined,
  );
}

type ReadCall = grpc.ClientReadableStream<AnyMessage>;

function incoming(call: ReadCall, address: string, watch: Guard): Incoming<AnyMessage> {
  const queue = new MessageQueue<AnyMessage>({
    pause: () => call.pause(),
    resume: () => call.resume(),
  });
  call.on('data', (message: AnyMessage) => queue.push(message));
  call.on('end', () => queue.end());
  call.on('error', (error: grpc.ServiceError) => {
    queue.end(watch.reason() ?? fromService(address, error));
  });
  call.on('status', () => watch.release());
  return {
    cancel: () => call.cancel(),
    [Symbol.asyncIterator]: () => queue.read(() => call.cancel()),
  };
}

/** `service` as reached through `channel`. */
export function client<S extends ServiceDescriptor>(service: S, channel: RpcChannel): Client<S> {
  const calls: Record<string, unknown> = {};
  for (const method of service.methods) calls[method.localName] = caller(method, channel);
  return calls as Client<S>;
}

function caller(method: DescMethod, channel: RpcChannel): unknown {
  switch (method.methodKind) {
    case 'unary':
      return unaryCaller(method, channel);
    case 'server_streaming':
      return (request: AnyMessage, options: CallOptions = {}) => {
        const call = channel
          .grpcClient()
          .makeServerStreamRequest(
            pathOf(method),
            encoder(method.input),
            decoder(method.output),
            request,
          );
        const watch = guard(call, channel, method, options, undefined);
        return incoming(call, channel.address, watch);
      };
    case 'client_streaming':
      throw new AssertionError(`${pathOf(method)}: no service here takes a stream for one answer`);
    case 'bidi_streaming':
      return (options: CallOptions = {}): Conversation<AnyMessage, AnyMessage> => {
        const call = channel
          .grpcClient()
          .makeBidiStreamRequest(pathOf(method), encoder(method.input), decoder(method.output));
        const over = new AbortController();
        call.on('status', () => over.abort());
        call.on('error', () => over.abort());
        const watch = guard(call, channel, method, options, undefined);
        return {
          ...incoming(call, channel.address, watch),
          send: (message) => writeTo(call, message, over.signal),
          end: () => call.end(),
        };
      };
  }
}

function unaryCaller(method: DescMethod, channel: RpcChannel) {
  return (request: AnyMessage, options: CallOptions = {}): Promise<AnyMessage> =>
    new Promise((resolve, reject) => {
      const call = channel
        .grpcClient()
        .makeUnaryRequest(
          pathOf(method),
          encoder(method.input),
          decoder(method.output),
          request,
          (error, answer) => {
            watch.release();
            if (error !== null) reject(watch.reason() ?? fromService(channel.address, error));
            else resolve(answer as AnyMessage);
          },
        );
      const watch = guard(call, channel, method, options, UNARY_TIMEOUT_MS);
    });
}

/**
 * Opening what the API is served on: a unix socket that a group may use, or a TCP port where both
 * sides show certificates. What is asked and answered is server.ts's business.
 */
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ApiTls } from '../apiAddresses.ts';

const SOCKET_MODE = 0o660;
const SOCKET_MODE_ROOT_ONLY = 0o600;
const HANDSHAKE_TIMEOUT_MS = 10_000;

export async function listenUnix(server: Server, path: string, group: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  await removeStaleSocket(path);
  await listening(server, { path });
  restrict(path, group);
}

/** A server for clients with a certificate; in the clear when `files` is undefined. */
export function tcpServer(files: ApiTls | undefined, listener: RequestListener, log: Log): Server {
  if (files === undefined) return createServer({ requestTimeout: 0 }, listener);
  const server = createSecureServer(
    {
      ca: files.ca,
      cert: files.certificate,
      key: files.key,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      // A client that attaches ends its side when it has nothing to send, and reads on.
      allowHalfOpen: true,
      requestTimeout: 0,
    },
    listener,
  );
  server.on('tlsClientError', (error, socket) => {
    const { remoteAddress } = socket;
    log.info('a client of the API was turned away', { remoteAddress, error: error.message });
  });
  return server;
}

export async function listenTcp(server: Server, host: string, port: number): Promise<number> {
  try {
    await listening(server, { host, port });
  } catch (cause) {
    const message = `cannot serve the API on ${host}:${port}: ${messageOf(cause)}`;
    throw new SwarmError('unavailable', message, { cause });
  }
  return (server.address() as AddressInfo).port;
}

function listening(server: Server, where: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function removeStaleSocket(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      reject(
        new SwarmError(
          'conflict',
          `a daemon already answers on ${path}: stop it, or choose another socket with -H`,
        ),
      );
    });
    socket.once('error', () => {
      rmSync(path, { force: true });
      resolve();
    });
  });
}

function restrict(path: string, group: string): void {
  const gid = groupId(group);
  if (gid === undefined) {
    chmodSync(path, SOCKET_MODE_ROOT_ONLY);
    return;
  }
  chmodSync(path, SOCKET_MODE);
  chownSync(path, process.getuid?.() ?? 0, gid);
}

function groupId(name: string): number | undefined {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((item) => item.startsWith(`${name}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

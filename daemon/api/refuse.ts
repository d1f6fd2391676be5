/** Refusing to take a connection over: an HTTP answer on it, in Docker's shape, and its end. */
import type { Duplex } from 'node:stream';
import { httpStatus, messageOf, SwarmError } from '../../base/errors.ts';

export function refuse(socket: Duplex, error: unknown): void {
  const status = error instanceof SwarmError ? httpStatus(error.code) : 500;
  const body = `${JSON.stringify({ message: messageOf(error) })}\n`;
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

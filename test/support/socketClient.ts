/**
 * Plain HTTP over a unix socket, one connection a request: what a test needs that asks a daemon
 * which may be killed at any moment. No retries; a broken connection rejects.
 */
import { request } from 'node:http';

export interface SocketAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** `body`: an object as JSON, bytes as they are. Rejects when nothing comes for `timeoutMs`. */
export function askSocket(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
  timeoutMs = 30_000,
): Promise<SocketAnswer> {
  return new Promise((resolve, reject) => {
    const isRaw = body instanceof Uint8Array;
    const headers = { 'content-type': isRaw ? 'application/x-tar' : 'application/json' };
    const asked = request(
      { socketPath, agent: false, method, path, timeout: timeoutMs, headers },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on('data', (part: Buffer) => parts.push(part));
        answer.on('error', reject);
        answer.on('end', () =>
          resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts) }),
        );
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer`)));
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : isRaw ? body : JSON.stringify(body));
  });
}

/**
 * A ScriptedNode served on a unix socket in a directory of its own, and the commands that talk to
 * it: the real docker client and tsswarm itself as processes.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { createApi } from '../../daemon/api/server.ts';
import { ScriptedNode } from './scriptedNode.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
  json<T = Record<string, unknown>>(): T;
}

export interface ServedNode {
  readonly node: ScriptedNode;
  readonly socketPath: string;
  readonly directory: string;
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answer>;
  docker(...args: string[]): Promise<Ran>;
  tsswarm(...args: string[]): Promise<Ran>;
  close(): Promise<void>;
}

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const RUN_LIMIT_MS = 60_000;

export async function serveNode(node = new ScriptedNode()): Promise<ServedNode> {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-api-'));
  const socketPath = join(directory, 'tsswarm.sock');
  const clock = new SystemClock();
  const api = createApi({
    node,
    clock,
    log: silentLog,
    random: new SystemRandom(),
    meter: new Meter(),
  });
  await api.listenUnix(socketPath, { group: 'tsswarm' });
  const host = `unix://${socketPath}`;
  const env = { ...process.env, TSSWARM_HOST: host, DOCKER_HOST: host, DOCKER_CONFIG: directory };
  return {
    node,
    socketPath,
    directory,
    call: (method, path, body, headers) => call(socketPath, method, path, body, headers),
    docker: (...args) => run('docker', args, env),
    tsswarm: (...args) => run(process.execPath, [MAIN, ...args], env),
    close: async () => {
      await api.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { env, timeout: RUN_LIMIT_MS };
    execFile(file, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, stdout, stderr });
    }).stdin?.end();
  });
}

function call(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path, headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const whole = Buffer.concat(chunks);
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          body: whole,
          json: () => JSON.parse(whole.toString('utf8')),
        });
      });
    });
    sent.on('error', reject);
    if (body === undefined) sent.end();
    else if (typeof body === 'string' || Buffer.isBuffer(body)) sent.end(body);
    else sent.end(JSON.stringify(body));
  });
}

/**
 * A registry that answers anything, to everything that is asked of it: the pull's and the log-in's
 * calls end in a result or in one clear error, and nothing is believed that was not checked.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SystemClock } from '../../../base/clock.ts';
import { SwarmError } from '../../../base/errors.ts';
import { OCI_MANIFEST } from '../../../runtime/image/manifest.ts';
import { Registry } from '../../../runtime/image/registry.ts';
import { NO_SETTINGS, RegistryHosts } from '../../../runtime/image/registryHosts.ts';
import { parseChallenge } from '../../../runtime/image/registrySession.ts';
import type { FuzzTarget } from '../target.ts';
import { one } from '../target.ts';

interface Answer {
  readonly status?: unknown;
  readonly headers?: unknown;
  readonly body?: unknown;
}

const CONTENT = JSON.stringify({ schemaVersion: 2, layers: [] });
const DIGEST = `sha256:${createHash('sha256').update(CONTENT).digest('hex')}`;
const ANSWERS: readonly Answer[] = [
  { status: 200, headers: { 'docker-content-digest': DIGEST }, body: CONTENT },
  { status: 200, headers: { link: '</v2/a/tags/list?n=1>; rel="next"' }, body: '{"tags":["1"]}' },
  { status: 401, headers: { 'www-authenticate': 'Bearer realm="HERE/token",service="s"' } },
  { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' }, body: '{"errors":[]}' },
  { status: 200, body: '{"token":"t","expires_in":60}' },
  { status: 404, body: '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}' },
  { status: 307, headers: { location: 'HERE/elsewhere' } },
  { status: 206, headers: { 'content-range': 'bytes 3-9/10' }, body: 'x'.repeat(10) },
  { status: 416 },
  { status: 429, headers: { 'retry-after': '1' }, body: 'slow down' },
  { status: 500, body: 'no' },
];

/** The system's, but waiting is done at once: only the count of attempts is left. */
class HastyClock extends SystemClock {
  override sleep(): Promise<void> {
    return Promise.resolve();
  }
}

let server: Server | undefined;
let here = '';
let answers: readonly Answer[] = [];
let asked = 0;

async function listen(): Promise<void> {
  if (server !== undefined) return;
  server = createServer((_, response) => {
    const answer = answers[asked % Math.max(1, answers.length)] ?? {};
    asked += 1;
    reply(answer, response);
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  here = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function reply(answer: Answer, response: ServerResponse): void {
  const { status, headers, body } = answer;
  const text = (value: unknown): string => String(value).replaceAll('HERE', here);
  try {
    response.statusCode = typeof status === 'number' ? (Math.abs(status) % 600) | 0 : 200;
    if (typeof headers === 'object' && headers !== null) {
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, text(value));
    }
    response.end(typeof body === 'string' ? text(body) : JSON.stringify(body ?? ''));
  } catch {
    response.destroy(); // what no server can send
  }
}

/** Takes what comes, as a blob's writer does, and remembers how much. */
class Sink {
  doneBytes = 0;

  append(chunk: Uint8Array): Promise<void> {
    this.doneBytes += chunk.length;
    return Promise.resolve();
  }

  restart(): Promise<void> {
    this.doneBytes = 0;
    return Promise.resolve();
  }
}

async function refusedOr<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof SwarmError && error.code !== 'internal') return undefined;
    throw error;
  }
}

export const target: FuzzTarget = {
  words: ['HERE', 'Bearer realm="', 'Basic', 'errors', 'token', 'sha256:', OCI_MANIFEST, '\\"'],
  json: true,
  generate: (random) =>
    Buffer.from(
      JSON.stringify(Array.from({ length: 1 + random.below(4) }, () => one(random, ANSWERS))),
    ),
  async run(input, random) {
    parseChallenge(Buffer.from(input).toString('latin1'));
    let given: unknown;
    try {
      given = JSON.parse(Buffer.from(input).toString());
    } catch {
      given = [{ body: Buffer.from(input).toString() }];
    }
    await listen();
    answers = (Array.isArray(given) ? given : [given]).map((item) => (item ?? {}) as Answer);
    asked = 0;
    const hosts = new RegistryHosts(NO_SETTINGS);
    const registry = new Registry('127.0.0.1', {
      ...{ clock: new HastyClock(), hosts, signal: undefined, mirror: new URL(here) },
      auth: random.below(2) === 0 ? undefined : { username: 'u', password: 'p' },
    });
    const manifest = await refusedOr(registry.manifest('a', DIGEST));
    if (manifest !== undefined) assert.equal(manifest.bytes.toString(), CONTENT);
    const document = await refusedOr(registry.document('a', DIGEST));
    if (document !== undefined) assert.equal(document.toString(), CONTENT);
    const tags = await refusedOr(registry.tags('a'));
    assert.ok(tags === undefined || tags.every((tag) => typeof tag === 'string'));
    await refusedOr(registry.checkLogin());
    const sink = new Sink();
    const blob = { digest: DIGEST, sizeBytes: random.below(30) };
    await refusedOr(registry.blob('a', blob, sink as never, () => {}));
    // Every call has its bound of attempts, redirects and pages.
    assert.ok(asked < 600, `${asked} requests`);
  },
  close: () => {
    server?.closeAllConnections();
    server?.close();
  },
};

/** GET /metrics, for Prometheus: on every socket of the API, and alone on `--metrics-addr`. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import { messageOf } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import type { Meter } from '../../../base/meter.ts';
import { type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const MAX_SCRAPERS = 16;
const REQUEST_TIMEOUT_MS = 10_000;

export function addMetricsRoutes(router: Router, parts: ApiParts): void {
  router.get('/metrics', async (request) => {
    await answer(request.response, parts.meter);
    return STREAMED;
  });
}

async function answer(response: ServerResponse, meter: Meter): Promise<void> {
  const { METRICS_TYPE, metricsText } = await import('../../prometheus.ts');
  const body = Buffer.from(await metricsText(meter));
  response.writeHead(200, { 'Content-Type': METRICS_TYPE, 'Content-Length': body.length });
  response.end(body);
}

/** Whoever reaches it reads figures, and can do nothing else. */
export function metricsServer(meter: Meter, log: Log): Server {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const [path] = (request.url ?? '/').split('?', 1);
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (path !== '/metrics' || !isRead) {
      response.writeHead(404, { 'Content-Type': 'text/plain' });
      response.end('only GET /metrics is served here\n');
      return;
    }
    answer(response, meter).catch((error: unknown) => {
      log.error('figures cannot be told', { error: messageOf(error) });
      response.destroy();
    });
  });
  server.maxConnections = MAX_SCRAPERS;
  return server;
}

/**
 * /tsswarm/recovery and /tsswarm/snapshot: what this host's state could go on as, backups of the
 * swarm, and bringing one back. What only this API has; the forms are daemon/examine's and
 * backup's.
 */
import { withDeadline } from '../../../base/queue.ts';
import { type ApiRequest, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';

/** A reader that takes nothing for so long has given up, or has stopped. */
const STALL_MS = 60_000;

/** A header, as addresses of requests end up in logs. */
const UNLOCK_KEY = 'x-tsswarm-unlock-key';

export function addRecoveryRoutes(router: Router, parts: ApiParts): void {
  const { node } = parts;
  router.get('/tsswarm/recovery', async () => json(await node.examine()));
  router.get('/tsswarm/snapshot', (request) => save(request, parts));
  router.post('/tsswarm/snapshot/restore', async (request) => {
    const key = request.incoming.headers[UNLOCK_KEY];
    const nodeId = await node.restore(request.upload(), {
      advertiseAddress: request.text('advertise-addr'),
      listenAddress: request.text('listen-addr'),
      unlockKey: typeof key === 'string' ? key : '',
      force: request.flag('force'),
    });
    return json(nodeId);
  });
}

/** Broken off, the file has no end, by which a reader knows. */
async function save(request: ApiRequest, { node, clock }: ApiParts): Promise<Reply> {
  const file = await node.backup();
  const body = request.stream('application/octet-stream');
  for await (const bytes of file) {
    // What is being read is kept as it was: not for ever for one who reads no more.
    await withDeadline(clock, STALL_MS, 'sending the backup', body.write(bytes));
  }
  body.end();
  return STREAMED;
}

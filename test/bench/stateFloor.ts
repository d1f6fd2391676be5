/**
 * What grpc-js itself costs in `bench state`: a process that serves the two calls that are measured
 * as tsswarm's daemons do, with the same door, certificates and messages, but has nothing behind
 * it: each answer is there before it is asked for. Told over the IPC channel whom to be.
 */
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { objectToWire } from '../../proto/convert.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { RpcServer } from '../../proto/rpc.ts';
import { Control } from '../../proto/services.ts';
import { VALUE_BYTES } from './stateWire.ts';

const labels = { value: 'v'.repeat(VALUE_BYTES) };
const spec = { name: 'p0-1', labels, data: new Uint8Array(4), templating: '' } as const;
const object = { id: 'id', version: 1, createdAtMs: 0, updatedAtMs: 0, spec };
const answer = { object: objectToWire({ table: 'config', object }), version: 1n };

process.on('message', (tls: NodeCredentials) => {
  const server = new RpcServer({ log: silentLog, clock: new SystemClock(), authorize: () => {} });
  const answered = async () => answer;
  server.handle(Control, { createData: answered, updateData: answered, getData: answered });
  void server.listen({ host: '127.0.0.1', port: 0, tls }).then(({ port }) => process.send?.(port));
});
process.on('disconnect', () => process.exit(0));

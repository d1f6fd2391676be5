/**
 * A TCP port for a test that has to know it before anything listens there, or after. Not one of
 * those that the kernel gives to connections: it may give such a one to any program on the machine
 * between two steps of a test.
 */
import { createServer } from 'node:net';
import { SystemRandom } from '../../base/random.ts';

const HOST = '127.0.0.1';
/** Below ip_local_port_range, 32768 and more. */
const FIRST = 15_000;
const COUNT = 15_000;
const TRIES = 100;

let next = new SystemRandom().below(COUNT);

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, HOST, () => server.close(() => resolve(true)));
  });
}

/** A port of 127.0.0.1 that nobody listened on a moment ago; never the same twice in a process. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const port = FIRST + (next % COUNT);
    next += 1;
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port in ${TRIES} tries from ${FIRST} on`);
}

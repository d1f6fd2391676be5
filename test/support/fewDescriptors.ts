/**
 * A process whose descriptors run out, for tests: `fewDescriptors WORK LEFT` takes all but LEFT of
 * them, does the work, which must fail, and prints {error, left}: what it was told, and how many
 * there are then. To be started with a low bound (ulimit -n).
 */
import { closeSync, openSync } from 'node:fs';
import { SystemClock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { ContainerContext } from '../../runtime/container/context.ts';
import { RootAccess } from '../../runtime/container/rootAccess.ts';
import { openStreams } from '../../runtime/container/streams.ts';

const NULL = '/dev/null';

function takeAll(): number[] {
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync(NULL, 'r'));
  } catch {
    return taken; // none is left
  }
}

const nullFd = openSync(NULL, 'r');
const context = { clock: new SystemClock(), shimFd: nullFd, nullFd } as unknown as ContainerContext;
const access = new RootAccess(context);
const works: Readonly<Record<string, () => unknown>> = {
  streams: () => openStreams({ stdin: true, tty: false }),
  root: () => access.openStopped(new Uint8Array(1)),
};

const [name, left] = process.argv.slice(2);
// What Node opens for itself the first time is open by then.
openStreams({ stdin: true, tty: false }).streams.close();
await new Promise((resolve) => setImmediate(resolve));
const taken = takeAll();
for (const fd of taken.splice(0, Number(left))) closeSync(fd);
let error = '';
try {
  await works[name]();
} catch (cause) {
  error = messageOf(cause);
}
await new Promise((resolve) => setImmediate(resolve));
const free = takeAll().length;
for (const fd of taken) closeSync(fd);
console.log(JSON.stringify({ error, left: free }));
process.exit(0);

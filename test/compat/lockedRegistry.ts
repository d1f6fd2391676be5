/**
 * A registry that wants a password, beside each host's daemon, with BusyBox in two editions; and
 * the docker client of somebody who has logged in there.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pidOf as hostPid } from '../../deploy/hosts/host.ts';
import { inside } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import { registryCommand, untilListening } from '../support/registry.ts';
import { BOX, docker, work } from './world.ts';

const PORT = 5005;
const REGISTRY = `127.0.0.1:${PORT}`;
/** Its tags are '1' and '2'; programs of the second have EDITION=2 in their environment. */
export const LOCKED = `${REGISTRY}/team/box`;
export const SECOND_BOX = 'box:2';

/** Docker's client with a configuration of its own, so that nobody's logins are touched. */
export function loggedIn(...args: string[]): Promise<string> {
  return docker('h1', '--config', join(work, 'client'), ...args);
}

export async function importSecondBox(): Promise<void> {
  for (const host of ['h1', 'h2']) {
    const changes = ['--change', 'ENV PATH=/bin EDITION=2'];
    await docker(host, 'image', 'import', ...changes, join(work, 'root.tar'), SECOND_BOX);
  }
}

let started: Promise<void> | undefined;

/** Once for all that need it; the hosts end with their lab, and the registries with them. */
export function lockedRegistry(): Promise<void> {
  started ??= start();
  return started;
}

async function start(): Promise<void> {
  await importSecondBox();
  const directory = join(work, 'locked');
  mkdirSync(directory);
  const command = registryCommand({ directory, port: PORT, basic: 'me:pw' }).join(' ');
  for (const host of ['h1', 'h2']) {
    await inside(host, 'sh', '-c', `setsid ${command} >/dev/null 2>&1 </dev/null & exit 0`);
    await untilListening(PORT, hostPid(layoutOf(host)));
  }
  await loggedIn('login', '-u', 'me', '-p', 'pw', REGISTRY);
  for (const [tag, image] of Object.entries({ 1: BOX, 2: SECOND_BOX })) {
    await docker('h1', 'image', 'tag', image, `${LOCKED}:${tag}`);
    await loggedIn('push', '-q', `${LOCKED}:${tag}`);
  }
}

/**
 * docs/compat.md, made and proved: the real docker client through its commands and flags against a
 * lab of two hosts. `COMPAT_WRITE=1` writes the page; without it the page has to be what this run
 * would write. Skipped, visibly, where there is no docker client of the page's version.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readCommands } from '../compat/commands.ts';
import { containers } from '../compat/container.ts';
import { data } from '../compat/data.ts';
import { images } from '../compat/image.ts';
import { networks } from '../compat/network.ts';
import { services } from '../compat/service.ts';
import { stacks } from '../compat/stack.ts';
import { Suite } from '../compat/suite.ts';
import { swarms } from '../compat/swarm.ts';
import { system } from '../compat/system.ts';
import { volumes } from '../compat/volume.ts';
import { close, open } from '../compat/world.ts';
import { outcome } from '../support/lab.ts';
import { TOP } from '../tidy/sources.ts';

const PAGE = join(TOP, 'docs', 'compat.md');
/** Flags come and go with the client's version. */
const CLIENT = '28.2.2';

const version = (await outcome('docker', ['version', '--format', '{{.Client.Version}}'])).stdout;
const skip = version.trim() === CLIENT ? false : `no docker client ${CLIENT} on here`;

const suite = new Suite();
containers(suite);
services(suite);
stacks(suite);
swarms(suite);
data(suite);
networks(suite);
volumes(suite);
images(suite);
system(suite);

before(async () => {
  if (skip === false) await open();
});

after(async () => {
  if (skip === false) await close();
});

for (const { command, name, run } of suite.cases) test(`docker ${command}: ${name}`, { skip }, run);

test('every command and flag is spoken of, and the page says what was found', {
  skip,
}, async () => {
  const commands = await readCommands();
  assert.deepEqual(suite.holes(commands), []);
  const page = suite.page(commands, CLIENT);
  if (process.env['COMPAT_WRITE'] === '1') writeFileSync(PAGE, page);
  assert.equal(readFileSync(PAGE, 'utf8'), page);
});

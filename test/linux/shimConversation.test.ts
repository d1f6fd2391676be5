/**
 * An older daemon's words to today's shim: the daemon's part of the recorded conversation
 * (test/fixtures/shim) is said again, byte by byte, and the answers begin as they did then.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { connectShim } from '../../runtime/container/shimClient.ts';
import type { ContainerTable } from '../../runtime/container/types.ts';
import { logText, makeTestHost, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const host = makeTestHost('conversation');
const HEADER_BYTES = 8;
const STATE = 129;
const EXITED = 130;
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

interface Step {
  readonly from: 'shim' | 'daemon';
  readonly what: string;
  readonly hex: string;
}

/** What of a message does not depend on when and as which process the container ran. */
function lasting(message: Buffer): string {
  const payload = message.subarray(HEADER_BYTES);
  const head = message.toString('hex', 4, HEADER_BYTES);
  if (message[5] === STATE) {
    return [head, payload.readUInt32LE(0), payload.readUInt32LE(16)].join(' ');
  }
  // Magic, version, code, signal, flags.
  if (message[5] === EXITED) return `${head} ${payload.toString('hex', 0, 20)}`;
  return `${head} ${payload.toString('hex')}`;
}

test('a daemon of format 1 is answered as it was then', async () => {
  const steps = JSON.parse(
    readFileSync(resolve('test/fixtures/shim/conversation-1.json'), 'utf8'),
  ) as readonly Step[];
  const container = await started(
    table,
    host.config(['/bin/probe', 'signal', '15'], { tty: true }),
  );
  await until('its handler', 10_000, async () => (await logText(container)).includes('ready'));
  const execDir = join(host.options.execRoot, 'containers', container.config.id);
  const socket = new Socket({ fd: connectShim(execDir) });
  let received = Buffer.alloc(0);
  socket.on('data', (data) => {
    received = Buffer.concat([received, data]);
  });
  const isWhole = (): boolean =>
    received.length >= 4 && received.length >= 4 + received.readUInt32LE(0);
  for (const { from, what, hex } of steps) {
    const recorded = Buffer.from(hex, 'hex');
    if (from === 'daemon') {
      socket.write(recorded);
      continue;
    }
    await until(what, 10_000, isWhole);
    const end = 4 + received.readUInt32LE(0);
    assert.equal(lasting(received.subarray(0, end)), lasting(recorded), what);
    received = received.subarray(end);
  }
  socket.destroy();
  assert.equal((await container.wait()).exitCode, 42);
});

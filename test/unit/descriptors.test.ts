/** What fails for want of descriptors leaves none open, and what is closed is not waited for. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { UpgradedRequest } from '../../daemon/api/upgrade.ts';

const CHILD = fileURLToPath(new URL('../support/fewDescriptors.js', import.meta.url));
/** More than Node has open for itself. */
const BOUND = 128;

function runWith(work: string, left: number): { error: string; left: number } {
  const command = `ulimit -n ${BOUND}; exec "$0" "$@"`;
  const words = ['-c', command, process.execPath, CHILD, work, String(left)];
  return JSON.parse(execFileSync('sh', words, { encoding: 'utf8' }));
}

for (const [work, most] of [
  ['streams', 5],
  ['root', 2],
] as const) {
  test(`${work} that cannot be opened for want of descriptors take none`, () => {
    for (let left = 0; left <= most; left += 1) {
      const found = runWith(work, left);
      assert.match(found.error, /EMFILE|[Tt]oo many open files/, `with ${left}`);
      assert.equal(found.left, left);
    }
  });
}

test('the body of a request whose connection is closed is not waited for', async () => {
  for (const isEnded of [true, false]) {
    const incoming = new IncomingMessage(new Socket());
    incoming.headers['content-length'] = '5';
    const connection = new PassThrough();
    if (isEnded) {
      connection.end();
      connection.resume();
      await new Promise((resolve) => connection.once('end', resolve));
    } else connection.destroy();
    const response = new ServerResponse(incoming);
    const parts = [connection, '/', new URLSearchParams(), {}, 50] as const;
    const request = new UpgradedRequest(incoming, response, ...parts);
    await assert.rejects(async () => {
      for await (const _ of request.upload()) assert.fail('nothing was sent');
    }, /the caller has gone/);
  }
});

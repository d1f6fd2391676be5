/** /tsswarm/watch over WebSocket, as a page would use it, on a real unix socket. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { WebSocket } from 'ws';
import type { LiveMessage } from '../../model/live.ts';
import { serveNode } from '../support/servedNode.ts';
import { webService } from '../support/specs.ts';

const served = await serveNode();
after(() => served.close());

function open(path: string): WebSocket {
  return new WebSocket(`ws+unix://${served.socketPath}:${path}`);
}

/** What arrives until `enough` accepts it. */
function received(
  socket: WebSocket,
  enough: (message: LiveMessage) => boolean,
): Promise<LiveMessage> {
  return new Promise((resolve, reject) => {
    socket.on('message', (data: Buffer) => {
      const message = JSON.parse(data.toString()) as LiveMessage;
      if (enough(message)) resolve(message);
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed before it came')));
  });
}

test('a page that watches gets the picture, then each change', async () => {
  const socket = open('/tsswarm/watch');
  await received(socket, (message) => message.type === 'state');
  const event = received(socket, (message) => message.type === 'event');
  await served.node.createService(webService('watched', 1));
  const message = await event;
  assert(message.type === 'event' && message.object === 'service');
  socket.terminate();
});

test('only the watch speaks WebSocket; all else is answered as without', async () => {
  const socket = open('/services');
  const [status, body] = await new Promise<[number, string]>((resolve) => {
    socket.on('error', () => {}); // the refusal is read from the answer
    socket.on('unexpected-response', (_request, answer) => {
      answer.on('data', (data: Buffer) => resolve([answer.statusCode ?? 0, data.toString()]));
    });
  });
  assert.equal(status, 200);
  assert.ok(Array.isArray(JSON.parse(body)));
});

/** Redirects of a registry that means ill: nothing secret is carried to another host. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { type TestContext, test } from 'node:test';
import { request } from '../../runtime/image/http.ts';

async function serve(t: TestContext, handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

test('a posted log-in does not follow a redirect to another host', async (t) => {
  let received = 0;
  const thief = await serve(t, (_request, response) => {
    received += 1;
    response.end();
  });
  const redirecting = await serve(t, (_request, response) => {
    response.writeHead(307, { location: `http://${thief}/token` }).end();
  });
  const options = {
    method: 'POST',
    body: 'refresh_token=secret',
    plainAllowed: () => true,
  } as const;
  await assert.rejects(request(new URL(`http://${redirecting}/token`), options), {
    code: 'forbidden',
    message: /redirects a log-in to/,
  });
  assert.equal(received, 0);
});

test('a redirect to no address at all is told in one line', async (t) => {
  const host = await serve(t, (_request, response) => {
    response.writeHead(302, { location: 'http://[nowhere' }).end();
  });
  await assert.rejects(request(new URL(`http://${host}/`), { plainAllowed: () => true }), {
    code: 'unavailable',
    message: /redirects to nowhere/,
  });
});

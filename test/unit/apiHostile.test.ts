/** The HTTP API against clients that mean it ill, or are merely broken. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { makeImage } from '../support/scriptedImages.ts';
import { serveNode } from '../support/servedNode.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 5000;
const served = await serveNode();
const { node, call } = served;
after(() => served.close());

test('requests sent ahead wait for their turn, and end with their connection', async () => {
  let open = 0;
  let opened = 0;
  const { store } = node;
  const watch = store.watch.bind(store);
  store.watch = (...args) => {
    const made = watch(...args);
    const close = made.close.bind(made);
    open += 1;
    opened += 1;
    made.close = () => {
      open -= 1;
      close();
    };
    return made;
  };
  const socket = connect(served.socketPath);
  socket.on('error', () => {});
  socket.resume();
  socket.write('GET /tsswarm/watch HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10));
  await until('the first watch to start', WAIT_MS, () => open > 0);
  // Answered on another connection after all of the above was read.
  assert.equal((await call('GET', '/_ping')).status, 200);
  assert.equal(opened, 1);
  socket.destroy();
  await until('the watch to end', WAIT_MS, () => open === 0);
  assert.equal((await call('GET', '/_ping')).status, 200);
  assert.equal(opened, 1, 'a request of a connection that had gone was served');

  const greedy = connect(served.socketPath);
  let cut = false;
  greedy.on('error', () => {});
  greedy.on('close', () => {
    cut = true;
  });
  greedy.resume();
  greedy.write('GET /tsswarm/watch HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1000));
  await until('a connection that sends too far ahead to be cut', WAIT_MS, () => cut);
  await until('its watch to end', WAIT_MS, () => open === 0);
});

test('requests sent ahead are answered in order', async () => {
  const socket = connect(served.socketPath);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString();
  });
  socket.write('GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET /_ping HTTP/1.1\r\nHost: x\r\n\r\n');
  await until('both answers', WAIT_MS, () => text.endsWith('OK'));
  assert.match(text, /^HTTP\/1\.1 404 [\s\S]*page not found[\s\S]*HTTP\/1\.1 200 /);
  socket.destroy();
});

test('nesting without end is refused like any other unknown field', async () => {
  const deep = `${'{"a":'.repeat(100_000)}0${'}'.repeat(100_000)}`;
  const answer = await call(
    'POST',
    '/services/create',
    Buffer.from(`{"TaskTemplate":{"PluginSpec":${deep}}}`),
  );
  assert.equal(answer.status, 501);
  assert.match(String(answer.json().message), /^TaskTemplate\.PluginSpec is not supported/);
});

test('half a character is refused: it would not be the same on every manager', async () => {
  const create = async (env: string): Promise<string> => {
    const body = `{"Name":"x","TaskTemplate":{"ContainerSpec":{"Env":["A=${env}"]}}}`;
    return String((await call('POST', '/services/create', Buffer.from(body))).json().message);
  };
  assert.match(await create('\\ud83d'), /half a character/);
  assert.match(await create('\\udc00x'), /half a character/);
  assert.doesNotMatch(await create('\\ud83d\\ude00 \\\\ud83d'), /half a character/);
});

test('a reference filter takes its time from its length, not from its stars', async () => {
  const tag = `host.example/${'a'.repeat(100)}:1`;
  node.images.images.push({ ...makeImage('x'), tags: [tag] });
  const list = async (wanted: string): Promise<number> => {
    const filters = encodeURIComponent(JSON.stringify({ reference: [wanted] }));
    return (await call('GET', `/images/json?filters=${filters}`)).json<unknown[]>().length;
  };
  assert.equal(await list(`host.example/${'*a'.repeat(40)}!`), 0);
  assert.equal(await list(`host.example/${'*a'.repeat(40)}*`), 1);
  assert.equal(await list('host.example/a*'), 1);
  assert.equal(await list('host.*/*:1'), 1);
  assert.equal(await list('host*'), 0);
});

function post(path: string, body: object): ReturnType<typeof call> {
  return call('POST', path, Buffer.from(JSON.stringify(body)));
}

const WRONG: readonly (readonly [string, object])[] = [
  ['HostConfig.PidsLimit must be a whole number', { PidsLimit: 1.5 }],
  ['HostConfig.Memory must be a whole number', { Memory: 1e300 }],
  ['HostConfig.Dns: x is not an IP address', { Dns: ['x'] }],
  ['HostConfig.DnsSearch[0] must be one line of text', { DnsSearch: ['a\nnameserver 9.9.9.9'] }],
  ['HostConfig.ConsoleSize must be two whole numbers: rows and columns', { ConsoleSize: [-1, {}] }],
  [
    'HostConfig.PortBindings.80/tcp[0].HostIp: invalid IP address: y',
    { PortBindings: { '80/tcp': [{ HostIp: 'y' }] } },
  ],
  ['the request body holds a NUL character', { Binds: ['/a\0:/b'] }],
  ['invalid size "9', { LogConfig: { Config: { 'max-size': '9'.repeat(400) } } }],
];

test('what a container cannot be is refused by its path', async () => {
  for (const [message, HostConfig] of WRONG) {
    const { status, json } = await post('/containers/create', { Image: 'web', HostConfig });
    assert.equal(status, 400, message);
    const told = String(json().message);
    assert.ok(told.startsWith(message), told);
  }
});

test('a log-in names a registry, and what is echoed is not all of what was sent', async () => {
  for (const serveraddress of ['../..', 'a b', 'x'.repeat(300), '%00']) {
    const { status } = await post('/auth', { username: 'a', password: 'b', serveraddress });
    assert.equal(status, 400, serveraddress);
  }
  assert.equal((await call('GET', '/containers/x/archive?path=%00')).status, 400);
  const huge = await post('/networks/create', { Name: 'n', Driver: 'x'.repeat(70_000) });
  assert.ok(String(huge.json().message).length < 5000);
});

/**
 * A program run inside test namespaces: `serve NAME PORT` answers every TCP connection and every
 * UDP packet with one JSON line {name, client}; `get HOST PORT COUNT` opens COUNT connections,
 * until one fails, and prints what came back, `getudp` the same by UDP; `patient NAME PORT` says
 * its name, and the rest once the client says a word; `hold HOST PORT [FROM]` is that client, with
 * the word from stdin, `get` and it from port FROM if told one, `get` with a PATIENCE in ms after
 * that; `bulk PORT` sends BULK_BYTES to whoever sends as many, `exchange HOST PORT`
 * does and counts; `resolve NAME TYPE` asks 127.0.0.11; `nameserver PORT` is an upstream that
 * knows one name.
 */

import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { createConnection, createServer } from 'node:net';

const CONNECT_TIMEOUT_MS = 6000;
/** For who is said to answer. */
const HELD_TIMEOUT_MS = 60_000;
const BULK_BYTES = 4 * 1024 * 1024;

function serve(name: string, port: number): void {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    const client = socket.remoteAddress?.replace('::ffff:', '');
    socket.end(`${JSON.stringify({ name, client })}\n`);
  });
  const datagrams = createSocket('udp4');
  datagrams.on('message', (_, from) => {
    const line = JSON.stringify({ name, client: from.address });
    datagrams.send(line, from.port, from.address);
  });
  datagrams.bind(port, () => server.listen(port, () => console.log('listening')));
}

function patient(name: string, port: number): void {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(`${name}\n`);
    socket.on('data', () => socket.end('done\n'));
  });
  server.listen(port, '0.0.0.0', () => console.log('listening'));
}

function hold(host: string, port: number, localPort: number | undefined): void {
  const socket = createConnection({ host, port, localPort });
  const timer = setTimeout(() => console.log('timeout'), HELD_TIMEOUT_MS);
  socket.on('data', (data) => {
    clearTimeout(timer);
    process.stdout.write(data);
  });
  socket.on('error', (error) => console.log(error.message));
  socket.on('close', () => process.exit(0));
  process.stdin.on('data', (data) => socket.write(data));
}

function bulk(port: number): void {
  const server = createServer((socket) => {
    let received = 0;
    socket.on('error', () => {});
    socket.write(Buffer.alloc(BULK_BYTES, 'x'));
    socket.on('data', (data) => {
      received += data.length;
      if (received === BULK_BYTES) socket.end();
    });
  });
  server.listen(port, '0.0.0.0', () => console.log('listening'));
}

function exchange(host: string, port: number): void {
  let received = 0;
  const socket = createConnection({ host, port });
  socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy(new Error('stalled')));
  socket.write(Buffer.alloc(BULK_BYTES, 'y'));
  socket.on('data', (data) => {
    received += data.length;
  });
  socket.on('error', () => {}); // the count below says it
  socket.on('close', () => console.log(JSON.stringify({ complete: received === BULK_BYTES })));
}

function getDatagram(host: string, port: number): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const finish = (answer: Record<string, unknown>): void => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => finish({ error: 'timeout' }), CONNECT_TIMEOUT_MS);
    socket.on('error', (error: NodeJS.ErrnoException) => finish({ error: error.code }));
    socket.on('message', (data) => finish(JSON.parse(data.toString()) as Record<string, unknown>));
    socket.connect(port, host, () => socket.send('?'));
  });
}

function getOnce(
  host: string,
  port: number,
  localPort: number | undefined,
  patienceMs = CONNECT_TIMEOUT_MS,
): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, localPort });
    let text = '';
    socket.setTimeout(patienceMs, () => socket.destroy(new Error('timeout')));
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ error: error.code ?? error.message }),
    );
    socket.on('close', () => {
      if (text !== '') resolve(JSON.parse(text) as Record<string, unknown>);
      else resolve({ error: 'closed' });
    });
  });
}

type Once = (host: string, port: number) => Promise<Record<string, unknown>>;

async function get(once: Once, host: string, port: number, count: number): Promise<void> {
  const answers: unknown[] = [];
  let failed = false;
  for (let at = 0; at < count && !failed; at += 1) {
    const answer = await once(host, port);
    failed = 'error' in answer;
    answers.push(answer);
  }
  console.log(JSON.stringify(answers));
}

async function resolveName(name: string, type: string): Promise<void> {
  const resolver = new Resolver({ timeout: CONNECT_TIMEOUT_MS, tries: 1 });
  resolver.setServers(['127.0.0.11']);
  try {
    const answers =
      type === 'PTR' ? await resolver.reverse(name) : await resolver.resolve(name, type);
    console.log(JSON.stringify({ answers }));
  } catch (error) {
    console.log(JSON.stringify({ error: (error as NodeJS.ErrnoException).code }));
  }
}

/** Answers A questions for outside.example with 192.0.2.77 and NXDOMAIN for the rest. */
function nameserver(address: string): void {
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => socket.send(answerTo(query), from.port, from.address));
  const server = createServer((connection) => {
    connection.on('error', () => {});
    connection.on('data', (data) => {
      const answer = answerTo(data.subarray(2));
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      connection.end(Buffer.concat([length, answer]));
    });
  });
  const ready = (): void => console.log('listening');
  server.listen(53, address, () => socket.bind(53, address, ready));
}

function answerTo(query: Buffer): Buffer {
  const question = query.subarray(12, query.indexOf(0, 12) + 5);
  const known = question.toString('latin1').includes('\x07outside\x07example');
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(known ? 1 : 0, 6);
  header.writeUInt32BE(0, 8);
  const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 77]);
  return Buffer.concat(known ? [header, question, answer] : [header, question]);
}

/** A server ends with the test that started it, however that ends. */
function endWithStarter(): void {
  process.stdin.on('end', () => process.exit(0)).resume();
}

const [mode, first, second, third, fourth, fifth] = process.argv.slice(2);
const numberOf = (text = ''): number | undefined => (text === '' ? undefined : Number(text));
if (/^(serve|patient|bulk|nameserver)$/.test(mode)) endWithStarter();
if (mode === 'serve') serve(first, Number(second));
else if (mode === 'get') {
  const once: Once = (host, port) => getOnce(host, port, numberOf(fourth), numberOf(fifth));
  await get(once, first, Number(second), Number(third));
} else if (mode === 'getudp') await get(getDatagram, first, Number(second), Number(third));
else if (mode === 'patient') patient(first, Number(second));
else if (mode === 'hold') hold(first, Number(second), numberOf(third));
else if (mode === 'bulk') bulk(Number(first));
else if (mode === 'exchange') exchange(first, Number(second));
else if (mode === 'resolve') await resolveName(first, second);
else if (mode === 'nameserver') nameserver(first);
else throw new Error(`unknown mode ${mode}`);

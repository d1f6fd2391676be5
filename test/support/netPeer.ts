/**
 * A program run inside test namespaces: `serve NAME PORT` answers every TCP connection with one JSON
 * line {name, client}; `get HOST PORT COUNT` opens COUNT connections, until one fails, and prints
 * what came back;
 * `resolve NAME TYPE` asks 127.0.0.11; `nameserver PORT` is an upstream that knows one name.
 */

import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { createConnection, createServer } from 'node:net';

const CONNECT_TIMEOUT_MS = 3000;

function serve(name: string, port: number): void {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.end(`${JSON.stringify({ name, client: socket.remoteAddress })}\n`);
  });
  server.listen(port, '0.0.0.0', () => console.log('listening'));
}

function getOnce(host: string, port: number): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port });
    let text = '';
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => socket.destroy(new Error('timeout')));
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

async function get(host: string, port: number, count: number): Promise<void> {
  const answers: unknown[] = [];
  let failed = false;
  for (let at = 0; at < count && !failed; at += 1) {
    const answer = await getOnce(host, port);
    failed = 'error' in answer;
    answers.push(answer);
  }
  console.log(JSON.stringify(answers));
}

async function resolveName(name: string, type: string): Promise<void> {
  const resolver = new Resolver({ timeout: 3000, tries: 1 });
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
  socket.on('message', (query, from) => {
    const end = query.indexOf(0, 12) + 5;
    const question = query.subarray(12, end);
    const known = question.toString('latin1').includes('\x07outside\x07example');
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(known ? 1 : 0, 6);
    header.writeUInt32BE(0, 8);
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 77]);
    const parts = known ? [header, question, answer] : [header, question];
    socket.send(Buffer.concat(parts), from.port, from.address);
  });
  socket.bind(53, address, () => console.log('listening'));
}

const [mode, first, second, third] = process.argv.slice(2);
if (mode === 'serve') serve(first, Number(second));
else if (mode === 'get') await get(first, Number(second), Number(third));
else if (mode === 'resolve') await resolveName(first, second);
else if (mode === 'nameserver') nameserver(first);
else throw new Error(`unknown mode ${mode}`);

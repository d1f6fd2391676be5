/** Questions that a container makes to do harm: nothing in them may end the daemon. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import dnsPacket from 'dns-packet';
import { SystemClock } from '../../base/clock.ts';
import { SystemRandom } from '../../base/random.ts';
import { makeZone } from '../../runtime/net/dns.ts';
import { DnsServer } from '../../runtime/net/dnsServer.ts';
import { DnsUpstream, type OwnServers } from '../../runtime/net/dnsUpstream.ts';
import { DNS_ADDRESS } from '../../runtime/net/files.ts';
import { check, close, define, socket } from '../../runtime/sys/libc.ts';
import type { NetworkNamespace } from '../../runtime/sys/netns.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const UDP = 17;

const clock = new SystemClock();
const random = new SystemRandom();
/** A broadcast address: connecting to it is refused at once, as it is where no route leads. */
const NOWHERE: OwnServers = {
  addresses: ['255.255.255.255'],
  open: (transport) => {
    if (transport === 'tcp') throw new Error('no route');
    return check(socket(AF_INET, SOCK_DGRAM, 0), 'socket');
  },
};
/** The server answers on the loopback of whatever namespace runs the test. */
const HERE = { path: 'here', within: (work: () => unknown) => work() } as NetworkNamespace;

const sendto = define<
  (fd: number, data: Uint8Array, size: number, flags: number, to: Uint8Array, n: number) => number
>('', 'long sendto(int fd, void *data, size_t size, int flags, void *to, unsigned int n)');

function question(name: string): Buffer {
  const questions = [{ type: 'A' as const, name }];
  return dnsPacket.encode({ id: 7, type: 'query', flags: 256, questions });
}

/** As a container with CAP_NET_RAW can: a datagram that claims to come from port 0. */
function sendFromPortZero(port: number, payload: Buffer): void {
  const packet = Buffer.alloc(28 + payload.length);
  packet.writeUInt8(0x45, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt8(64, 8);
  packet.writeUInt8(UDP, 9);
  packet.set([127, 0, 0, 1], 12);
  packet.set(DNS_ADDRESS.split('.').map(Number), 16);
  packet.writeUInt16BE(port, 22);
  packet.writeUInt16BE(8 + payload.length, 24);
  payload.copy(packet, 28);
  const to = Buffer.alloc(16);
  to.writeUInt16LE(AF_INET, 0);
  to.set(DNS_ADDRESS.split('.').map(Number), 4);
  const fd = check(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), 'raw socket');
  check(sendto(fd, packet, packet.length, 0, to, to.length), 'send');
  close(fd);
}

test('an upstream server that no route leads to is no answer', async () => {
  const upstream = new DnsUpstream(clock, random);
  assert.equal(await upstream.ask(question('a.example'), 'udp', NOWHERE), undefined);
  assert.equal(await upstream.ask(question('a.example'), 'tcp', NOWHERE), undefined);
});

test('a question from port 0 is dropped and the next one answered', async () => {
  const zone = makeZone('net', [{ name: 'web', addresses: ['10.0.0.1'] }]);
  const upstream = new DnsUpstream(clock, random);
  const shared = { clock, random, upstream, own: NOWHERE };
  const options = { ...shared, zones: () => [zone], asksOutside: () => true };
  const server = await DnsServer.open(HERE, { port: 0 }, options);
  const asker = createSocket('udp4');
  try {
    sendFromPortZero(server.port, question('web'));
    sendFromPortZero(server.port, question('outside.example'));
    asker.send(question('web'), server.port, DNS_ADDRESS);
    const [bytes] = (await once(asker, 'message')) as [Buffer];
    assert.equal(dnsPacket.decode(bytes).answers?.length, 1);
    asker.send(question('outside.example'), server.port, DNS_ADDRESS);
    const [refused] = (await once(asker, 'message')) as [Buffer];
    assert.equal(refused[3] & 0xf, 2, 'SERVFAIL');
  } finally {
    asker.close();
    server.close();
  }
});

/** Answers to DNS questions, and the files a container resolves names with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { decide, failure, lookUp, makeZone, nameservers, shuffle } from '../../runtime/net/dns.ts';
import { hostnameText, hostsText, resolvConfText } from '../../runtime/net/files.ts';
import type { AttachRequest } from '../../runtime/net/types.ts';

const random = new SeededRandom(1);
const zones = [
  makeZone('front', [
    { name: 'web', addresses: ['10.0.1.100'] },
    { name: 'tasks.web', addresses: ['10.0.1.11', '10.0.1.12'] },
    { name: 'web.1.abc', addresses: ['10.0.1.11'] },
    { name: 'many', addresses: Array.from({ length: 200 }, (_, at) => `10.0.2.${at}`) },
  ]),
  makeZone('back', [{ name: 'db', addresses: ['10.0.9.5'] }]),
];

const TYPES: Record<string, number> = { A: 1, PTR: 12, MX: 15, AAAA: 28, ANY: 255 };

function question(name: string, type = 'A', flags = 0x0100, count = 1): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(`\0${label}`));
  for (const label of labels) label[0] = label.length - 1;
  const header = Buffer.from([0x12, 0x34, 0, 0, 0, count, 0, 0, 0, 0, 0, 0]);
  header.writeUInt16BE(flags, 2);
  const tail = count === 0 ? [] : [...labels, Buffer.from([0, 0, TYPES[type], 0, 1])];
  return Buffer.concat([header, ...tail]);
}

function answered(query: Buffer, transport: 'udp' | 'tcp' = 'udp') {
  const decision = decide(query, transport, zones, random);
  assert.equal(decision.kind, 'answer');
  const bytes = decision.kind === 'answer' ? decision.bytes : Buffer.alloc(0);
  return {
    id: bytes.readUInt16BE(0),
    response: (bytes[2] & 0x80) !== 0,
    truncated: (bytes[2] & 2) !== 0,
    rcode: bytes[3] & 15,
    answers: bytes.readUInt16BE(6),
    bytes,
  };
}

test('a known name is answered with its address and the question id', () => {
  const reply = answered(question('web'));
  assert.deepEqual(
    [reply.id, reply.response, reply.rcode, reply.answers, reply.truncated],
    [0x1234, true, 0, 1, false],
  );
  assert.deepEqual([...reply.bytes.subarray(-4)], [10, 0, 1, 100]);
});

test('the time to live is short', () => {
  const { bytes } = answered(question('web'));
  assert.ok(bytes.readUInt32BE(bytes.length - 10) <= 5);
});

test('names match in any case and with the network after them', () => {
  assert.deepEqual(lookUp(zones, 'db.back'), ['10.0.9.5']);
  assert.equal(lookUp(zones, 'db.front'), undefined);
  assert.equal(answered(question('WeB')).answers, 1);
});

test('a known name has no other records, and that is no error', () => {
  for (const type of ['AAAA', 'MX']) {
    const reply = answered(question('web', type));
    assert.deepEqual([reply.rcode, reply.answers], [0, 0]);
  }
});

test('unknown names and foreign addresses are for the upstream', () => {
  assert.equal(decide(question('example.com'), 'udp', zones, random).kind, 'forward');
  const foreign = question('9.9.9.9.in-addr.arpa', 'PTR');
  assert.equal(decide(foreign, 'udp', zones, random).kind, 'forward');
});

test('an address of a network has the name of its task there', () => {
  const reply = answered(question('11.1.0.10.in-addr.arpa', 'PTR'));
  assert.equal(reply.answers, 1);
  assert.ok(reply.bytes.includes(Buffer.from('\x03web\x011\x03abc\x05front')));
});

test('what does not fit over UDP is cut and said to be; TCP gets it all', () => {
  const cut = answered(question('many'));
  assert.ok(cut.truncated && cut.bytes.length <= 512 && cut.answers > 5, `${cut.answers}`);
  const whole = answered(question('many'), 'tcp');
  assert.deepEqual([whole.truncated, whole.answers], [false, 200]);
});

test('noise is not answered, a wrong question is answered with an error', () => {
  assert.equal(decide(Buffer.from('x'), 'udp', zones, random).kind, 'ignore');
  assert.equal(decide(question('web', 'A', 0x8180), 'udp', zones, random).kind, 'ignore');
  assert.equal(answered(question('web', 'A', 0x2900)).rcode, 4);
  assert.equal(answered(question('web', 'A', 0x0100, 0)).rcode, 1);
  for (let length = 0; length < 40; length += 1) {
    decide(Buffer.from(random.bytes(length)), 'udp', zones, random);
  }
});

test('a failure keeps the question and says so', () => {
  const bytes = failure(question('example.com'));
  assert.equal((bytes?.[3] ?? 0) & 15, 2);
  assert.equal(failure(Buffer.from('x')), undefined);
});

test('shuffling keeps the items and changes their order', () => {
  const orders = new Set<string>();
  for (let at = 0; at < 50; at += 1) {
    const shuffled = shuffle([1, 2, 3, 4], random);
    orders.add(shuffled.join());
    assert.deepEqual([...shuffled].sort(), [1, 2, 3, 4]);
  }
  assert.ok(orders.size > 10);
});

test('the upstreams are the first servers of resolv.conf', () => {
  const text =
    '# nameserver 1.1.1.1\nnameserver 10.0.0.1\n nameserver\t::1\nsearch x\nnameserver 3\n';
  assert.deepEqual(nameservers(text, 2), ['10.0.0.1', '::1']);
  assert.deepEqual(nameservers('', 3), []);
});

const request: AttachRequest = {
  containerId: 'c'.repeat(64),
  hostname: 'box',
  overlays: [],
  gateway: false,
  defaultBridge: false,
  extraHosts: [{ name: 'old', address: '192.0.2.1' }],
  dns: { servers: [], search: ['a.example', 'b.example'], options: [] },
};

test('the hosts file names localhost, extra hosts and the container itself', () => {
  const lines = hostsText(request, ['10.0.1.5', '10.254.1.2']).split('\n');
  assert.equal(lines[0], '127.0.0.1\tlocalhost');
  assert.deepEqual(lines.slice(-4), ['192.0.2.1\told', '10.0.1.5\tbox', '10.254.1.2\tbox', '']);
});

test('resolv.conf points at the built-in server, with ndots:0 unless told otherwise', () => {
  assert.equal(
    resolvConfText(request),
    'nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:0\n',
  );
  const dns = { servers: [], search: [], options: ['ndots:2'] };
  assert.equal(resolvConfText({ ...request, dns }), 'nameserver 127.0.0.11\noptions ndots:2\n');
});

test('text that would add a line to a file is refused', () => {
  const dns = { servers: [], search: ['a\nnameserver 6.6.6.6'], options: [] };
  assert.throws(() => resolvConfText({ ...request, dns }), { code: 'invalid' });
  assert.throws(() => hostnameText({ ...request, hostname: 'a b' }), { code: 'invalid' });
  assert.throws(() => hostnameText({ ...request, hostname: 'x'.repeat(65) }), { code: 'invalid' });
  const extraHosts = [{ name: 'a', address: '1.1.1.1\n2.2.2.2' }];
  assert.throws(() => hostsText({ ...request, extraHosts }, []), { code: 'invalid' });
});

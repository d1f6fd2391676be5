/**
 * Names inside containers, asked for with real sockets at 127.0.0.11, across a restart of the
 * daemon too; and the files that go with them.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Attachment, OverlayState } from '../../runtime/net/types.ts';
import { attachRequest, type Place, type TestHost, Underlay } from '../support/netns.ts';

let underlay: Underlay;
let host: TestHost;
let both: { place: Place; attachment: Attachment };
let front: { place: Place; attachment: Attachment };

function network(at: number, names: OverlayState['names']): OverlayState {
  return {
    networkId: `net${at}`,
    name: `net-${at}`,
    vni: 4096 + at,
    subnet: `10.20.${at}.0/24`,
    gateway: `10.20.${at}.1`,
    internal: false,
    mtu: 0,
    version: 1,
    peers: underlay.peers,
    endpoints: [],
    services: [],
    names,
  };
}

const on = (at: number, last: number) => ({
  networkId: `net${at}`,
  endpointId: `ep${at}-${last}`,
  address: `10.20.${at}.${last}`,
  aliases: [],
});

before(async () => {
  underlay = await Underlay.create(1);
  [host] = underlay.hosts;
  await host.applyOverlay(
    network(1, [
      { name: 'web', addresses: ['10.20.1.100'] },
      { name: 'tasks.web', addresses: ['10.20.1.11', '10.20.1.12', '10.20.1.13'] },
      { name: 'web.1.abc', addresses: ['10.20.1.11'] },
      { name: 'tasks.idle', addresses: [] },
    ]),
  );
  await host.applyOverlay(network(2, [{ name: 'db', addresses: ['10.20.2.100'] }]));
  const dns = { servers: ['192.168.50.100'], search: ['inner.example'], options: ['timeout:2'] };
  const extraHosts = [{ name: 'legacy', address: '192.0.2.9' }];
  both = await host.attach(
    attachRequest({ hostname: 'both', overlays: [on(1, 11), on(2, 11)], dns, extraHosts }),
  );
  front = await host.attach(attachRequest({ overlays: [on(1, 12)], gateway: true, dns }));
  await underlay.client.nameserver('192.168.50.100');
});

after(() => underlay?.close());

test('a name is answered on the networks that asker and name share', async () => {
  assert.deepEqual(await both.place.resolve('web'), { answers: ['10.20.1.100'] });
  assert.deepEqual(await both.place.resolve('WEB'), { answers: ['10.20.1.100'] });
  assert.deepEqual(await both.place.resolve('web.net-1'), { answers: ['10.20.1.100'] });
  assert.deepEqual(await both.place.resolve('db'), { answers: ['10.20.2.100'] });
  assert.deepEqual(await front.place.resolve('web'), { answers: ['10.20.1.100'] });
  assert.deepEqual(await front.place.resolve('db'), { error: 'ENOTFOUND' });
});

test('tasks of a service are all answered, in changing order', async () => {
  const orders = new Set<string>();
  for (let at = 0; at < 12; at += 1) {
    const { answers } = await front.place.resolve('tasks.web');
    assert.deepEqual([...(answers ?? [])].sort(), ['10.20.1.11', '10.20.1.12', '10.20.1.13']);
    orders.add(String(answers));
  }
  assert.ok(orders.size > 1);
});

test('a known name has no IPv6 address and no error; an idle service has no address', async () => {
  assert.deepEqual(await front.place.resolve('web', 'AAAA'), { error: 'ENODATA' });
  assert.deepEqual(await front.place.resolve('web', 'MX'), { error: 'ENODATA' });
  assert.deepEqual(await front.place.resolve('tasks.idle'), { error: 'ENODATA' });
});

test('an address has the name of its task', async () => {
  assert.deepEqual(await front.place.resolve('10.20.1.11', 'PTR'), {
    answers: ['web.1.abc.net-1'],
  });
});

test('an unknown name is asked upstream, and so is its absence', async () => {
  assert.deepEqual(await front.place.resolve('outside.example'), { answers: ['192.0.2.77'] });
  assert.deepEqual(await front.place.resolve('nowhere.example'), { error: 'ENOTFOUND' });
});

test('without an upstream that answers the failure is said at once', async () => {
  const dns = { servers: ['192.168.50.11'], search: [], options: [] };
  const { place, attachment } = await host.attach(attachRequest({ defaultBridge: true, dns }));
  assert.deepEqual(await place.resolve('outside.example'), { error: 'ESERVFAIL' });
  await host.call('detach', attachment.containerId);
});

/** Asks for an A record over TCP; the address answered. */
async function resolveByTcp(place: Place, name: string): Promise<string> {
  const script = `
    const { createConnection } = require('node:net');
    const labels = process.argv[1].split('.');
    const name = labels.map((label) => String.fromCharCode(label.length) + label).join('');
    const question = Buffer.concat([
      Buffer.from('123401000001000000000000', 'hex'), Buffer.from(name + '\\0\\0\\x01\\0\\x01')]);
    const socket = createConnection(53, '127.0.0.11', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(question.length);
      socket.write(Buffer.concat([length, question]));
    });
    socket.on('data', (data) => { console.log(data.subarray(-4).join('.')); socket.destroy(); });
  `;
  return (await place.run(process.execPath, '-e', script, name)).trim();
}

test('DNS answers over TCP, its own names and those of the upstream', async () => {
  assert.equal(await resolveByTcp(front.place, 'web'), '10.20.1.100');
  assert.equal(await resolveByTcp(front.place, 'outside.example'), '192.0.2.77');
});

test('a container without servers of its own asks those of the host, from the host', async () => {
  const list = `${host.execRoot}/resolv.conf`;
  await host.run('sh', '-c', `echo nameserver 192.168.50.100 > ${list}`);
  await host.run('mount', '--bind', list, '/etc/resolv.conf');
  const { place, attachment } = await host.attach(attachRequest({ overlays: [on(1, 30)] }));
  assert.deepEqual(await place.resolve('outside.example'), { answers: ['192.0.2.77'] });
  assert.equal(await resolveByTcp(place, 'outside.example'), '192.0.2.77');
  await host.call('detach', attachment.containerId);
});

test('the servers of a container are asked from the container: one on its network', async () => {
  const server = await host.attach(attachRequest({ overlays: [on(1, 31)] }));
  await server.place.nameserver('10.20.1.31');
  const dns = { servers: ['10.20.1.99', '10.20.1.31'], search: [], options: ['timeout:5'] };
  const asker = await host.attach(attachRequest({ overlays: [on(1, 32)], dns }));
  assert.equal(await resolveByTcp(asker.place, 'outside.example'), '192.0.2.77');
  server.place.stop();
  await host.call('detach', server.attachment.containerId);
  await host.call('detach', asker.attachment.containerId);
});

test('the files name the container, its resolver and its extra hosts', async () => {
  const read = (path: string): Promise<string> => host.run('cat', path);
  assert.equal(
    await read(both.attachment.resolvConfFile),
    'nameserver 127.0.0.11\nsearch inner.example\noptions timeout:2 ndots:0\n',
  );
  const hosts = await read(both.attachment.hostsFile);
  assert.match(hosts, /^192\.0\.2\.9\tlegacy$/m);
  assert.match(hosts, /^10\.20\.1\.11\tboth$/m);
  assert.match(hosts, /^10\.20\.2\.11\tboth$/m);
  assert.equal(await read(both.attachment.hostnameFile), 'both\n');
});

test('names are answered again by the next daemon after the first was killed', async () => {
  await host.kill();
  await host.start(undefined);
  assert.deepEqual(await front.place.resolve('web'), { answers: ['10.20.1.100'] });
  assert.deepEqual(await both.place.resolve('db'), { answers: ['10.20.2.100'] });
  await host.applyOverlay({
    ...network(1, [{ name: 'web', addresses: ['10.20.1.101'] }]),
    version: 2,
  });
  assert.deepEqual(await front.place.resolve('web'), { answers: ['10.20.1.101'] });
});

test('prune removes what belongs to no container that is left', async () => {
  await host.call('prune', [front.attachment.containerId]);
  const left = (await host.call('attachments')) as Attachment[];
  assert.deepEqual(
    left.map((attachment) => attachment.containerId),
    [front.attachment.containerId],
  );
  assert.deepEqual(await front.place.resolve('web'), { answers: ['10.20.1.101'] });
});

test('a network that went while the daemon was dead goes when nobody uses it', async () => {
  const gone = { ...network(3, []), networkId: 'gone' };
  await host.applyOverlay(gone);
  await host.kill();
  await host.start(undefined);
  const heir = { ...network(3, []), networkId: 'heir' };
  await host.applyOverlay(heir);
  const names = (): Promise<string> => host.run('ls', `${host.execRoot}/netns`);
  assert.doesNotMatch(await names(), /ov-gone/, 'its number was needed');
  await host.kill();
  await host.start(undefined);
  await host.applyOverlay(network(2, []));
  await host.call('prune', [front.attachment.containerId]);
  assert.deepEqual((await names()).match(/ov-\w+/g), ['ov-net1', 'ov-net2']);
  assert.deepEqual(await front.place.resolve('web'), { answers: ['10.20.1.101'] });
});

test('an attachment to an unknown network changes nothing', async () => {
  const request = attachRequest({ overlays: [on(1, 40), { ...on(9, 40) }] });
  await assert.rejects(host.attach(request), /network net9 is not known on this host/);
  const bad = attachRequest({ hostname: 'two words', overlays: [on(1, 41)] });
  await assert.rejects(host.attach(bad), /hostname "two words" must be one word/);
  const names = await host.run('ls', `${host.execRoot}/netns`);
  assert.ok(!names.includes(request.containerId) && !names.includes(bad.containerId));
  assert.deepEqual(await host.call('reconcile'), []);
});

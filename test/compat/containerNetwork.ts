/** docker container create/run: names, addresses and ports of a container. */
import assert from 'node:assert/strict';
import { CLIENT_ADDRESS, hostLayout } from '../../deploy/hosts/layout.ts';
import { follow, until } from '../support/lab.ts';
import { CREATE } from './containerResources.ts';
import type { Suite } from './suite.ts';
import {
  BOX,
  boxed,
  docker,
  fetched,
  fileOf,
  procFile,
  refused,
  SLEEP,
  SOON_MS,
  within,
} from './world.ts';

/** Serves the word that it is given. */
export const serve = (word: string): string[] => [
  ...['sh', '-c', `echo ${word} > /index.html; exec httpd -f -p 80 -h /`],
];

/** Says 10.4.5.6 to every question. */
const DNS_SERVER = `const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (question, from) => {
    const end = question.indexOf(0, 12) + 5;
    const record = Buffer.from('c00c00010001000000050004' + '0a040506', 'hex');
    const head = Buffer.from(question.subarray(0, end));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(question.readUInt16BE(end - 4) === 1 ? 1 : 0, 6);
    head.writeUInt32BE(0, 8);
    socket.send(Buffer.concat([head, head[7] === 1 ? record : Buffer.alloc(0)]), from.port,
      from.address);
  });
  socket.bind(53, '${CLIENT_ADDRESS}', () => console.log('up'));`;

const MAC = '02:42:0a:4d:00:09';

export function containerNetwork(suite: Suite): void {
  addresses(suite);
  names(suite);
  ports(suite);
  suite.not(CREATE, ['link-local-ip'], 'refused; not built');
  links(suite);
}

function links(suite: Suite): void {
  suite.differs(
    CREATE,
    ['link'],
    'the other container’s names and ports are what they are when this one starts; on a user ' +
      'network, too, the other has to run then',
  );
  suite.works(
    'container create',
    [],
    'a link tells of the other container by hosts and variables',
    async () => {
      const create = (...flags: string[]): string[] => ['container', 'create', ...flags, BOX];
      await refused('h1', create('--link-local-ip', '169.254.9.9'), /LinkLocalIPs/);
      await refused('h1', create('--link', 'other'), /no such container: other/i);
      await docker('h1', 'network', 'create', 'linked');
      const offers = ['--expose', '80', '--expose', '53/udp', '-e', 'A=b', '--hostname', 'inner'];
      await boxed('giver', offers, SLEEP, async (giver) => {
        const address = (await within(giver, 'hostname', '-i')).trim();
        const host = ['--network', 'host', '--link', 'giver'];
        await refused('h1', create(...host), /host type networking can't be used with links/);
        await boxed('taker', ['--link', 'giver:to-me'], SLEEP, async (pid) => {
          const hosts = procFile(pid, 'root/etc/hosts');
          for (const name of ['to-me', 'inner', 'giver']) {
            assert.match(hosts, new RegExp(`^${address}\t${name}$`, 'm'));
          }
          const env = procFile(pid, 'environ').split('\0');
          for (const variable of [
            `TO_ME_PORT=udp://${address}:53`,
            `TO_ME_PORT_53_UDP=udp://${address}:53`,
            `TO_ME_PORT_80_TCP=tcp://${address}:80`,
            `TO_ME_PORT_80_TCP_ADDR=${address}`,
            'TO_ME_PORT_80_TCP_PORT=80',
            'TO_ME_PORT_80_TCP_PROTO=tcp',
            'TO_ME_NAME=/taker/to-me',
            'TO_ME_ENV_A=b',
          ]) {
            assert.ok(env.includes(variable), variable);
          }
          assert.ok(!env.some((each) => each.startsWith('TO_ME_ENV_PATH')));
          const shown = await docker('h1', 'inspect', '-f', '{{.HostConfig.Links}}', 'taker');
          assert.equal(shown, '[/giver:/taker/to-me]');
        });
        await docker('h1', 'network', 'connect', 'linked', 'giver');
        const flags = ['--network', 'linked', '--link', 'giver:friend'];
        await boxed('mate', flags, SLEEP, async (pid) => {
          assert.match(procFile(pid, 'root/etc/hosts'), /^\d+\.\d+\.\d+\.\d+\tfriend$/m);
        });
      });
      await docker('h1', 'create', '--name', 'still', BOX);
      const run = ['container', 'run', '--rm', '--link', 'still', BOX, 'true'];
      await refused('h1', run, /cannot link to a non running container: \/still AS/i);
      await docker('h1', 'rm', 'still');
      await docker('h1', 'network', 'rm', 'linked');
    },
  );
}

function addresses(suite: Suite): void {
  suite.works(
    CREATE,
    ['network', 'network-alias', 'ip', 'ip6', 'mac-address'],
    'its interface has the addresses asked for, and its neighbours reach it by alias',
    async () => {
      const subnets = ['--subnet', '10.77.0.0/24', '--ipv6', '--subnet', 'fd77::/64'];
      await docker('h1', 'network', 'create', ...subnets, 'shops');
      const flags = [
        ...['--network', 'shops', '--network-alias', 'till', '--ip', '10.77.0.9'],
        ...['--ip6', 'fd77::9', '--mac-address', MAC],
      ];
      await boxed('shop', flags, serve('bread'), async (pid) => {
        const links = await within(pid, 'ip', 'address', 'show', 'eth0');
        for (const wanted of [`ether ${MAC} `, 'inet 10.77.0.9/24 ', 'inet6 fd77::9/64 ']) {
          assert.ok(links.includes(wanted), `${wanted} in ${links}`);
        }
        const get = ['--rm', '--network', 'shops', BOX, 'wget', '-qO-', 'http://till/'];
        assert.equal(await docker('h1', 'container', 'run', ...get), 'bread');
      });
      const shared = ['--network', 'host'];
      await boxed('bare', shared, SLEEP, async (pid) => {
        assert.match(await within(pid, 'ip', 'address'), /10\.99\.0\.11\//);
      });
      await docker('h1', 'network', 'rm', 'shops');
    },
  );
}

function names(suite: Suite): void {
  suite.works(
    CREATE,
    ['hostname', 'domainname', 'add-host', 'dns', 'dns-search', 'dns-option'],
    'its names are the kernel’s, and its files tell where others are',
    async () => {
      const flags = [
        ...['--hostname', 'inner', '--domainname', 'example.test', '--add-host', 'far:10.1.2.3'],
        ...['--dns', CLIENT_ADDRESS, '--dns-search', 'corp.test', '--dns-option', 'ndots:3'],
      ];
      const server = follow('client', 'node', '-e', DNS_SERVER);
      await until('the name server is up', SOON_MS, () => server.lines.length > 0 || undefined);
      await boxed('named', flags, SLEEP, async (pid) => {
        assert.equal(await within(pid, 'hostname'), 'inner');
        assert.equal(await within(pid, 'cat', '/proc/sys/kernel/domainname'), 'example.test');
        assert.match(fileOf(pid, '/etc/hosts'), /^10\.1\.2\.3\s+far$/m);
        const resolver = fileOf(pid, '/etc/resolv.conf');
        assert.match(resolver, /^search corp\.test$/m);
        assert.match(resolver, /^options .*ndots:3/m);
        const answer = await within(pid, 'nslookup', 'anything.example.');
        assert.match(answer, /10\.4\.5\.6/, 'the server that was named answers');
      });
      server.stop();
    },
  );
}

function ports(suite: Suite): void {
  const { address } = hostLayout(1);
  suite.works(
    CREATE,
    ['publish', 'publish-all', 'expose'],
    'its ports answer outside: those named, and each exposed one on a port of the host’s choice',
    async () => {
      const named = ['--publish', '8085:80', '--publish', '127.0.0.1:8086:80/tcp'];
      await boxed('open', named, serve('open'), async (pid) => {
        assert.equal(await fetched('client', `http://${address}:8085/`), 'open\n');
        assert.equal(await fetched('h1', 'http://127.0.0.1:8086/'), 'open\n');
        assert.equal(await fetched('client', `http://${address}:8086/`), '');
        assert.match(procFile(pid, 'net/tcp6') + procFile(pid, 'net/tcp'), /:0050 /);
      });
      assert.equal(await fetched('client', `http://${address}:8085/`), '');
      await boxed('all', ['--publish-all', '--expose', '80'], serve('all'), async () => {
        const port = (await docker('h1', 'container', 'port', 'all', '80/tcp')).split(/\s/)[0];
        const number = port.split(':').at(-1) ?? '';
        assert.equal(await fetched('client', `http://${address}:${number}/`), 'all\n');
      });
    },
  );
}

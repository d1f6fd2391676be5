/** docker network. */
import assert from 'node:assert/strict';
import { until } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import { addressesOf, inGateway, onHost, pings } from './look.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, field, pidOf, refused, runningTasks, SOON_MS, within } from './world.ts';

const OUTSIDE = '10.99.0.100';
const OPTION = 'com.docker.network';
const SLEEP = ['sleep', '600'];

async function start(host: string, name: string, ...flags: string[]): Promise<void> {
  await docker(host, 'run', '-d', '--name', name, ...flags, BOX, ...SLEEP);
}

async function end(host: string, ...names: string[]): Promise<void> {
  await docker(host, 'rm', '-f', ...names);
}

/** What a container's resolver answers for a name; '' when it knows none. */
async function lookUp(host: string, container: string, name: string): Promise<string> {
  const pid = await pidOf(host, container);
  const text = await within(pid, 'sh', '-c', `nslookup ${name} 127.0.0.11 || true`);
  return text.slice(text.indexOf('Name:'));
}

async function names(...flags: string[]): Promise<string[]> {
  const text = await docker('h1', 'network', 'ls', '--format', '{{.Name}}', ...flags);
  return text.split('\n').sort();
}

export function networks(suite: Suite): void {
  create(suite);
  connect(suite);
  look(suite);
  remove(suite);
}

function create(suite: Suite): void {
  suite.works(
    'network create',
    ['driver', 'gateway', 'ip-range', 'label', 'opt', 'subnet', 'ipv4'],
    'a bridge has the addresses, the MTU and the name that were asked for',
    async () => {
      const pool = ['--subnet', '172.31.0.0/16', '--gateway', '172.31.9.9'];
      const options = ['-o', `${OPTION}.driver.mtu=1380`, '-o', `${OPTION}.bridge.name=cmp0`];
      await docker(
        'h1',
        ...['network', 'create', '--driver', 'bridge', ...pool, '--ip-range', '172.31.5.0/24'],
        ...['--label', 'kind=cmp', '--ipv4=true', ...options, 'yard'],
      );
      await start('h1', 'hen', '--network', 'yard');
      const [address] = await addressesOf('h1', 'hen');
      assert.match(address, /^172\.31\.5\.\d+\/16$/);
      const pid = await pidOf('h1', 'hen');
      assert.match(await within(pid, 'ip', 'route'), /^default via 172\.31\.9\.9 dev eth0/m);
      assert.match(await within(pid, 'ip', 'link', 'show', 'eth0'), / mtu 1380 /);
      assert.match(await inGateway('h1', 'ip', '-br', 'link'), /^cmp0 /m);
      assert.ok(await pings('h1', 'hen', OUTSIDE));
    },
  );
  suite.works(
    'network create',
    ['ipv6'],
    'containers have addresses of both families',
    async () => {
      await docker('h1', 'network', 'create', '--ipv6', '--subnet', 'fd44::/64', 'both');
      await start('h1', 'one', '--network', 'both');
      await start('h1', 'two', '--network', 'both');
      const found = (await addressesOf('h1', 'two')).find((each) => each.startsWith('fd44::'));
      assert.ok(found !== undefined);
      assert.ok(await pings('h1', 'one', found.split('/')[0]));
      await end('h1', 'one', 'two');
    },
  );
  suite.works('network create', ['internal'], 'nothing outside is reached from it', async () => {
    await docker('h1', 'network', 'create', '--internal', 'cell');
    await start('h1', 'one', '--network', 'cell');
    await start('h1', 'two', '--network', 'cell');
    const [address] = await addressesOf('h1', 'two');
    assert.ok(await pings('h1', 'one', address.split('/')[0]));
    assert.equal(await pings('h1', 'one', OUTSIDE), false);
    await end('h1', 'one', 'two');
  });
  suite.works(
    'network create',
    ['attachable'],
    'containers of two hosts find each other on an overlay',
    async () => {
      const overlay = ['network', 'create', '--driver', 'overlay', '--subnet', '10.71.0.0/24'];
      await docker('h1', ...overlay, '--scope', 'swarm', '--attachable', 'far');
      await start('h1', 'one', '--network', 'far');
      await start('h2', 'two', '--network', 'far');
      const [address] = await addressesOf('h2', 'two');
      assert.match(address, /^10\.71\.0\.\d+\/24$/);
      assert.ok(await pings('h1', 'one', address.split('/')[0]));
      assert.match(await lookUp('h1', 'one', 'two'), new RegExp(address.split('/')[0]));
      await docker('h1', ...overlay.slice(0, 4), 'shut');
      await refused('h1', ['run', '--rm', '--network', 'shut', BOX, 'true'], /attachable/);
    },
  );
  suite.differs(
    'network create',
    ['scope'],
    '`swarm` is for overlays and `local` for bridges, which they have anyway; other pairs are ' +
      'refused',
  );
  suite.differs('network create', ['ipam-driver'], 'only `default`; another is refused');
  suite.works('network create', [], 'a bridge gives out no address kept for others', async () => {
    const kept = ['--aux-address', 'printer=172.29.0.2', '--aux-address', 'phone=172.29.0.3'];
    await docker('h1', 'network', 'create', '--subnet', '172.29.0.0/29', ...kept, 'tight');
    await start('h1', 'three', '--network', 'tight');
    assert.deepEqual(await addressesOf('h1', 'three'), ['172.29.0.4/29']);
    await end('h1', 'three');
  });
  suite.differs(
    'network create',
    ['aux-address'],
    'works with bridges; refused with overlays, whose tasks get addresses of `--ip-range` only',
  );
  suite.not(
    'network create',
    ['config-from', 'config-only'],
    'refused: give each network its flags, or write it in a stack file',
  );
  suite.not(
    'network create',
    ['ingress'],
    'refused: published ports need no network that can be seen or replaced',
  );
  suite.not('network create', ['ipam-opt'], 'refused: the address management has no options');
  suite.works('network create', [], 'what it does not do it refuses by name', async () => {
    const made = (...flags: string[]) => ['network', 'create', ...flags, 'never'];
    const aux = ['--subnet', '10.5.0.0/24', '--aux-address', 'a=10.5.0.3'];
    const line = (path: string) => new RegExp(`^Error response from daemon: ${path} .*\\n$`);
    await refused(
      'h1',
      made('--driver', 'overlay', ...aux),
      line('IPAM.Config\\[0\\].AuxiliaryAddresses is not'),
    );
    await refused('h1', made('--config-only'), line('ConfigOnly is not'));
    await refused('h1', made('--config-from', 'x'), line('ConfigFrom is not'));
    await refused('h1', made('--driver', 'overlay', '--ingress'), line('Ingress is not'));
    await refused('h1', made('--ipam-driver', 'x'), line('IPAM.Driver is not'));
    await refused('h1', made('--ipam-opt', 'x=y'), line('IPAM.Options is not'));
    await refused('h1', made('--scope', 'swarm'), line('Scope is not'));
    await refused('h1', made('--ipv4=false', '--ipv6'), line('EnableIPv4 is not'));
    await refused('h1', made('--driver', 'macvlan'), line('Driver: "macvlan"'));
  });
}

function connect(suite: Suite): void {
  suite.works(
    'network connect',
    ['alias', 'ip', 'ip6'],
    'a running container gets one more interface, with the address and the name asked for',
    async () => {
      await docker(
        'h1',
        ...['network', 'create', '--ipv6', '--subnet', '172.30.0.0/16'],
        ...['--subnet', 'fd45::/64', 'second'],
      );
      await start('h1', 'egg', '--network', 'second');
      const wishes = ['--ip', '172.30.7.7', '--ip6', 'fd45::77', '--alias', 'rooster'];
      await docker('h1', 'network', 'connect', ...wishes, 'second', 'hen');
      const addresses = await addressesOf('h1', 'hen');
      assert.ok(addresses.includes('172.30.7.7/16'), addresses.join());
      assert.ok(addresses.includes('fd45::77/64'), addresses.join());
      assert.match(await lookUp('h1', 'egg', 'rooster'), /172\.30\.7\.7/);
      assert.ok(await pings('h1', 'egg', 'fd45::77'));
    },
  );
  suite.not(
    'network connect',
    ['link'],
    'refused: an alias is known to all on the network, `--alias`',
  );
  suite.differs(
    'network connect',
    ['driver-opt'],
    'kept and shown; what a driver would act upon (`com.docker.network.…`) is refused',
  );
  suite.not(
    'network connect',
    ['gw-priority'],
    'refused: the default route is by the network connected first',
  );
  suite.not(
    'network connect',
    ['link-local-ip'],
    'refused: add the address in the container, or take one of the subnet with `--ip`',
  );
  suite.works('network connect', [], 'what it does not do it refuses by name', async () => {
    const line = (path: string) => new RegExp(`EndpointConfig\\.${path} is not supported`);
    const connecting = (...flags: string[]) => ['network', 'connect', ...flags, 'both', 'hen'];
    await refused('h1', connecting('--link', 'egg:e'), line('Links'));
    await refused(
      'h1',
      connecting('--driver-opt', `${OPTION}.a=b`),
      line(`DriverOpts\\.${OPTION}\\.a`),
    );
    await refused('h1', connecting('--gw-priority', '1'), line('GwPriority'));
    await refused(
      'h1',
      connecting('--link-local-ip', '169.254.9.9'),
      line('IPAMConfig\\.LinkLocalIPs'),
    );
  });
  suite.works('network disconnect', ['force'], 'the interface is gone', async () => {
    await docker('h1', 'network', 'disconnect', 'second', 'hen');
    assert.equal((await addressesOf('h1', 'hen')).length, 1);
    await docker('h1', 'network', 'disconnect', '--force', 'second', 'egg');
    assert.deepEqual(await addressesOf('h1', 'egg'), []);
    await end('h1', 'egg');
  });
}

function look(suite: Suite): void {
  suite.works('network inspect', ['format'], 'addresses are told as they are', async () => {
    const format =
      '{{(index .IPAM.Config 0).Gateway}}{{range .Containers}} {{.IPv4Address}}{{end}}';
    const [address] = await addressesOf('h1', 'hen');
    assert.equal(
      await docker('h1', 'network', 'inspect', '--format', format, 'yard'),
      `172.31.9.9 ${address}`,
    );
  });
  suite.works('network inspect', ['verbose'], 'a service’s tasks on all hosts', async () => {
    const format =
      '{{range .Containers}}{{.IPv4Address}} {{end}}' +
      '{{range (index .Services "pair").Tasks}}{{index .Info "Host IP"}}/{{.EndpointIP}} {{end}}';
    await docker(
      'h1',
      ...['service', 'create', '-d', '--name', 'pair', '--mode', 'global', '--network', 'far'],
      ...['--stop-signal', 'SIGKILL', BOX, ...SLEEP],
    );
    const tasks = await runningTasks('pair', 2);
    const text = await docker('h1', 'network', 'inspect', '--verbose', '--format', format, 'far');
    for (const { node, container } of tasks) {
      const own = await addressesOf(node, container);
      const found = own.find((each) => each.startsWith('10.71.0.'));
      assert.ok(found !== undefined && text.split(' ').includes(found), `${text}: ${own.join()}`);
      const place = `${layoutOf(node).address}/${found.split('/')[0]}`;
      assert.ok(text.split(' ').includes(place), `${text}: ${place}`);
    }
    await docker('h1', 'service', 'rm', 'pair');
  });
  suite.works(
    'network ls',
    ['filter', 'format', 'no-trunc', 'quiet'],
    'networks by driver, label, scope, type, name, id and use',
    async () => {
      const id = await field('h1', 'yard', '{{.Id}}');
      assert.deepEqual(await names('--filter', 'label=kind=cmp'), ['yard']);
      assert.deepEqual(await names('--filter', 'driver=overlay', '--filter', 'name=far'), ['far']);
      assert.deepEqual(await names('--filter', 'type=builtin'), ['bridge', 'host', 'none']);
      assert.deepEqual(await names('--filter', 'scope=swarm'), ['far', 'shut']);
      assert.deepEqual(await names('--filter', `id=${id.slice(0, 9)}`), ['yard']);
      assert.ok(!(await names('--filter', 'dangling=true')).includes('yard'));
      const name = ['--filter', 'name=yard'];
      assert.equal(await docker('h1', 'network', 'ls', '-q', ...name), id.slice(0, 12));
      assert.equal(await docker('h1', 'network', 'ls', '-q', '--no-trunc', ...name), id);
    },
  );
}

function remove(suite: Suite): void {
  suite.works('network rm', ['force'], 'in use it stays, else its bridge goes', async () => {
    await refused('h1', ['network', 'rm', 'yard'], /active endpoints/);
    await end('h1', 'hen');
    await docker('h1', 'network', 'rm', 'yard');
    assert.doesNotMatch(await inGateway('h1', 'ip', '-br', 'link'), /^cmp0 /m);
    await refused('h1', ['network', 'rm', 'yard'], /network yard not found/);
    await docker('h1', 'network', 'rm', '--force', 'yard');
  });
  suite.works('network prune', ['filter', 'force'], 'those that nobody uses go', async () => {
    await end('h1', 'one');
    await end('h2', 'two');
    await docker('h1', 'network', 'create', '--label', 'keep=me', 'kept');
    await until('what has no user any more is gone', SOON_MS, async () => {
      await docker('h1', 'network', 'prune', '--force', '--filter', 'label!=keep');
      const left = await names();
      assert.ok(left.includes('kept'));
      return (!left.includes('second') && !left.includes('far')) || undefined;
    });
    await docker('h1', 'network', 'prune', '--force', '--filter', 'until=1h');
    assert.ok((await names()).includes('kept'));
    await docker('h1', 'network', 'prune', '--force', '--filter', 'label=keep=me');
    assert.ok(!(await names()).includes('kept'));
    assert.doesNotMatch(await onHost('h1', 'ip', 'route'), /^172\.(30|31)\./m);
  });
}

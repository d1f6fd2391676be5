/**
 * docker service create and update: networks, virtual addresses and names, published ports. Asked
 * from inside containers' namespaces and from the client outside of the swarm.
 */
import assert from 'node:assert/strict';
import { inside, outcome, until } from '../support/lab.ts';
import type { Suite } from './suite.ts';
import { ASLEEP, change, ofService, type Program, remove, serve } from './tasks.ts';
import { BOX, docker, fetched, refused, SOON_MS, tried, within } from './world.ts';

const WEB = 'hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp';
const HOST_PORT = 'mode=host,published=8181,target=80';
const ON_H1 = ['--constraint', 'node.hostname==h1'];
const [H1, H2] = ['http://10.99.0.11', 'http://10.99.0.12'];

/** What a name stands for, asked inside of a container; '' when it stands for nothing. */
async function addressesOf({ pid }: Program, name: string): Promise<string> {
  const ask = ['-t', String(pid), '-a', 'nslookup', '-type=a', name];
  const { stdout } = await outcome('nsenter', ask);
  const answers = stdout.slice(stdout.indexOf('Name:'));
  return [...answers.matchAll(/^Address(?: \d+)?: (\d[\d.]+)/gm)]
    .map((match) => match[1])
    .join(' ');
}

async function ownAddresses({ pid }: Program): Promise<string> {
  const { stdout } = await outcome('nsenter', ['-t', String(pid), '-n', 'ip', '-4', '-br', 'addr']);
  return stdout;
}

/** Waits until the URL answers with `text`, or does not answer ('') any more. */
function untilAnswers(url: string, text: string): Promise<true> {
  return until(`${url} answers "${text}"`, SOON_MS, async () =>
    (await fetched('client', url)).trim() === text ? true : undefined,
  );
}

const LISTEN =
  'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); ' +
  's.bind(("", int(__import__("sys").argv[1]))); print(s.recv(99).decode(), end="")';

/** What is heard on a port of the task's when the outside client sends 'asked' to `to`. */
async function datagram({ pid }: Program, port: number, to: string): Promise<string> {
  const listen = ['timeout', '20', 'python3', '-c', LISTEN, String(port)];
  let heard: string | undefined;
  const ended = outcome('nsenter', ['-t', String(pid), '-n', ...listen]).then(({ stdout }) => {
    heard = stdout;
  });
  await until('a datagram is heard', SOON_MS, async () => {
    await inside('client', 'bash', '-c', `printf asked > /dev/udp/${to}`);
    return heard === undefined ? undefined : true;
  });
  await ended;
  return heard ?? '';
}

export function serviceNetwork(suite: Suite): void {
  let peer: Program;
  suite.works(
    'service create',
    ['endpoint-mode', 'network', 'publish'],
    'the network is attached, name and alias stand for the virtual address, ports answer',
    async () => {
      for (const [name, third] of Object.entries({ inner: 88, second: 89 })) {
        const subnet = ['--subnet', `10.${third}.0.0/24`];
        await docker('h1', 'network', 'create', '-d', 'overlay', ...subnet, name);
      }
      const both = ['--network', 'inner', '--network', 'second'];
      [peer] = await serve('peer', 1, both, ...ASLEEP);
      const [task] = await serve(
        'web',
        1,
        [
          ...[...ON_H1, '--network', 'name=inner,alias=short', '--hostname', 'page'],
          ...['--endpoint-mode', 'vip', '--publish', '8180:80', '--publish', '8182-8183:80-81'],
          ...['--publish', HOST_PORT, '--publish', '80'],
          ...['--publish', '8184:5353/udp'],
        ],
        'sh',
        '-c',
        WEB,
      );
      assert.match(await ownAddresses(task), / 10\.88\.0\.\d+\/24/);
      const address = await addressesOf(peer, 'web');
      assert.match(address, /^10\.88\.0\.\d+$/);
      assert.ok(!(await ownAddresses(task)).includes(`${address}/`), 'it is a virtual one');
      assert.equal(await addressesOf(peer, 'short'), address);
      assert.equal(await within(peer.pid, '/bin/busybox', 'wget', '-qO-', 'http://short/'), 'page');
      await untilAnswers(`${H1}:8180/`, 'page');
      await untilAnswers(`${H2}:8180/`, 'page');
      await untilAnswers(`${H2}:8182/`, 'page');
      await untilAnswers(`${H1}:8181/`, 'page');
      assert.equal(await fetched('client', `${H2}:8181/`), '', 'only where the task is');
      const ports = '{{range .Endpoint.Ports}}{{.Protocol}}:{{.PublishedPort}} {{end}}';
      const chosen = / tcp:(3[0-2]\d{3}) /.exec(` ${await ofService('web', ports)} `)?.[1];
      await untilAnswers(`${H2}:${chosen}/`, 'page');
      assert.equal(await datagram(task, 5353, '10.99.0.12/8184'), 'asked');
    },
  );
  suite.works(
    'service update',
    ['endpoint-mode', 'network-add', 'network-rm', 'publish-add', 'publish-rm'],
    'another network, the task behind the name itself, other ports',
    async () => {
      const networks = ['--network-rm', 'inner', '--network-add', 'name=second,alias=brief'];
      const ports = ['80', '81', '5353/udp', HOST_PORT].flatMap((port) => ['--publish-rm', port]);
      const added = ['--publish-add', 'mode=host,published=8185,target=80'];
      const mode = ['--endpoint-mode', 'dnsrr'];
      const [task] = await change('web', 1, ...mode, ...networks, ...ports, ...added);
      const own = await ownAddresses(task);
      assert.match(own, / 10\.89\.0\.\d+\/24/);
      assert.doesNotMatch(own, / 10\.88\./);
      const address = await addressesOf(peer, 'brief');
      assert.ok(own.includes(`${address}/24`), `${address} is the task's own`);
      assert.equal(await addressesOf(peer, 'short'), '');
      await untilAnswers(`${H1}:8185/`, 'page');
      for (const port of [8180, 8181, 8182]) await untilAnswers(`${H1}:${port}/`, '');
      await remove('web', 'peer');
      await until('the networks are free', SOON_MS, async () =>
        (await tried('h1', 'network', 'rm', 'inner', 'second')).code === 0 ? true : undefined,
      );
    },
  );
  suite.works('service create', ['publish'], 'sctp is refused in one line', async () => {
    const create = ['service', 'create', '--publish', '99:99/sctp', BOX];
    await refused(
      'h1',
      create,
      /Ports\[0\]\.Protocol is not supported by tsswarm: use tcp or udp$/m,
    );
  });
  suite.differs('service create', ['publish'], 'tcp and udp; sctp is refused');
  suite.differs('service update', ['publish-add'], 'tcp and udp; sctp is refused');
}

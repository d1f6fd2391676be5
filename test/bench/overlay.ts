/**
 * iperf3 from container to container across two hosts: this overlay, a plain Linux VXLAN device
 * between two namespaces on the same underlay, and dockerd's overlay on hosts of its own. In turns,
 * so that a noisy machine is as noisy to each.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Dockerds, hasDockerd, startDockerds } from '../support/dockerd.ts';
import { outcome, until, WEB_IMAGE, WEB_TAR } from '../support/lab.ts';
import { attachRequest, Underlay } from '../support/netns.ts';
import { type Figure, figure } from './report.ts';

const ROUNDS = 9;
const SECONDS = 2;
const GIGABIT = 1e9;
const PORT = '5201';
const READY_MS = 30_000;
const VERSUS_PLAIN = 0.9;
const VERSUS_DOCKERD = 1;

/** Two ends: how to get to each, and the address of the second. */
interface Way {
  readonly name: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly address: string;
}

async function must(file: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await outcome(file, args);
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

async function serve(way: Way): Promise<ChildProcess> {
  const command = ['iperf3', '--server', '--port', PORT, '--forceflush'];
  const server = spawn('nsenter', [...way.to, ...command], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(server.stdout as NodeJS.ReadableStream, 'data');
  return server;
}

async function measure(way: Way): Promise<number> {
  const command = ['iperf3', '--client', way.address, '--port', PORT, '--json'];
  const text = await must('nsenter', [...way.from, ...command, '--time', String(SECONDS)]);
  const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
  return end.sum_received.bits_per_second / GIGABIT;
}

async function ours(underlay: Underlay): Promise<Way> {
  const places = [];
  for (const [at, host] of underlay.hosts.entries()) {
    await host.applyOverlay({
      networkId: 'bench',
      name: 'bench',
      vni: 4096,
      subnet: '10.0.9.0/24',
      gateway: '10.0.9.1',
      internal: false,
      mtu: 0,
      version: 1,
      peers: underlay.peers,
      endpoints: underlay.peers.map(({ hostIndex }, end) => ({
        id: `e${end}`,
        address: `10.0.9.${11 + end}`,
        hostIndex,
      })),
      services: [],
      names: [],
    });
    const address = `10.0.9.${11 + at}`;
    const overlays = [{ networkId: 'bench', endpointId: `e${at}`, address, aliases: [] }];
    places.push((await host.attach(attachRequest({ overlays, gateway: true }))).place);
  }
  const [from, to] = places.map((place) => place.enter);
  return { name: 'tsswarm overlay', from, to, address: '10.0.9.12' };
}

/** As little as Linux needs for it: one device on each host, and nothing between. */
async function plain(underlay: Underlay): Promise<Way> {
  const [left, right] = underlay.hosts;
  for (const [host, other, end] of [
    [left, right, 1],
    [right, left, 2],
  ] as const) {
    const tunnel = ['id', '77', 'local', host.address, 'remote', other.address, 'dstport', '4800'];
    await host.run('ip', 'link', 'add', 'plain0', 'type', 'vxlan', ...tunnel, 'dev', 'eth0');
    await host.run('ip', 'address', 'add', `10.77.0.${end}/24`, 'dev', 'plain0');
    await host.run('ip', 'link', 'set', 'plain0', 'up');
  }
  return { name: 'plain VXLAN', from: left.enter, to: right.enter, address: '10.77.0.2' };
}

async function theirs({ hosts }: Dockerds): Promise<Way> {
  const [left, right] = hosts;
  await left.docker('swarm', 'init', '--advertise-addr', left.address);
  const token = (await left.docker('swarm', 'join-token', '-q', 'worker')).trim();
  const join = ['--token', token, '--advertise-addr', right.address, `${left.address}:2377`];
  await right.docker('swarm', 'join', ...join);
  await left.docker('network', 'create', '--driver', 'overlay', '--attachable', 'bench');
  const ends = [];
  for (const host of [left, right]) {
    await host.docker('load', '--input', WEB_TAR);
    const id = (await host.docker('run', '--detach', '--network', 'bench', WEB_IMAGE)).trim();
    const shown = await host.docker('inspect', '--format', INSPECT, id);
    const [pid, address] = shown.trim().split(' ');
    // Its pid is one of the daemon's namespace of processes.
    const enter = ['-t', String(host.pid), '-m', '-p', 'nsenter', '-t', pid, '-n'];
    ends.push({ enter, address });
  }
  const [from, to] = ends;
  const { address } = to;
  await until('dockerd overlay carries packets', READY_MS, async () => {
    const ping = ['ping', '-c', '1', '-W', '1', address];
    return (await outcome('nsenter', [...from.enter, ...ping])).code === 0 ? true : undefined;
  });
  return { name: 'dockerd overlay', from: from.enter, to: to.enter, address };
}

const INSPECT = '{{.State.Pid}} {{.NetworkSettings.Networks.bench.IPAddress}}';

function ratio(left: readonly number[], right: readonly number[]): number[] {
  return left.map((value, at) => value / right[at]);
}

export async function benchmark(): Promise<Figure[]> {
  const underlay = await Underlay.create(2);
  let dockerds: Dockerds | undefined;
  const servers: ChildProcess[] = [];
  try {
    const ways = [await ours(underlay), await plain(underlay)];
    if (hasDockerd()) {
      dockerds = await startDockerds(2);
      ways.push(await theirs(dockerds));
    }
    for (const way of ways) servers.push(await serve(way));
    const measured = ways.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [at, way] of ways.entries()) measured[at].push(await measure(way));
    }
    const none = { text: '' };
    const figures = ways.map((way, at) =>
      figure(`iperf3 across hosts, ${way.name}`, 'Gbit/s', measured[at], none),
    );
    const [own, bare, peer] = measured;
    const least = { text: `>= ${VERSUS_PLAIN}`, least: VERSUS_PLAIN };
    figures.push(figure('overlay / plain VXLAN', 'x', ratio(own, bare), least));
    if (peer === undefined) return figures;
    const peerLeast = { text: `>= ${VERSUS_DOCKERD}`, least: VERSUS_DOCKERD };
    return [...figures, figure('overlay / dockerd overlay', 'x', ratio(own, peer), peerLeast)];
  } finally {
    for (const server of servers) server.kill('SIGKILL');
    await dockerds?.stop();
    await underlay.close();
  }
}

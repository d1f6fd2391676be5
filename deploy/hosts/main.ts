/**
 * `deploy/lab`: raises, breaks and takes down a lab of hosts on this machine. Every subcommand is
 * one function here; what they do to a host or to the wire is in host.ts and underlay.ts.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import {
  boot,
  daemonPid,
  execInteractive,
  pidOf,
  powerOff,
  startDaemon,
  stopDaemon,
  TOP,
  tsswarm,
} from './host.ts';
import {
  BIN_DIR,
  CGROUP_ROOT,
  CLIENT_ADDRESS,
  CLIENT_NAMESPACE,
  GRPC_PORT,
  type HostLayout,
  hostLayout,
  LAB_DIR,
  MAX_HOSTS,
  RUN_ROOT,
  STATE_ROOT,
} from './layout.ts';
import { clock, removeCgroups, startTime, until } from './system.ts';
import { cut, dropUnderlay, heal, isCut, raiseUnderlay } from './underlay.ts';

const HELP = `deploy/lab: hosts as namespaces on this machine

  up [--hosts N] [--managers M]   raise the lab and its swarm (default 3 and 3)
  status [--json]                 what is on, cut, and running
  exec hN COMMAND...              in that host, tsswarm and docker pointed at its socket
  exec client COMMAND...          in the outside client (${CLIENT_ADDRESS}, no daemon)
  cut hN | heal hN                drop every packet of the host, silently | stop that
  kill hN | start hN              cut and power off | power on with a fresh exec root
  stop-daemon hN | start-daemon hN   kill -9 of the daemon alone | start it again
  down                            take everything away`;

function say(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}

function hostNamed(name: string | undefined): HostLayout {
  const match = /^h([1-9]\d?)$/.exec(name ?? '');
  const index = match === null ? 0 : Number(match[1]);
  const host = hostLayout(index);
  if (index < 1 || index > MAX_HOSTS || !existsSync(host.bootDir)) {
    const known = knownHosts().map((each) => each.name);
    const hint = known.length === 0 ? 'the lab is down: deploy/lab up' : known.join(', ');
    throw new SwarmError('not_found', `no host "${name ?? ''}" in the lab (${hint})`);
  }
  return host;
}

function knownHosts(): HostLayout[] {
  if (!existsSync(LAB_DIR)) return [];
  return readdirSync(LAB_DIR)
    .filter((name) => /^h\d+$/.test(name))
    .map((name) => hostLayout(Number(name.slice(1))))
    .sort((left, right) => left.index - right.index);
}

function count(args: readonly string[], flag: string, fallback: number): number {
  const at = args.indexOf(flag);
  if (at < 0) return fallback;
  const value = Number(args[at + 1]);
  if (!Number.isInteger(value) || value < 1 || value > MAX_HOSTS) {
    throw new SwarmError('invalid', `${flag} takes a whole number from 1 to ${MAX_HOSTS}`);
  }
  return value;
}

async function up(args: readonly string[]): Promise<void> {
  const hosts = count(args, '--hosts', 3);
  const managers = Math.min(count(args, '--managers', Math.min(3, hosts)), hosts);
  const known = knownHosts();
  if (known.length > 0) {
    const whole = known.length === hosts && known.every((host) => daemonPid(host) !== undefined);
    if (whole && existsSync(join(LAB_DIR, 'ready'))) {
      say(`${hosts} hosts are up already (deploy/lab down takes them away)`);
      return;
    }
    say('taking away what an earlier lab left');
    await down();
  }
  mkdirSync(LAB_DIR, { recursive: true });
  mkdirSync(BIN_DIR, { recursive: true });
  const wrapper = join(BIN_DIR, 'tsswarm');
  writeFileSync(wrapper, `#!/bin/sh\nexec node ${join(TOP, 'dist', 'cli', 'main.js')} "$@"\n`);
  chmodSync(wrapper, 0o755);
  const started = clock.nowMs();
  raiseUnderlay();
  const layouts = Array.from({ length: hosts }, (_, at) => hostLayout(at + 1));
  await Promise.all(layouts.map((host) => boot(host)));
  say(`${hosts} hosts booted in ${seconds(started)}`);
  const first = layouts[0];
  tsswarm(first, 'init', '--advertise-addr', first.address);
  const tokens = {
    manager: tsswarm(first, 'join-token', '-q', 'manager').trim(),
    worker: tsswarm(first, 'join-token', '-q', 'worker').trim(),
  };
  for (const host of layouts.slice(1)) {
    const token = host.index <= managers ? tokens.manager : tokens.worker;
    const target = `${first.address}:${GRPC_PORT}`;
    tsswarm(host, 'join', '--token', token, '--advertise-addr', host.address, target);
  }
  await until('every host ready', 60_000, () => {
    const nodes = tsswarm(first, 'node', 'ls', '--format', '{{.Status}} {{.ManagerStatus}}')
      .trim()
      .split('\n');
    const ready = nodes.filter((line) => line.startsWith('Ready'));
    const leading = nodes.filter((line) => /Leader|Reachable/.test(line));
    return ready.length === hosts && leading.length === managers;
  });
  writeFileSync(join(LAB_DIR, 'ready'), '');
  say(`swarm of ${hosts} hosts, ${managers} of them managers, ready in ${seconds(started)}`);
}

function seconds(startedMs: number): string {
  return `${((clock.nowMs() - startedMs) / 1000).toFixed(1)} s`;
}

async function down(): Promise<void> {
  for (const host of knownHosts()) {
    const pid = pidOf(host);
    if (pid === undefined) continue;
    process.kill(pid, 'SIGKILL');
    await until(`${host.name} off`, 10_000, () => startTime(pid) === '');
  }
  await removeCgroups(CGROUP_ROOT);
  dropUnderlay();
  rmSync(RUN_ROOT, { recursive: true, force: true });
  rmSync(STATE_ROOT, { recursive: true, force: true });
}

function status(args: readonly string[]): void {
  const hosts = knownHosts().map((host) => ({
    name: host.name,
    address: host.address,
    on: pidOf(host) !== undefined,
    cut: isCut(host),
    pid: pidOf(host) ?? 0,
    daemon: daemonPid(host) ?? 0,
    socket: host.socket,
    dataRoot: host.dataRoot,
    execRoot: host.execRoot,
  }));
  if (args.includes('--json')) {
    const client = { namespace: CLIENT_NAMESPACE, address: CLIENT_ADDRESS };
    process.stdout.write(`${JSON.stringify({ hosts, client })}\n`);
    return;
  }
  if (hosts.length === 0) process.stdout.write('the lab is down: deploy/lab up\n');
  for (const host of hosts) {
    const power = host.on ? 'on' : 'off';
    const link = host.cut ? 'cut' : 'linked';
    const daemon = host.daemon === 0 ? 'no daemon' : `daemon ${host.daemon}`;
    const line = [host.name, host.address, power, link, daemon, host.socket].join('  ');
    process.stdout.write(`${line}\n`);
  }
}

function exec(args: readonly string[]): number {
  const [name, ...command] = args;
  if (command.length === 0) throw new SwarmError('invalid', 'exec takes a host and a command');
  if (name !== 'client') return execInteractive(hostNamed(name), command);
  if (!existsSync(`/run/netns/${CLIENT_NAMESPACE}`)) {
    throw new SwarmError('not_found', 'the lab is down: deploy/lab up');
  }
  const result = spawnSync('ip', ['netns', 'exec', CLIENT_NAMESPACE, ...command], {
    stdio: 'inherit',
  });
  return result.status ?? 1;
}

async function main(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case 'up':
      await up(rest);
      return 0;
    case 'status':
      status(rest);
      return 0;
    case 'exec':
      return exec(rest);
    case 'cut':
      cut(hostNamed(rest[0]));
      return 0;
    case 'heal':
      heal(hostNamed(rest[0]));
      return 0;
    case 'kill':
      await powerOff(hostNamed(rest[0]));
      return 0;
    case 'start':
      await boot(hostNamed(rest[0]));
      return 0;
    case 'stop-daemon':
      await stopDaemon(hostNamed(rest[0]));
      return 0;
    case 'start-daemon':
      await startDaemon(hostNamed(rest[0]));
      return 0;
    case 'down':
      await down();
      return 0;
    case undefined:
    case 'help':
    case '--help':
      process.stdout.write(`${HELP}\n`);
      return 0;
    default:
      throw new SwarmError('invalid', `unknown subcommand "${verb}": deploy/lab help lists them`);
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    say(messageOf(error));
    process.exitCode = 1;
  },
);

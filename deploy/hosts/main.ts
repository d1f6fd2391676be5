/**
 * `deploy/lab`: raises, breaks and takes down a lab of hosts on this machine. Every subcommand is
 * one function here; what they do to a host or to the wire is in host.ts and underlay.ts.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { attach } from './attach.ts';
import {
  boot,
  daemonPid,
  endProcesses,
  environment,
  inside,
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
  MAX_MANAGERS,
  RUN_ROOT,
  STATE_ROOT,
} from './layout.ts';
import { exclusively } from './lock.ts';
import { clock, removeCgroups, until } from './system.ts';
import { cut, dropUnderlay, heal, isCut, raiseUnderlay } from './underlay.ts';

const DEFAULT_HOSTS = 3;
/** Written last by `up`: what it raised. */
const READY_FILE = join(LAB_DIR, 'ready');
const DOWN = 'the lab is down: deploy/lab up raises it';

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
    const hint = known.length === 0 ? DOWN : `its hosts: ${known.join(', ')}`;
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

/** The values of `--flag VALUE` arguments by flag; SwarmError invalid for anything else. */
function flags(args: readonly string[], known: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (let at = 0; at < args.length; at += 1) {
    const [flag, inline] = args[at].split('=', 2);
    if (!known.includes(flag)) {
      throw new SwarmError('invalid', `"${args[at]}" is not known here: deploy/lab help`);
    }
    if (inline === undefined) at += 1;
    found.set(flag, inline ?? args[at] ?? '');
  }
  return found;
}

function count(given: ReadonlyMap<string, string>, flag: string, most: number): number | undefined {
  const text = given.get(flag);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > most) {
    throw new SwarmError('invalid', `${flag} takes a whole number from 1 to ${most}`);
  }
  return value;
}

/**
 * What was raised; undefined when no lab stands (never raised, raised by half, or rebooted away).
 */
function standing(): { hosts: number; managers: number } | undefined {
  if (!existsSync(READY_FILE) || knownHosts().every((host) => pidOf(host) === undefined)) {
    return undefined;
  }
  return JSON.parse(readFileSync(READY_FILE, 'utf8')) as { hosts: number; managers: number };
}

async function up(args: readonly string[]): Promise<void> {
  const given = flags(args, ['--hosts', '--managers']);
  const hosts = count(given, '--hosts', MAX_HOSTS) ?? DEFAULT_HOSTS;
  const most = Math.min(hosts, MAX_MANAGERS);
  const managers = count(given, '--managers', most) ?? Math.min(DEFAULT_HOSTS, hosts);
  const found = standing();
  if (found !== undefined) {
    const other =
      (given.has('--hosts') && hosts !== found.hosts) ||
      (given.has('--managers') && managers !== found.managers);
    if (other) {
      const what = `${found.hosts} hosts, ${found.managers} of them managers`;
      throw new SwarmError('conflict', `a lab of ${what}, is up: deploy/lab down takes it away`);
    }
    say(`${found.hosts} hosts are up already (deploy/lab down takes them away)`);
    for (const host of knownHosts()) {
      if (pidOf(host) === undefined) say(`${host.name} is off: deploy/lab start ${host.name}`);
      else if (daemonPid(host) === undefined) {
        say(`${host.name} has no daemon: deploy/lab start-daemon ${host.name}`);
      }
    }
    return;
  }
  await clear();
  mkdirSync(LAB_DIR, { recursive: true });
  mkdirSync(BIN_DIR, { recursive: true });
  const wrapper = join(BIN_DIR, 'tsswarm');
  writeFileSync(wrapper, `#!/bin/sh\nexec node ${join(TOP, 'dist', 'cli', 'main.js')} "$@"\n`);
  chmodSync(wrapper, 0o755);
  symlinkSync(join(TOP, 'dist', 'tsswarm-oci'), join(BIN_DIR, 'tsswarm-oci'));
  const started = clock.nowMs();
  say(`booting ${hosts} hosts`);
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
  writeFileSync(READY_FILE, JSON.stringify({ hosts, managers }));
  say(`swarm of ${hosts} hosts, ${managers} of them managers, ready in ${seconds(started)}`);
}

function seconds(startedMs: number): string {
  return `${((clock.nowMs() - startedMs) / 1000).toFixed(1)} s`;
}

/** Takes away all that any lab of this name left, in whatever state it was left. */
async function clear(): Promise<void> {
  await endProcesses();
  await removeCgroups(CGROUP_ROOT);
  dropUnderlay();
  rmSync(RUN_ROOT, { recursive: true, force: true });
  rmSync(STATE_ROOT, { recursive: true, force: true });
}

function status(args: readonly string[]): void {
  const json = args[0] === '--json';
  none(args.slice(json ? 1 : 0));
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
  if (json) {
    const client = { namespace: CLIENT_NAMESPACE, address: CLIENT_ADDRESS };
    process.stdout.write(`${JSON.stringify({ hosts, client })}\n`);
    return;
  }
  if (hosts.length === 0) process.stdout.write(`${DOWN}\n`);
  for (const host of hosts) {
    const power = host.on ? 'on' : 'off';
    const link = host.cut ? 'cut' : 'linked';
    const daemon = host.daemon === 0 ? 'no daemon' : `daemon ${host.daemon}`;
    const line = [host.name, host.address, power, link, daemon, host.socket].join('  ');
    process.stdout.write(`${line}\n`);
  }
}

async function exec(args: readonly string[]): Promise<number> {
  const [name, ...command] = args;
  if (name === undefined || command.length === 0) {
    throw new SwarmError('invalid', 'exec takes a host and a command: deploy/lab exec h1 COMMAND…');
  }
  if (name !== 'client') {
    const host = hostNamed(name);
    // nsenter waits for the command: a ^C that the command survives must not end nsenter.
    const args = inside(host, ['env', '--default-signal=INT,QUIT', ...command]);
    const waiter = ['--ignore-signal=INT,QUIT', 'nsenter', ...args];
    return attach('env', waiter, { env: environment(host), behind: true });
  }
  if (knownHosts().length === 0 || !existsSync(`/run/netns/${CLIENT_NAMESPACE}`)) {
    throw new SwarmError('not_found', DOWN);
  }
  return attach('ip', ['netns', 'exec', CLIENT_NAMESPACE, ...command], { behind: false });
}

function none(args: readonly string[]): void {
  if (args.length === 0) return;
  throw new SwarmError('invalid', `"${args[0]}" is not known here: deploy/lab help`);
}

/** The one host that a verb takes. */
function oneHost(verb: string, args: readonly string[]): HostLayout {
  if (args.length !== 1) {
    throw new SwarmError('invalid', `${verb} takes one host: deploy/lab ${verb} h1`);
  }
  return hostNamed(args[0]);
}

/** What is done to one host; asked for twice, the second time only says so. */
async function act(verb: string, host: HostLayout): Promise<void> {
  const on = pidOf(host) !== undefined;
  const already = (text: string): void => say(`${host.name} ${text} already`);
  switch (verb) {
    case 'cut':
      return isCut(host) ? already('is cut') : cut(host);
    case 'heal':
      return isCut(host) ? heal(host) : already('is linked');
    case 'kill':
      return on ? powerOff(host) : already('is off');
    case 'start':
      return on ? already('is on') : boot(host);
    case 'stop-daemon':
      if (on && daemonPid(host) === undefined) return already('has no daemon');
      return stopDaemon(host);
    default:
      if (daemonPid(host) !== undefined) return already('has a daemon');
      return startDaemon(host);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case 'up':
      await exclusively('up', () => up(rest));
      return 0;
    case 'status':
      status(rest);
      return 0;
    case 'exec':
      return exec(rest);
    case 'cut':
    case 'heal':
    case 'kill':
    case 'start':
    case 'stop-daemon':
    case 'start-daemon':
      await act(verb, oneHost(verb, rest));
      return 0;
    case 'down':
      none(rest);
      await exclusively('down', clear);
      return 0;
    case undefined:
    case 'help':
    case '--help':
    case '-h':
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

/**
 * Flags of run and create: each row says the flag and what it sets in the request that makes a
 * container. Flags that docker has and that cannot be had here are in a table of their own, with
 * why.
 */
import { resolve } from 'node:path';
import { parseBytes } from '../../base/bytes.ts';
import { msToNanoseconds, parseDuration } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { type Command, collect, optionKey, refused } from '../command.ts';
import { pairs } from '../network.ts';
import { canonicalCapability } from '../service/capabilities.ts';
import { parseMount } from '../service/mount.ts';
import { parseCpus, parseEnv, parseUlimit } from '../service/parse.ts';
import { addNetwork, addPublish, type CreateBody } from './body.ts';
import { readLines, readText } from './envFile.ts';

interface Flag {
  readonly usage: string;
  readonly about: string;
  /** 'list' may be repeated; 'switch' has no value. */
  readonly kind: 'one' | 'list' | 'switch';
  apply(body: CreateBody, value: string): void;
}

function one(usage: string, about: string, apply: Flag['apply']): Flag {
  return { usage, about, kind: 'one', apply };
}
function list(usage: string, about: string, apply: Flag['apply']): Flag {
  return { usage, about: `${about} (repeatable)`, kind: 'list', apply };
}
function flag(usage: string, about: string, apply: (body: CreateBody) => void): Flag {
  return { usage, about, kind: 'switch', apply };
}

/** A field of HostConfig that takes a text as it is. */
function host(usage: string, about: string, field: string): Flag {
  return one(usage, about, (body, value) => {
    body.HostConfig[field] = value;
  });
}

function hostNumber(
  usage: string,
  about: string,
  field: string,
  read: (text: string) => number = integer,
): Flag {
  return one(usage, about, (body, value) => {
    body.HostConfig[field] = read(value);
  });
}

function hostList(
  usage: string,
  about: string,
  field: string,
  read: (text: string) => unknown = (text) => text,
): Flag {
  return list(usage, about, (body, value) => {
    body.HostConfig[field] = [...((body.HostConfig[field] as unknown[]) ?? []), read(value)];
  });
}

/** A seccomp profile is sent as it is, its file being on this side. */
function securityOption(text: string): string {
  const file = /^seccomp[=:](?!unconfined$|builtin$)(.+)/s.exec(text)?.[1];
  return file === undefined ? text : `seccomp=${readText(file, '--security-opt')}`;
}

function integer(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new SwarmError('invalid', `"${text}" is no whole number`);
  return Number(text);
}

function nanoseconds(text: string): number {
  return msToNanoseconds(parseDuration(text));
}

function health(usage: string, about: string, change: (value: string) => object): Flag {
  return one(`--health-${usage}`, about, (body, value) => {
    body.Healthcheck = { ...body.Healthcheck, ...change(value) };
  });
}

function addEnv(body: CreateBody, text: string): void {
  const variable = parseEnv(text);
  if (variable === undefined) return;
  const name = variable.split('=', 1)[0];
  const others = (body.Env ?? []).filter((item) => item.split('=', 1)[0] !== name);
  body.Env = [...others, variable];
}

function addLabel(body: CreateBody, text: string): void {
  body.Labels = { ...body.Labels, ...pairs([text]) };
}

/** '-v name:/path:ro', '-v ./x:/x', '-v /path'. */
function addVolume(body: CreateBody, text: string): void {
  const [source, ...rest] = text.split(':');
  if (rest.length === 0) body.Volumes = { ...body.Volumes, [source]: {} };
  else {
    const from = /^\.{1,2}(\/|$)/.test(source) ? resolve(source) : source;
    const binds = (body.HostConfig.Binds as string[] | undefined) ?? [];
    body.HostConfig.Binds = [...binds, [from, ...rest].join(':')];
  }
}

function restartPolicy(text: string): object {
  const [Name, count] = text.split(':');
  if (!['no', 'always', 'unless-stopped', 'on-failure'].includes(Name)) {
    throw new SwarmError(
      'invalid',
      `"${text}" is none of no, always, unless-stopped, on-failure[:COUNT]`,
    );
  }
  if (count !== undefined && (Name !== 'on-failure' || !/^\d+$/.test(count))) {
    throw new SwarmError('invalid', `"${text}": a count goes with on-failure only`);
  }
  return { Name, MaximumRetryCount: Number(count ?? 0) };
}

/** '/dev/a:/dev/b:rwm'. */
function device(text: string): object {
  const [PathOnHost, second = PathOnHost, third] = text.split(':');
  const isMode = /^[rwm]{1,3}$/.test(second);
  return {
    PathOnHost,
    PathInContainer: isMode ? PathOnHost : second,
    CgroupPermissions: isMode ? second : (third ?? 'rwm'),
  };
}

const CREATE_FLAGS: readonly Flag[] = [
  hostList('--add-host <name:address>', 'line of /etc/hosts', 'ExtraHosts', (text) =>
    text.replace(/^([^:=]+)=/, '$1:'),
  ),
  hostList('--cap-add <capability>', 'add a capability', 'CapAdd', canonicalCapability),
  hostList('--cap-drop <capability>', 'drop a capability', 'CapDrop', canonicalCapability),
  host('--cgroup-parent <path>', 'cgroup it lives under', 'CgroupParent'),
  host('--cgroupns <word>', 'private or host', 'CgroupnsMode'),
  list('--annotation <key=value>', 'kept with it, for inspection', (body, value) => {
    const before = body.HostConfig.Annotations as object | undefined;
    body.HostConfig.Annotations = { ...before, ...pairs([value]) };
  }),
  hostNumber('--blkio-weight <number>', 'share of a busy disk, 10 to 1000', 'BlkioWeight'),
  hostNumber('--cpu-rt-period <microseconds>', 'of --cpu-rt-runtime', 'CpuRealtimePeriod'),
  hostNumber('--cpu-rt-runtime <microseconds>', 'real-time CPU time', 'CpuRealtimeRuntime'),
  hostNumber('--cpu-period <microseconds>', 'period of --cpu-quota', 'CpuPeriod'),
  hostNumber('--cpu-quota <microseconds>', 'CPU time in each period', 'CpuQuota'),
  hostNumber('-c, --cpu-shares <number>', 'share of a busy CPU', 'CpuShares'),
  hostNumber('--cpus <number>', 'at most so many CPUs', 'NanoCpus', parseCpus),
  host('--cpuset-cpus <list>', 'CPUs it may use: 0-3, 0,1', 'CpusetCpus'),
  host('--cpuset-mems <list>', 'memory nodes it may use', 'CpusetMems'),
  hostList('--device <path>', 'device of the host', 'Devices', device),
  hostList('--device-cgroup-rule <rule>', "as 'c 1:11 rw'", 'DeviceCgroupRules'),
  hostList('--dns <address>', 'DNS server', 'Dns'),
  hostList('--dns-option <option>', 'DNS option', 'DnsOptions'),
  hostList('--dns-search <domain>', 'DNS search domain', 'DnsSearch'),
  one('--domainname <name>', 'domain of its host name', (body, value) => {
    body.Domainname = value;
  }),
  one('--entrypoint <command>', 'instead of the image’s entrypoint', (body, value) => {
    body.Entrypoint = [value];
  }),
  list('-e, --env <NAME=value>', 'environment variable', addEnv),
  list('--expose <port>', 'port it listens on', (body, value) => {
    const port = value.includes('/') ? value : `${value}/tcp`;
    body.ExposedPorts = { ...body.ExposedPorts, [port]: {} };
  }),
  hostList('--group-add <group>', 'further group', 'GroupAdd'),
  health('cmd <command>', 'command that says whether it is healthy', (value) => ({
    Test: ['CMD-SHELL', value],
  })),
  health('interval <duration>', 'between checks', (value) => ({ Interval: nanoseconds(value) })),
  health('retries <count>', 'failures in a row', (value) => ({ Retries: integer(value) })),
  health('start-interval <duration>', 'between checks while it starts', (value) => ({
    StartInterval: nanoseconds(value),
  })),
  health('start-period <duration>', 'time to start', (value) => ({
    StartPeriod: nanoseconds(value),
  })),
  health('timeout <duration>', 'of a check', (value) => ({ Timeout: nanoseconds(value) })),
  flag('--no-healthcheck', 'without the image’s health check', (body) => {
    body.Healthcheck = { Test: ['NONE'] };
  }),
  one('-h, --hostname <name>', 'host name', (body, value) => {
    body.Hostname = value;
  }),
  flag('--init', 'a process that passes on signals and reaps children', (body) => {
    body.HostConfig.Init = true;
  }),
  one('--ip <address>', 'IPv4 address in its network', (body, value) => {
    body.endpoint.IPAMConfig = { ...body.endpoint.IPAMConfig, IPv4Address: value };
  }),
  one('--ip6 <address>', 'IPv6 address in its network', (body, value) => {
    body.endpoint.IPAMConfig = { ...body.endpoint.IPAMConfig, IPv6Address: value };
  }),
  host('--ipc <word>', 'private or host', 'IpcMode'),
  list('-l, --label <key=value>', 'label', addLabel),
  one('--log-driver <name>', 'which driver keeps the output', (body, value) => {
    body.HostConfig.LogConfig = { ...(body.HostConfig.LogConfig as object), Type: value };
  }),
  list('--log-opt <key=value>', 'option of the log driver', (body, value) => {
    const before = (body.HostConfig.LogConfig ?? {}) as { Config?: object };
    body.HostConfig.LogConfig = { ...before, Config: { ...before.Config, ...pairs([value]) } };
  }),
  one('--mac-address <address>', 'hardware address', (body, value) => {
    body.endpoint.MacAddress = value;
  }),
  hostNumber('-m, --memory <bytes>', 'at most so much memory', 'Memory', parseBytes),
  hostNumber('--memory-reservation <bytes>', 'memory it is left', 'MemoryReservation', parseBytes),
  hostNumber('--memory-swap <bytes>', 'memory and swap; -1 = any', 'MemorySwap', (text) =>
    text === '-1' ? -1 : parseBytes(text),
  ),
  hostNumber('--memory-swappiness <percent>', '0 to 100', 'MemorySwappiness'),
  hostList('--mount <mount>', 'type=volume|bind|tmpfs,source=,target=,...', 'Mounts', parseMount),
  list('--network <network>', 'network, or name=,alias=,ip=', addNetwork),
  list('--network-alias <name>', 'further name in its network', (body, value) => {
    body.endpoint.Aliases = [...(body.endpoint.Aliases ?? []), value];
  }),
  flag('--oom-kill-disable', 'wait instead of ending when memory is short', (body) => {
    body.HostConfig.OomKillDisable = true;
  }),
  hostNumber('--oom-score-adj <number>', 'which is ended first', 'OomScoreAdj'),
  host('--pid <word>', 'private or host', 'PidMode'),
  hostNumber('--pids-limit <count>', 'at most so many processes; -1 = any', 'PidsLimit'),
  flag('--privileged', 'all capabilities and devices', (body) => {
    body.HostConfig.Privileged = true;
  }),
  list('-p, --publish <port>', '[ADDRESS:][HOST-PORT:]PORT[/PROTOCOL]', addPublish),
  flag('-P, --publish-all', 'publish all ports that it exposes', (body) => {
    body.HostConfig.PublishAllPorts = true;
  }),
  flag('--read-only', 'the root file system cannot be written', (body) => {
    body.HostConfig.ReadonlyRootfs = true;
  }),
  one('--restart <policy>', 'no, always, unless-stopped, on-failure[:COUNT]', (body, value) => {
    body.HostConfig.RestartPolicy = restartPolicy(value);
  }),
  flag('--rm', 'remove it when it has ended', (body) => {
    body.HostConfig.AutoRemove = true;
  }),
  host('--runtime <name>', 'which runtime starts it', 'Runtime'),
  hostList(
    '--security-opt <option>',
    'no-new-privileges, seccomp=unconfined, seccomp=FILE',
    'SecurityOpt',
    securityOption,
  ),
  hostNumber('--shm-size <bytes>', 'of /dev/shm', 'ShmSize', parseBytes),
  one('--stop-signal <signal>', 'what ends it', (body, value) => {
    body.StopSignal = value;
  }),
  one('--stop-timeout <seconds>', 'before it is killed', (body, value) => {
    body.StopTimeout = integer(value);
  }),
  list('--sysctl <key=value>', 'kernel setting', (body, value) => {
    body.HostConfig.Sysctls = { ...(body.HostConfig.Sysctls as object), ...pairs([value]) };
  }),
  list('--tmpfs <path>', 'temporary file system, PATH[:OPTIONS]', (body, value) => {
    const colon = value.indexOf(':');
    const path = colon < 0 ? value : value.slice(0, colon);
    const options = colon < 0 ? '' : value.slice(colon + 1);
    body.HostConfig.Tmpfs = { ...(body.HostConfig.Tmpfs as object), [path]: options };
  }),
  hostList('--ulimit <name=soft[:hard]>', 'limit of its processes', 'Ulimits', parseUlimit),
  one('-u, --user <user>', 'user[:group] of the program', (body, value) => {
    body.User = value;
  }),
  host('--userns <word>', 'ids of the host (host) or of its own (own)', 'UsernsMode'),
  host('--uts <word>', 'private or host', 'UTSMode'),
  list('-v, --volume <volume>', 'SOURCE:TARGET[:OPTIONS], or a path', addVolume),
  host('--volume-driver <name>', 'driver of volumes that are made', 'VolumeDriver'),
  hostList('--volumes-from <container>', 'mounts of another container', 'VolumesFrom'),
  one('-w, --workdir <directory>', 'working directory', (body, value) => {
    body.WorkingDir = value;
  }),
];

const DISKS = 'weights and rates of disks cannot be set';
const REFUSED: Readonly<Record<string, string>> = {
  '--blkio-weight-device <weight>': DISKS,
  '--cpu-count <count>': 'it is of Windows: use --cpus',
  '--cpu-percent <percent>': 'it is of Windows: use --cpus',
  '--device-read-bps <rate>': DISKS,
  '--device-read-iops <rate>': DISKS,
  '--device-write-bps <rate>': DISKS,
  '--device-write-iops <rate>': DISKS,
  '--gpus <request>': 'name the devices with --device',
  '--io-maxbandwidth <bytes>': 'it is of Windows',
  '--io-maxiops <count>': 'it is of Windows',
  '--isolation <word>': 'it is of Windows',
  '--kernel-memory <bytes>': 'Linux no longer has it: use --memory',
  '--link <container>': 'containers of a user’s network find each other by name: use --network',
  '--link-local-ip <address>': 'link-local addresses cannot be given',
  '--storage-opt <option>': 'sizes of root file systems cannot be set',
  '--use-api-socket': 'bind the socket: -v /run/tsswarm/tsswarm.sock:/var/run/docker.sock',
};

/** All of them, or those with these long names. */
export function addCreateFlags(command: Command, only?: readonly string[]): void {
  for (const item of CREATE_FLAGS) {
    const name = /--([\w-]+)/.exec(item.usage)?.[1] ?? '';
    if (only !== undefined && !only.includes(name)) continue;
    if (item.kind === 'list') command.option(item.usage, item.about, collect);
    else command.option(item.usage, item.about);
  }
  if (only !== undefined) return;
  command.option('--env-file <file>', 'environment variables from a file (repeatable)', collect);
  command.option('--label-file <file>', 'labels from a file (repeatable)', collect);
  command.option('-i, --interactive', 'keep its standard input open');
  command.option('-t, --tty', 'a terminal instead of pipes');
  command.option('-a, --attach <stream>', 'stdin, stdout or stderr (repeatable)', collect);
  command.option('--name <name>', 'its name (default: made up)');
  command.option('--cidfile <file>', 'write its id to a file');
  command.option('--platform <platform>', 'of the image, if it has several');
  command.option('--pull <word>', 'always, missing or never', 'missing');
  command.option('--disable-content-trust', 'signatures are not checked, which is the default');
  for (const [usage, why] of Object.entries(REFUSED)) refused(command, usage, why);
}

type Options = Readonly<Record<string, unknown>>;

/** Sets what was given; the error of a bad value names its flag. */
export function applyCreateFlags(body: CreateBody, options: Options): void {
  for (const file of (options.envFile as string[] | undefined) ?? []) {
    for (const line of readLines(file, '--env-file')) addEnv(body, line);
  }
  for (const file of (options.labelFile as string[] | undefined) ?? []) {
    for (const line of readLines(file, '--label-file')) addLabel(body, line);
  }
  for (const item of CREATE_FLAGS) {
    const given = options[optionKey(item.usage)];
    if (item.kind === 'switch') {
      if (item.usage.startsWith('--no-') ? given === false : given === true) item.apply(body, '');
      continue;
    }
    if (given === undefined) continue;
    const values = item.kind === 'list' ? (given as string[]) : [given as string];
    for (const value of values) {
      try {
        item.apply(body, value);
      } catch (error) {
        if (!(error instanceof SwarmError)) throw error;
        const name = /--[\w-]+/.exec(item.usage)?.[0] ?? '';
        throw new SwarmError(error.code, `${name}: ${error.message}`, { cause: error });
      }
    }
  }
}

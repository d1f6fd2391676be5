/**
 * HostConfig beyond mounts, ports and logs, both ways: limits, capabilities, namespaces, security,
 * devices. Values that mean what happens anyway are accepted, all others that are not built are
 * refused by their path.
 */
import { isIP } from 'node:net';
import { parseBytes } from '../../../base/bytes.ts';
import { SwarmError } from '../../../base/errors.ts';
import type { ContainerResources, SharedNamespace } from '../../../runtime/container/types.ts';
import { ANY as ANY_DEVICE, type DeviceRule } from '../../../runtime/sys/deviceRules.ts';
import type { StandaloneSpec } from '../../containers/types.ts';
import type { Fields } from '../fields.ts';
import { securityFromDocker } from './securityOptions.ts';

const NANO = 1_000_000_000;
const DEFAULT_CPU_PERIOD_US = 100_000;
/** Linux: 12 and 20 bits. */
const DEVICE_NUMBER_MAX = 0xfffff;
const MIN_MEMORY_BYTES = 6 * 1024 * 1024;

type HostPart = Pick<
  StandaloneSpec,
  | 'networkMode'
  | 'resources'
  | 'capabilityAdd'
  | 'capabilityDrop'
  | 'groups'
  | 'sysctls'
  | 'dnsServers'
  | 'dnsSearch'
  | 'dnsOptions'
  | 'extraHosts'
  | 'readOnlyRoot'
  | 'privileged'
  | 'noNewPrivileges'
  | 'seccomp'
  | 'securityLabels'
  | 'apparmorUnconfined'
  | 'cgroupParent'
  | 'writableBytes'
  | 'maskPaths'
  | 'init'
  | 'pidNamespace'
  | 'ipcNamespace'
  | 'utsNamespace'
  | 'cgroupNamespace'
  | 'userNamespace'
  | 'shmSizeBytes'
  | 'oomScoreAdjust'
  | 'devices'
  | 'deviceRules'
  | 'resourceLimits'
>;

export function hostFromDocker(host: Fields): HostPart {
  refuseUnbuilt(host);
  const networkMode = host.text('NetworkMode');
  if (networkMode.startsWith('container:')) refuseOwnNetwork(host);
  return {
    networkMode: ['', 'default'].includes(networkMode) ? 'bridge' : networkMode,
    resources: resourcesFromDocker(host),
    capabilityAdd: host.texts('CapAdd'),
    capabilityDrop: host.texts('CapDrop'),
    groups: host.texts('GroupAdd'),
    sysctls: host.labels('Sysctls'),
    dnsServers: dnsServers(host),
    dnsSearch: host.lines('DnsSearch'),
    dnsOptions: host.lines('DnsOptions'),
    extraHosts: extraHosts(host),
    ...cgroupParentOf(host),
    ...writableOf(host),
    readOnlyRoot: host.flag('ReadonlyRootfs'),
    privileged: host.flag('Privileged'),
    ...securityFromDocker(host),
    init: host.flag('Init'),
    pidNamespace: namespaceOf(host, 'PidMode', ['', 'private'], 'PID'),
    ipcNamespace: ipcOf(host),
    utsNamespace: namespaceOf(host, 'UTSMode', [''], 'UTS'),
    cgroupNamespace: cgroupOf(host),
    ...usernsOf(host),
    shmSizeBytes: host.whole('ShmSize', 0),
    oomScoreAdjust: host.wide('OomScoreAdj', 0),
    devices: host.objects('Devices').map((device) => ({
      hostPath: device.text('PathOnHost'),
      containerPath: device.text('PathInContainer') || device.text('PathOnHost'),
      permissions: device.text('CgroupPermissions') || 'rwm',
    })),
    deviceRules: host.texts('DeviceCgroupRules').map((text) => deviceRule(host, text)),
    resourceLimits: host.objects('Ulimits').map((limit) => ({
      name: limit.text('Name'),
      soft: limit.wide('Soft', 0),
      hard: limit.wide('Hard', 0),
    })),
  };
}

/** What cannot be asked for by a container that shares the network of another. */
function refuseOwnNetwork(host: Fields): void {
  const conflicts: readonly (readonly [string, string])[] = [
    ['PortBindings', 'port publishing and the container type network mode'],
    ['PublishAllPorts', 'port publishing and the container type network mode'],
    ['Dns', 'dns and the network mode'],
    ['ExtraHosts', 'custom host-to-IP mapping and the network mode'],
  ];
  for (const [name, words] of conflicts) {
    if (host.isEmpty(name)) continue;
    throw new SwarmError('invalid', `conflicting options: ${words}`);
  }
}

function refuseUnbuilt(host: Fields): void {
  if (host.objects('DeviceRequests').length > 0) {
    host.refused('DeviceRequests', 'there are no device drivers: name the devices with --device');
  }
  host.labels('Annotations'); // kept as they are, for inspection
  host.refuse('Cgroup', 'KernelMemory', 'KernelMemoryTCP');
  accept(host, 'Isolation', ['', 'default']);
  accept(host, 'Runtime', ['', 'tsswarm', 'runc']);
  accept(host, 'VolumeDriver', ['', 'local']);
}

function accept(host: Fields, name: string, values: readonly string[]): void {
  if (!values.includes(host.text(name))) host.refused(name);
}

const OTHERS = 'container:';

function namespaceOf(
  host: Fields,
  name: string,
  own: readonly string[],
  word: string,
): 'new' | 'host' | SharedNamespace {
  const mode = host.text(name);
  if (mode === 'host') return 'host';
  if (own.includes(mode)) return 'new';
  if (mode.startsWith(OTHERS) && mode.length > OTHERS.length) {
    return { container: mode.slice(OTHERS.length) };
  }
  throw new SwarmError('invalid', `invalid ${word} mode: ${mode}`);
}

function ipcOf(host: Fields): HostPart['ipcNamespace'] {
  const mode = host.text('IpcMode');
  if (mode === 'none' || mode === 'shareable') return mode;
  return namespaceOf(host, 'IpcMode', ['', 'private'], 'IPC');
}

/** 'own' is not of Docker's: ids of its own, also where the daemon was not told to give them. */
function usernsOf(host: Fields): Pick<HostPart, 'userNamespace'> {
  const mode = host.text('UsernsMode');
  if (mode === 'host' || mode === 'own') return { userNamespace: mode };
  if (mode === '') return {};
  throw new SwarmError('invalid', `invalid user namespace mode: ${mode}`);
}

function cgroupOf(host: Fields): 'new' | 'host' {
  const mode = host.text('CgroupnsMode');
  if (mode === 'host') return 'host';
  if (mode === '' || mode === 'private') return 'new';
  throw new SwarmError('invalid', `invalid cgroup namespace mode: ${mode}`);
}

function dnsServers(host: Fields): readonly string[] {
  const servers = host.texts('Dns');
  const wrong = servers.find((server) => isIP(server) === 0);
  if (wrong === undefined) return servers;
  throw new SwarmError('invalid', `${host.at('Dns')}: ${wrong} is not an IP address`);
}

/** 'c 7:128 rwm', 'a *:* m'. */
function deviceRule(host: Fields, text: string): DeviceRule {
  const match = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(text);
  if (match === null) {
    throw new SwarmError('invalid', `invalid device cgroup rule format: '${text}'`);
  }
  const [, type, major, minor, access] = match;
  if (type === 'a') host.refused('DeviceCgroupRules', 'give one rule for c and one for b');
  const number = (word: string): number => (word === '*' ? ANY_DEVICE : Number(word));
  if (Math.max(number(major), number(minor)) > DEVICE_NUMBER_MAX) {
    throw new SwarmError('invalid', `device cgroup rule '${text}': no device has such a number`);
  }
  const kind = type === 'c' ? 'char' : 'block';
  return { type: kind, major: number(major), minor: number(minor), access };
}

function extraHosts(host: Fields): readonly string[] {
  return host.lines('ExtraHosts').map((entry) => {
    // 'name:address'; newer clients write 'name=address' too. An IPv6 address has colons itself.
    const at = entry.search(/[:=]/);
    if (at > 0 && at < entry.length - 1) {
      return `${entry.slice(0, at)}:${entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')}`;
    }
    throw new SwarmError('invalid', `bad format for add-host: "${entry}"`);
  });
}

/** Of Docker's storage options, that of its overlays. */
function writableOf(host: Fields): Pick<StandaloneSpec, 'writableBytes'> {
  const { size, ...others } = host.labels('StorageOpt');
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) host.refused(`StorageOpt.${unknown}`, 'only size is known');
  return size === undefined ? {} : { writableBytes: parseBytes(size) };
}

/** Longer ones are no names that somebody gave. */
const PARENT_MAX = 255;
const PARENT_DEPTH = 8;

/** Wherever it begins, it is below the daemon's own group. */
function cgroupParentOf(host: Fields): Pick<StandaloneSpec, 'cgroupParent'> {
  const text = host.line('CgroupParent');
  if (text === '') return {};
  const parts = text.split('/').filter((part) => part !== '');
  const isFit = (part: string): boolean =>
    /^[\w.@:+-]+$/.test(part) && !/^(\.{1,2}|[0-9a-f]{64})$/.test(part);
  if (text.length <= PARENT_MAX && parts.length <= PARENT_DEPTH && parts.every(isFit)) {
    return parts.length === 0 ? {} : { cgroupParent: parts.join('/') };
  }
  throw new SwarmError('invalid', `${host.at('CgroupParent')}: "${text}" is no path of a group`);
}

/** Also the body of /containers/{id}/update. SwarmError invalid with Docker's words. */
export function resourcesFromDocker(host: Fields, isUpdate = false): ContainerResources {
  const memoryBytes = host.wide('Memory', 0);
  if (memoryBytes !== 0 && memoryBytes < MIN_MEMORY_BYTES) {
    throw new SwarmError('invalid', 'Minimum memory limit allowed is 6MB');
  }
  const memorySwapBytes = host.wide('MemorySwap', 0);
  if (memorySwapBytes > 0 && memoryBytes === 0 && !isUpdate) {
    throw new SwarmError(
      'invalid',
      'You should always set the Memory limit when using Memoryswap limit, see usage',
    );
  }
  // An update may change one of the two; whether they fit is found where both are known.
  if (memorySwapBytes > 0 && memorySwapBytes < memoryBytes) {
    throw new SwarmError(
      'invalid',
      'Minimum memoryswap limit should be larger than memory limit, see usage',
    );
  }
  const reservation = host.wide('MemoryReservation', 0);
  if (reservation > 0 && memoryBytes > 0 && reservation > memoryBytes) {
    throw new SwarmError(
      'invalid',
      'Minimum memory limit can not be less than memory reservation limit, see usage',
    );
  }
  const swappiness = host.wide('MemorySwappiness', -1);
  const pids = host.wide('PidsLimit', 0);
  const nanoCpus = cpusFromDocker(host);
  const cpuPeriodUs = host.wide('CpuPeriod', 0);
  const cpuShares = host.wide('CpuShares', 0);
  const blkioWeight = host.wide('BlkioWeight', 0);
  const cpusetCpus = host.text('CpusetCpus');
  const cpusetMems = host.text('CpusetMems');
  const deviceRates = deviceRatesOf(host);
  const deviceWeights = deviceWeightsOf(host);
  const realtimeRuntime = host.whole('CpuRealtimeRuntime', 0);
  const realtimePeriod = host.whole('CpuRealtimePeriod', 0);
  return {
    ...(memoryBytes > 0 ? { memoryBytes } : {}),
    ...(memorySwapBytes !== 0 ? { memorySwapBytes } : {}),
    ...(reservation > 0 ? { memoryReservationBytes: reservation } : {}),
    ...(swappiness >= 0 ? { memorySwappiness: swappiness } : {}),
    // Below 0 it is given up again, in an update.
    ...(pids !== 0 ? { pids } : {}),
    ...(nanoCpus > 0 || host.wide('CpuQuota', 0) < 0 ? { nanoCpus } : {}),
    ...(cpuPeriodUs > 0 ? { cpuPeriodUs } : {}),
    ...(cpuShares > 0 ? { cpuShares } : {}),
    ...(blkioWeight > 0 ? { blkioWeight } : {}),
    ...(cpusetCpus === '' ? {} : { cpusetCpus }),
    ...(cpusetMems === '' ? {} : { cpusetMems }),
    ...(deviceRates.length === 0 ? {} : { deviceRates }),
    ...(deviceWeights.length === 0 ? {} : { blkioDeviceWeights: deviceWeights }),
    ...(realtimeRuntime > 0 ? { cpuRealtimeRuntimeUs: realtimeRuntime } : {}),
    ...(realtimePeriod > 0 ? { cpuRealtimePeriodUs: realtimePeriod } : {}),
    ...(host.flag('OomKillDisable') ? { oomKillDisable: true } : {}),
  };
}

const WEIGHT_LEAST = 10;
const WEIGHT_MOST = 1000;

function deviceWeightsOf(host: Fields): NonNullable<ContainerResources['blkioDeviceWeights']> {
  return host.objects('BlkioWeightDevice').map((each) => {
    const weight = each.whole('Weight', 0);
    if (weight >= WEIGHT_LEAST && weight <= WEIGHT_MOST) {
      return { device: each.text('Path'), weight };
    }
    throw new SwarmError(
      'invalid',
      `Range of blkio weight is from ${WEIGHT_LEAST} to ${WEIGHT_MOST}`,
    );
  });
}

const RATES = [
  ['BlkioDeviceReadBps', 'read', 'bytes'],
  ['BlkioDeviceReadIOps', 'read', 'operations'],
  ['BlkioDeviceWriteBps', 'write', 'bytes'],
  ['BlkioDeviceWriteIOps', 'write', 'operations'],
] as const;

function deviceRatesOf(host: Fields): NonNullable<ContainerResources['deviceRates']> {
  return RATES.flatMap(([name, way, unit]) =>
    host.objects(name).map((rate) => ({
      way,
      unit,
      device: rate.text('Path'),
      perSecond: rate.whole('Rate', 0),
    })),
  );
}

function cpusFromDocker(host: Fields): number {
  const nanoCpus = host.whole('NanoCpus', 0);
  const quotaUs = host.wide('CpuQuota', 0);
  const periodUs = host.wide('CpuPeriod', 0);
  if (nanoCpus > 0 && (quotaUs > 0 || periodUs > 0)) {
    throw new SwarmError(
      'invalid',
      'Conflicting options: Nano CPUs and CPU Period or CPU Quota cannot both be set',
    );
  }
  if (quotaUs <= 0) return nanoCpus;
  return Math.round((quotaUs / (periodUs || DEFAULT_CPU_PERIOD_US)) * NANO);
}

/** What Docker shows for fields that a request left out. */
export const HOST_CONFIG_DEFAULTS: Readonly<Record<string, unknown>> = {
  Binds: null,
  ContainerIDFile: '',
  LogConfig: { Type: 'json-file', Config: {} },
  NetworkMode: 'bridge',
  PortBindings: {},
  RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: '',
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: 'private',
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: 'private',
  Cgroup: '',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 64 * 1024 * 1024,
  Runtime: 'tsswarm',
  Isolation: '',
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: '',
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  BlkioDeviceReadBps: [],
  BlkioDeviceWriteBps: [],
  BlkioDeviceReadIOps: [],
  BlkioDeviceWriteIOps: [],
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: '',
  CpusetMems: '',
  Devices: [],
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: false,
  PidsLimit: null,
  Ulimits: [],
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: null,
  ReadonlyPaths: null,
};

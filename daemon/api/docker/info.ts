/** GET /info and /version: this host and its place in the swarm, as `docker info` reads them. */
import type { Clock } from '../../../base/clock.ts';
import { defaultAppArmorProfile } from '../../../runtime/sys/apparmor.ts';
import type { DaemonNode, HostInfo } from '../../types.ts';
import { controlIfManager } from '../find.ts';
import { STORAGE_DRIVER, timeOf } from './common.ts';
import { clusterToDocker } from './swarm.ts';

export const API_VERSION = '1.50';
export const MIN_API_VERSION = '1.24';

export function versionToDocker(node: DaemonNode): object {
  const info = node.info();
  const facts = {
    ApiVersion: API_VERSION,
    MinAPIVersion: MIN_API_VERSION,
    GitCommit: '',
    GoVersion: `node ${process.version}`,
    Os: 'linux',
    Arch: goArchitecture(info.architecture),
    KernelVersion: info.kernel,
  };
  const details = { ...facts, BuildTime: '', Experimental: 'false' };
  return {
    Platform: { Name: 'tsswarm' },
    Components: [{ Name: 'Engine', Version: node.version, Details: details }],
    Version: node.version,
    ...facts,
  };
}

function goArchitecture(machine: string): string {
  const names: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' };
  return names[machine] ?? machine;
}

export function infoToDocker(node: DaemonNode, clock: Clock): object {
  const info = node.info();
  const statuses = node.host.containers.list().map((each) => each.view().status);
  const count = (...wanted: string[]): number =>
    statuses.filter((status) => wanted.includes(status)).length;
  return {
    ID: info.id,
    Name: info.hostname,
    ServerVersion: node.version,
    Containers: statuses.length,
    ContainersRunning: count('running', 'restarting'),
    ContainersPaused: count('paused'),
    ContainersStopped: count('created', 'exited', 'removing', 'dead'),
    Images: node.images.list().length,
    Driver: STORAGE_DRIVER,
    DriverStatus: [],
    SystemStatus: null,
    Plugins: {
      Volume: ['local'],
      Network: ['bridge', 'host', 'null', 'overlay'],
      Authorization: null,
      Log: ['json-file', 'local', 'none'],
    },
    LoggingDriver: 'json-file',
    ...kernelFacts(info),
    SystemTime: timeOf(clock.wallMs()),
    DockerRootDir: info.dataRoot,
    NCPU: info.cpus,
    MemTotal: info.memoryBytes,
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: { InsecureRegistryCIDRs: ['127.0.0.0/8'], IndexConfigs: {}, Mirrors: [] },
    Runtimes: { tsswarm: { path: 'tsswarm-shim' } },
    DefaultRuntime: 'tsswarm',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: '' },
    InitCommit: { ID: '' },
    InitBinary: '',
    LiveRestoreEnabled: true,
    Isolation: '',
    Swarm: swarmInfo(node),
    Warnings: [...info.warnings, ...(controlIfManager(node)?.warnings() ?? [])],
  };
}

function kernelFacts(info: HostInfo): object {
  return {
    MemoryLimit: true,
    SwapLimit: false,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    OomKillDisable: false,
    IPv4Forwarding: true,
    Debug: false,
    CgroupDriver: 'cgroupfs',
    CgroupVersion: info.cgroupVersion,
    KernelVersion: info.kernel,
    OperatingSystem: info.operatingSystem,
    OSVersion: info.osVersion,
    OSType: 'linux',
    Architecture: info.architecture,
    SecurityOptions: [
      ...['name=seccomp,profile=builtin', 'name=cgroupns'],
      ...(defaultAppArmorProfile() === '' ? [] : ['name=apparmor']),
      ...(info.isRemapped ? ['name=userns'] : []),
    ],
    HttpProxy: '',
    HttpsProxy: '',
    NoProxy: '',
    Labels: [],
    ExperimentalBuild: false,
  };
}

/** Also what the /_ping header 'Swarm' says. */
export function swarmHeader(node: DaemonNode): string {
  const local = node.local();
  if (local.state !== 'active') return local.state;
  return `active/${local.role ?? 'worker'}`;
}

function swarmInfo(node: DaemonNode): object {
  const local = node.local();
  const base = {
    NodeID: local.nodeId,
    NodeAddr: local.address,
    LocalNodeState: local.state,
    Error: local.error,
    RemoteManagers:
      local.managers.length === 0
        ? null
        : local.managers.map((item) => ({ NodeID: item.nodeId, Addr: item.address })),
  };
  const control = controlIfManager(node);
  if (control === undefined) return { ...base, ControlAvailable: false };
  const { store } = control;
  const cluster = store.cluster();
  let managers = 0;
  for (const item of store.all('node')) if (item.role === 'manager') managers += 1;
  return {
    ...base,
    ControlAvailable: true,
    Nodes: store.count('node'),
    Managers: managers,
    ...(cluster === undefined ? {} : { Cluster: clusterToDocker(cluster) }),
  };
}

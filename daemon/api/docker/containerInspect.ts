/**
 * A container as Docker's JSON: GET /containers/{id}/json and the lines of GET /containers/json.
 */
import { formatAge } from '../../../base/duration.ts';
import { labelsInForce } from '../../../runtime/container/labels.ts';
import type {
  Container,
  ContainerConfig,
  SecurityLabel,
} from '../../../runtime/container/types.ts';
import { familiarReference } from '../../../runtime/image/reference.ts';
import type { Image } from '../../../runtime/image/types.ts';
import { hasAppArmor } from '../../../runtime/sys/apparmor.ts';
import { exposedPorts } from '../../containers/plan.ts';
import type { ContainerView, MountPoint } from '../../containers/types.ts';
import { nanoseconds, STORAGE_DRIVER, timeOf } from './common.ts';
import { endpointToDocker, networkSettingsToDocker, portListToDocker } from './containerNetwork.ts';
import { HOST_CONFIG_DEFAULTS } from './hostConfig.ts';

/** Sizes of a container's files, when asked for. */
export interface Sizes {
  readonly rwBytes: number;
  readonly rootBytes: number;
}

export function containerToDocker(
  view: ContainerView,
  image: Image | undefined,
  sizes: Sizes | undefined,
): object {
  const { config } = view.container;
  const [path = '', ...args] = config.args;
  const hostConfig = hostConfigOf(view);
  return {
    Id: config.id,
    Created: timeOf(view.createdAtMs),
    Path: path,
    Args: args,
    State: stateOf(view),
    Image: config.image.id,
    ResolvConfPath: config.resolvConfFile ?? '',
    HostnamePath: config.hostnameFile ?? '',
    HostsPath: config.hostsFile ?? '',
    LogPath: '',
    Name: `/${config.name}`,
    RestartCount: view.restartCount,
    Driver: STORAGE_DRIVER,
    Platform: 'linux',
    // Layers are mounted without a label of their own.
    MountLabel: '',
    ProcessLabel: labelOf(view.container, 'selinux'),
    AppArmorProfile: labelOf(view.container, 'apparmor') || (hasAppArmor() ? 'unconfined' : ''),
    ExecIDs: view.execIds.length === 0 ? null : view.execIds,
    HostConfig: hostConfig,
    GraphDriver: {
      Name: STORAGE_DRIVER,
      Data: { LowerDir: config.layers.toReversed().join(':') },
    },
    ...(sizes === undefined ? {} : { SizeRw: sizes.rwBytes, SizeRootFs: sizes.rootBytes }),
    Mounts: view.mounts.map(mountToDocker),
    Config: configOf(view, image),
    NetworkSettings: networkSettingsToDocker(view, exposedPorts(view.record?.spec, image)),
  };
}

function labelOf({ config, pid }: Container, wanted: SecurityLabel['kind']): string {
  return labelsInForce(config, pid).find(({ kind }) => kind === wanted)?.label ?? '';
}

function stateOf(view: ContainerView): object {
  const { status, health } = view;
  const isRunning = ['running', 'paused', 'restarting'].includes(status);
  return {
    Status: status,
    Running: isRunning,
    Paused: status === 'paused',
    Restarting: status === 'restarting',
    OOMKilled: view.oomKilled,
    Dead: status === 'dead',
    Pid: view.container.pid,
    ExitCode: view.exitCode,
    Error: view.error,
    StartedAt: timeOf(view.startedAtMs),
    FinishedAt: timeOf(view.finishedAtMs),
    ...(health === undefined
      ? {}
      : {
          Health: {
            Status: health.status,
            FailingStreak: health.failingStreak,
            Log: health.results.map((result) => ({
              Start: timeOf(result.startedAtMs),
              End: timeOf(result.finishedAtMs),
              ExitCode: result.exitCode,
              Output: result.output,
            })),
          },
        }),
  };
}

/** As it was sent, with what has changed since and Docker's defaults for the rest. */
function hostConfigOf(view: ContainerView): object {
  const given = view.record?.hostConfig ?? hostConfigOfTask(view.container.config);
  const present = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== null && value !== undefined),
  );
  const merged: Record<string, unknown> = { ...HOST_CONFIG_DEFAULTS, ...present };
  merged['NetworkMode'] = view.networkMode;
  if (merged['ShmSize'] === 0) merged['ShmSize'] = HOST_CONFIG_DEFAULTS['ShmSize'];
  if (merged['IpcMode'] === '') merged['IpcMode'] = HOST_CONFIG_DEFAULTS['IpcMode'];
  if (merged['Runtime'] === '') merged['Runtime'] = HOST_CONFIG_DEFAULTS['Runtime'];
  if (merged['CgroupnsMode'] === '') merged['CgroupnsMode'] = 'private';
  const { log, resources } = view.container.config;
  merged['LogConfig'] = { ...asObject(merged['LogConfig']), Type: log.driver ?? 'local' };
  const links = view.record?.spec.links ?? [];
  if (links.length > 0) {
    const { name: own } = view.container.config;
    merged['Links'] = links.map(({ name, alias }) => `/${name}:/${own}/${alias}`);
  }
  const restart = view.record?.spec.restart;
  if (restart !== undefined) {
    const { name, maximumRetries } = restart;
    merged['RestartPolicy'] = { Name: name, MaximumRetryCount: maximumRetries };
  }
  return { ...merged, ...limitsOf(resources, present) };
}

/** No request was sent for a task's container: what it has been made with. */
function hostConfigOfTask(config: ContainerConfig): Readonly<Record<string, unknown>> {
  const { capabilityAdd = [], capabilityDrop = [], additionalGroups = [], sysctls = {} } = config;
  const limits = config.resourceLimits ?? [];
  return {
    ...(capabilityAdd.length === 0 ? {} : { CapAdd: capabilityAdd }),
    ...(capabilityDrop.length === 0 ? {} : { CapDrop: capabilityDrop }),
    ...(additionalGroups.length === 0 ? {} : { GroupAdd: additionalGroups }),
    ...(Object.keys(sysctls).length === 0 ? {} : { Sysctls: sysctls }),
    ...(config.init === undefined ? {} : { Init: config.init }),
    OomScoreAdj: config.oomScoreAdjust ?? 0,
    ReadonlyRootfs: config.readOnlyRoot ?? false,
    Ulimits: limits.map(({ name, soft, hard }) => ({ Name: name, Hard: hard, Soft: soft })),
  };
}

function asObject(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {};
}

/** What an update may have changed. */
function limitsOf(
  resources: ContainerView['container']['config']['resources'],
  given: Readonly<Record<string, unknown>>,
): object {
  const { memoryBytes, memorySwapBytes, memoryReservationBytes, nanoCpus, cpuShares } = resources;
  const { cpuPeriodUs } = resources;
  const usesQuota =
    cpuPeriodUs !== undefined || (typeof given['CpuQuota'] === 'number' && given['CpuQuota'] > 0);
  return {
    ...(memoryBytes === undefined ? {} : { Memory: memoryBytes }),
    ...(memorySwapBytes === undefined ? {} : { MemorySwap: memorySwapBytes }),
    ...(memoryReservationBytes === undefined ? {} : { MemoryReservation: memoryReservationBytes }),
    ...(nanoCpus === undefined || usesQuota ? {} : { NanoCpus: nanoCpus }),
    ...(cpuPeriodUs === undefined ? {} : { CpuPeriod: cpuPeriodUs }),
    ...(nanoCpus === undefined || cpuPeriodUs === undefined
      ? {}
      : { CpuQuota: Math.round((nanoCpus * cpuPeriodUs) / 1e9) }),
    ...(cpuShares === undefined ? {} : { CpuShares: cpuShares }),
    ...(resources.pids === undefined ? {} : { PidsLimit: resources.pids }),
    ...(resources.cpusetCpus === undefined ? {} : { CpusetCpus: resources.cpusetCpus }),
    ...(resources.cpusetMems === undefined ? {} : { CpusetMems: resources.cpusetMems }),
    ...(resources.blkioWeight === undefined ? {} : { BlkioWeight: resources.blkioWeight }),
  };
}

export function configOf(
  view: ContainerView,
  image: Image | undefined,
): Readonly<Record<string, unknown>> {
  const { config } = view.container;
  const spec = view.record?.spec;
  const exposed = exposedPorts(view.record?.spec, image);
  const entrypoint = spec?.entrypoint ?? image?.config.entrypoint ?? [];
  const command =
    spec === undefined
      ? config.args.slice(entrypoint.length)
      : (spec.command ?? (spec.entrypoint === undefined ? (image?.config.cmd ?? []) : []));
  const volumes = [...(image?.config.volumes ?? []), ...(spec?.anonymousVolumes ?? [])];
  const check = config.healthCheck ?? spec?.healthCheck;
  return {
    Hostname: config.hostname,
    Domainname: config.domainName ?? '',
    User: config.user,
    AttachStdin: spec?.openStdin ?? false,
    AttachStdout: spec !== undefined,
    AttachStderr: spec !== undefined,
    ...(exposed.length === 0
      ? {}
      : { ExposedPorts: Object.fromEntries(exposed.map((port) => [port, {}])) }),
    Tty: config.tty ?? false,
    OpenStdin: config.openStdin ?? false,
    StdinOnce: config.stdinOnce ?? false,
    Env: spec === undefined ? config.env : shownEnv(spec.env, image?.config.env ?? []),
    Cmd: command.length === 0 ? null : command,
    ...(check === undefined
      ? {}
      : {
          Healthcheck: {
            Test: check.test,
            Interval: nanoseconds(check.intervalMs),
            Timeout: nanoseconds(check.timeoutMs),
            StartPeriod: nanoseconds(check.startPeriodMs),
            StartInterval: nanoseconds(check.startIntervalMs),
            Retries: check.retries,
          },
        }),
    Image: config.image.reference,
    Volumes:
      volumes.length === 0 ? null : Object.fromEntries(volumes.map((volume) => [volume, {}])),
    WorkingDir: config.workingDir,
    Entrypoint: entrypoint.length === 0 ? null : entrypoint,
    OnBuild: null,
    Labels: config.labels,
    ...(spec?.stopSignal ? { StopSignal: spec.stopSignal } : {}),
    ...(spec?.stopTimeoutS === undefined ? {} : { StopTimeout: spec.stopTimeoutS }),
  };
}

/** As given, a name without value too; then what the image adds. */
function shownEnv(given: readonly string[], image: readonly string[]): readonly string[] {
  const nameOf = (entry: string): string => entry.split('=', 1)[0];
  const names = new Set(given.map(nameOf));
  return [...given, ...image.filter((entry) => !names.has(nameOf(entry)))];
}

export function mountToDocker(mount: MountPoint): object {
  return {
    Type: mount.type,
    ...(mount.type === 'volume' ? { Name: mount.name } : {}),
    Source: mount.source,
    Destination: mount.target,
    ...(mount.type === 'volume' ? { Driver: 'local' } : {}),
    Mode: mount.mode,
    RW: !mount.readOnly,
    Propagation: mount.propagation,
  };
}

/** One line of GET /containers/json. */
export function summaryToDocker(
  view: ContainerView,
  image: Image | undefined,
  nowMs: number,
  sizes: Sizes | undefined,
): object {
  const { config } = view.container;
  return {
    Id: config.id,
    Names: [`/${config.name}`],
    Image: imageName(view, image),
    ImageID: config.image.id,
    Command: commandText(config.args),
    Created: Math.floor(view.createdAtMs / 1000),
    Ports: portListToDocker(view.ports, exposedPorts(view.record?.spec, image)),
    ...(sizes === undefined ? {} : { SizeRw: sizes.rwBytes, SizeRootFs: sizes.rootBytes }),
    Labels: config.labels,
    State: view.status,
    Status: statusText(view, nowMs),
    HostConfig: { NetworkMode: view.networkMode },
    NetworkSettings: {
      Networks: Object.fromEntries(
        view.networks.map((network) => [network.networkName, endpointToDocker(network)]),
      ),
    },
    Mounts: view.mounts.map(mountToDocker),
  };
}

/** An image that has lost the name it was made by is told by its id. */
function imageName(view: ContainerView, image: Image | undefined): string {
  const { reference } = view.container.config.image;
  if (image !== undefined) return familiarReference(reference);
  return view.container.config.image.id;
}

/** The program and its arguments as a shell would show them. */
function commandText(args: readonly string[]): string {
  return args
    .map((arg) => (arg === '' || /[\s"'\\]/.test(arg) ? `'${arg.replaceAll("'", "'\\''")}'` : arg))
    .join(' ');
}

/** Docker's words: 'Up 5 seconds (healthy)', 'Exited (0) 3 minutes ago'. */
export function statusText(view: ContainerView, nowMs: number): string {
  const sinceEnd = formatAge(Math.max(0, nowMs - view.finishedAtMs));
  switch (view.status) {
    case 'created':
      return 'Created';
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    case 'restarting':
      return `Restarting (${view.exitCode}) ${sinceEnd} ago`;
    case 'exited':
      // One that could never be started has no end to count from.
      if (view.finishedAtMs === 0)
        return view.error === '' ? 'Created' : `Exited (${view.exitCode})`;
      return `Exited (${view.exitCode}) ${sinceEnd} ago`;
    case 'paused':
    case 'running': {
      const up = `Up ${formatAge(Math.max(0, nowMs - view.startedAtMs))}`;
      if (view.status === 'paused') return `${up} (Paused)`;
      if (view.health === undefined) return up;
      const { status } = view.health;
      return `${up} (${status === 'starting' ? 'health: starting' : status})`;
    }
  }
}

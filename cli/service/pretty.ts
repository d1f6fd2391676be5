/**
 * A service for people (inspect --pretty): what was asked of it, section by section as docker's,
 * and what its last update came to. Sections with nothing in them are left out.
 */
import { formatBytes } from '../../base/bytes.ts';
import { formatAge, formatDuration, nanosecondsToMs } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Context } from '../context.ts';
import type {
  ContainerSpecJson,
  FileTargetJson,
  MountJson,
  NetworkJson,
  PortJson,
  ResourcesJson,
  ServiceJson,
  UpdateConfigJson,
} from '../docker.ts';

const NANO = 1_000_000_000;
const LABEL_WIDTH = 18;

/** One line, or a section with lines of its own. */
type Line = readonly [string, string | number | boolean | undefined] | Section;

interface Section {
  readonly title: string;
  readonly lines: readonly Line[];
}

function isSection(line: Line): line is Section {
  return !Array.isArray(line);
}

function render(lines: readonly Line[], depth = 0): string {
  const indent = ' '.repeat(depth);
  return lines
    .map((line) => {
      if (isSection(line)) {
        const inner = render(line.lines, depth + 1);
        return inner === '' ? '' : `${indent}${line.title}:\n${inner}`;
      }
      const [label, value] = line;
      if (value === undefined || value === '') return '';
      const head = label === '' ? '' : `${`${label}:`.padEnd(LABEL_WIDTH)} `;
      return `${indent}${head}${value}\n`;
    })
    .join('');
}

function section(title: string, lines: readonly Line[]): Section {
  return { title, lines };
}

function bare(texts: readonly string[] | undefined): Line[] {
  return (texts ?? []).map((text): Line => ['', text]);
}

function duration(nanoseconds: number | undefined): string | undefined {
  return nanoseconds === undefined ? undefined : formatDuration(nanosecondsToMs(nanoseconds));
}

function labels(map: Readonly<Record<string, string>> | undefined): Line[] {
  return bare(Object.entries(map ?? {}).map(([key, value]) => `${key}=${value}`));
}

function words(list: readonly string[] | undefined): string | undefined {
  return list === undefined || list.length === 0 ? undefined : list.join(' ');
}

function mode({ Mode }: ServiceJson['Spec']): Line[] {
  const job = Mode?.ReplicatedJob;
  if (job !== undefined) {
    return [
      ['Service Mode', 'ReplicatedJob'],
      [' Max Concurrent', job.MaxConcurrent],
      [' Total Completions', job.TotalCompletions],
    ];
  }
  if (Mode?.GlobalJob !== undefined) return [['Service Mode', 'GlobalJob']];
  if (Mode?.Global !== undefined) return [['Service Mode', 'Global']];
  return [
    ['Service Mode', 'Replicated'],
    [' Replicas', Mode?.Replicated?.Replicas],
  ];
}

function update(title: string, config: UpdateConfigJson | undefined): Section {
  return section(title, [
    ['Parallelism', config?.Parallelism],
    ['Delay', config?.Delay === 0 ? undefined : duration(config?.Delay)],
    ['On failure', config?.FailureAction],
    ['Monitoring Period', duration(config?.Monitor)],
    ['Max failure ratio', config?.MaxFailureRatio],
    [title === 'UpdateConfig' ? 'Update order' : 'Rollback order', config?.Order],
    ['Progress deadline', duration(config?.ProgressDeadline)],
  ]);
}

function mount(item: MountJson): Section {
  return section(`Target ${item.Target}`, [
    ['Source', item.Source],
    ['ReadOnly', item.ReadOnly === true],
    ['Type', item.Type],
    ['Propagation', item.BindOptions?.Propagation],
    ['Driver', item.VolumeOptions?.DriverConfig?.Name],
    ['Size', sizeOf(item.TmpfsOptions?.SizeBytes)],
  ]);
}

function sizeOf(bytes: number | undefined): string | undefined {
  return bytes === undefined || bytes === 0 ? undefined : formatBytes(bytes);
}

function fileUse(source: string, file: FileTargetJson): Section {
  return section(`Target ${file.Name}`, [
    ['Source', source],
    ['Owner', `${file.UID}:${file.GID}`],
    ['Mode', `0${file.Mode.toString(8)}`],
  ]);
}

function container(spec: ContainerSpecJson): Line[] {
  const { Healthcheck: health, DNSConfig: dns } = spec;
  return [
    section('ContainerSpec', [
      ['Image', spec.Image],
      ['Command', words(spec.Command)],
      ['Args', words(spec.Args)],
      ['Env', words(spec.Env)],
      ['Dir', spec.Dir],
      ['Hostname', spec.Hostname],
      ['User', spec.User],
      ['Groups', words(spec.Groups)],
      ['Init', spec.Init],
      ['TTY', spec.TTY === true ? true : undefined],
      ['Read only', spec.ReadOnly === true ? true : undefined],
      ['Stop signal', spec.StopSignal],
      ['Stop grace', duration(spec.StopGracePeriod)],
      ['Hosts', spec.Hosts?.join(', ')],
      ['DNS servers', words(dns?.Nameservers)],
      ['DNS search', words(dns?.Search)],
      ['DNS options', words(dns?.Options)],
      ['Capabilities', capabilities(spec)],
      ['Ulimits', words(spec.Ulimits?.map((limit) => `${limit.Name}=${limit.Soft}:${limit.Hard}`))],
      [
        'Sysctls',
        words(Object.entries(spec.Sysctls ?? {}).map(([key, value]) => `${key}=${value}`)),
      ],
      ['User namespace', spec.UsernsMode],
      ['OOM score', spec.OomScoreAdj === 0 ? undefined : spec.OomScoreAdj],
      section('Labels', labels(spec.Labels)),
    ]),
    section('Healthcheck', [
      ['Test', words(health?.Test)],
      ['Interval', duration(health?.Interval)],
      ['Timeout', duration(health?.Timeout)],
      ['Start period', duration(health?.StartPeriod)],
      ['Start interval', duration(health?.StartInterval)],
      ['Retries', health?.Retries],
    ]),
    section('Mounts', (spec.Mounts ?? []).map(mount)),
    section(
      'Configs',
      (spec.Configs ?? []).map((use) => fileUse(use.ConfigName, use.File)),
    ),
    section(
      'Secrets',
      (spec.Secrets ?? []).map((use) => fileUse(use.SecretName, use.File)),
    ),
  ];
}

function capabilities(spec: ContainerSpecJson): string | undefined {
  const added = (spec.CapabilityAdd ?? []).map((name) => `+${name}`);
  return words([...added, ...(spec.CapabilityDrop ?? []).map((name) => `-${name}`)]);
}

function resources(title: string, found: ResourcesJson | undefined): Section {
  return section(title, [
    ['CPU', found?.NanoCPUs === undefined ? undefined : found.NanoCPUs / NANO],
    ['Memory', sizeOf(found?.MemoryBytes)],
    ['Processes', found?.Pids],
    [
      'Generic',
      words(
        found?.GenericResources?.map((item) => {
          const one = item.DiscreteResourceSpec ?? item.NamedResourceSpec;
          return `${one?.Kind}=${one?.Value}`;
        }),
      ),
    ],
  ]);
}

function port(item: PortJson): Section {
  return section(`PublishedPort ${item.PublishedPort ?? 'none'}`, [
    ['Protocol', item.Protocol],
    ['TargetPort', item.TargetPort],
    ['PublishMode', item.PublishMode],
    ['Address', item.HostIP],
  ]);
}

function status(service: ServiceJson, nowMs: number): Section {
  const found = service.UpdateStatus;
  const ago = (time: string | undefined): string | undefined =>
    time === undefined || Date.parse(time) <= 0
      ? undefined
      : `${formatAge(nowMs - Date.parse(time))} ago`;
  return section('UpdateStatus', [
    ['State', found?.State],
    ['Started', ago(found?.StartedAt)],
    ['Completed', ago(found?.CompletedAt)],
    ['Message', found?.Message],
  ]);
}

/** `networks`: names by id. */
export function prettyService(
  service: ServiceJson,
  networks: ReadonlyMap<string, string>,
  nowMs: number,
): string {
  const { Spec, Endpoint } = service;
  const { Placement, RestartPolicy, Resources, LogDriver } = Spec.TaskTemplate;
  const nameOf = (id: string): string => networks.get(id) ?? id;
  return render([
    ['ID', service.ID],
    ['Name', Spec.Name],
    section('Labels', labels(Spec.Labels)),
    ...mode(Spec),
    status(service, nowMs),
    section('Placement', [
      ['Constraints', words(Placement?.Constraints)],
      [
        'Preferences',
        words(Placement?.Preferences?.map((item) => `spread=${item.Spread.SpreadDescriptor}`)),
      ],
      ['Max Replicas Per Node', Placement?.MaxReplicas],
      ['Platforms', words(Placement?.Platforms?.map((item) => `${item.OS}/${item.Architecture}`))],
    ]),
    update('UpdateConfig', Spec.UpdateConfig),
    update('RollbackConfig', Spec.RollbackConfig),
    section('RestartPolicy', [
      ['Condition', RestartPolicy?.Condition],
      ['Delay', duration(RestartPolicy?.Delay)],
      ['Max attempts', RestartPolicy?.MaxAttempts],
      ['Window', RestartPolicy?.Window === 0 ? undefined : duration(RestartPolicy?.Window)],
    ]),
    ...container(Spec.TaskTemplate.ContainerSpec),
    section('Log Driver', [
      ['Name', LogDriver?.Name],
      section('LogOpts', labels(LogDriver?.Options)),
    ]),
    section('Resources', [
      resources('Reservations', Resources?.Reservations),
      resources('Limits', Resources?.Limits),
    ]),
    section(
      'Networks',
      (Spec.TaskTemplate.Networks ?? []).map(({ Target, Aliases }): Line => {
        const address = Endpoint.VirtualIPs?.find((item) => item.NetworkID === Target)?.Addr;
        const aliases = words(Aliases);
        const more = [address ?? '', aliases === undefined ? '' : `aliases ${aliases}`];
        return ['', [nameOf(Target), ...more.filter((text) => text !== '')].join(', ')];
      }),
    ),
    ['Endpoint Mode', Spec.EndpointSpec?.Mode],
    section('Ports', (Endpoint.Ports ?? []).map(port)),
  ]);
}

/** Names of the networks that a service is on, by id. */
export async function networkNames(
  context: Context,
  { Spec }: ServiceJson,
): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const { Target } of Spec.TaskTemplate.Networks ?? []) {
    try {
      const path = `/networks/${encodeURIComponent(Target)}`;
      names.set(Target, (await context.client.get<NetworkJson>(path)).Name);
    } catch (error) {
      // It may be gone meanwhile: its id says enough.
      if (!(error instanceof SwarmError) || error.code !== 'not_found') throw error;
    }
  }
  return names;
}

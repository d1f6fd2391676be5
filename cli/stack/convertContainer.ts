/**
 * A service's container as the API takes it: environment, files, mounts, health, capabilities.
 * Pure.
 */
import type { ContainerSpecJson, HealthJson, MountJson } from '../docker.ts';
import { canonicalCapability } from '../service/capabilities.ts';
import { byText, defined, named, nanoseconds, stackLabels } from './names.ts';
import { wrong } from './read.ts';
import { tmpfsMount } from './shorts.ts';
import type {
  StackFile,
  StackFileObject,
  StackFileUse,
  StackHealth,
  StackMount,
  StackService,
} from './types.ts';

const DEFAULT_FILE_MODE = 0o444;

interface FileUse {
  readonly name: string;
  readonly file: { Name: string; UID: string; GID: string; Mode: number };
}

function fileUses(
  stack: string,
  uses: readonly StackFileUse[] | undefined,
  objects: Readonly<Record<string, StackFileObject>>,
  path: string,
): FileUse[] {
  return (uses ?? [])
    .map((use, at) => {
      if (!Object.hasOwn(objects, use.source)) {
        const what = path.slice(path.lastIndexOf('.') + 1);
        throw wrong(`${path}[${at}]`, `"${use.source}" is not among the ${what} of the file`);
      }
      const file = {
        Name: use.target ?? use.source,
        UID: use.uid ?? '0',
        GID: use.gid ?? '0',
        Mode: use.mode ?? DEFAULT_FILE_MODE,
      };
      return { name: named(stack, use.source, objects[use.source]), file };
    })
    .sort((left, right) => byText(left.name, right.name));
}

export function convertContainer(
  stack: string,
  file: StackFile,
  key: string,
  service: StackService,
): ContainerSpecJson {
  const path = `services.${key}`;
  const secrets = fileUses(stack, service.secrets, file.secrets, `${path}.secrets`);
  const configs = fileUses(stack, service.configs, file.configs, `${path}.configs`);
  const tmpfs = (service.tmpfs ?? []).map((text, at) => tmpfsMount(text, `${path}.tmpfs[${at}]`));
  const mounts = [...(service.volumes ?? []), ...tmpfs];
  const dns = defined({
    Nameservers: copy(service.dns),
    Search: copy(service.dns_search),
    Options: copy(service.dns_opt),
  });
  return {
    Image: service.image ?? '',
    Labels: stackLabels(stack, service.labels),
    ...defined({
      Command: copy(service.entrypoint),
      Args: copy(service.command),
      Hostname: service.hostname,
      Env: environment(service),
      Dir: service.working_dir,
      User: service.user,
      Groups: copy(service.group_add),
      Init: service.init,
      StopSignal: service.stop_signal,
      TTY: service.tty,
      OpenStdin: service.stdin_open,
      ReadOnly: service.read_only,
      StopGracePeriod: nanoseconds(service.stop_grace_period),
      Healthcheck: convertHealth(service.healthcheck),
      Hosts: service.extra_hosts?.map((line) => {
        const colon = line.indexOf(':');
        return `${line.slice(colon + 1)} ${line.slice(0, colon)}`;
      }),
      Isolation: service.isolation,
      Sysctls: service.sysctls === undefined ? undefined : { ...service.sysctls },
      OomScoreAdj: service.oom_score_adj,
      Ulimits: ulimits(service),
    }),
    ...(mounts.length === 0
      ? {}
      : { Mounts: mounts.map((mount, at) => convertMount(stack, file, mount, path, at)) }),
    ...(Object.keys(dns).length === 0 ? {} : { DNSConfig: dns }),
    ...(secrets.length === 0
      ? {}
      : {
          Secrets: secrets.map((use) => ({ File: use.file, SecretID: '', SecretName: use.name })),
        }),
    ...(configs.length === 0
      ? {}
      : {
          Configs: configs.map((use) => ({ File: use.file, ConfigID: '', ConfigName: use.name })),
        }),
    ...privileges(service.security_opt),
    ...capabilities(service),
  };
}

function privileges(options: readonly string[] = []): { Privileges?: object } {
  const noNew = options.findLast((item) => item.startsWith('no-new-privileges'));
  const seccomp = options.findLast((item) => item.startsWith(SECCOMP))?.slice(SECCOMP.length);
  const context = Object.assign({}, ...options.map(labelOf));
  const found = {
    ...(noNew === undefined ? {} : { NoNewPrivileges: !noNew.endsWith('false') }),
    ...(seccomp === undefined ? {} : { Seccomp: seccompOf(seccomp) }),
    ...(options.includes('apparmor:unconfined') ? { AppArmor: { Mode: 'disabled' } } : {}),
    ...(Object.keys(context).length === 0 ? {} : { SELinuxContext: context }),
  };
  return Object.keys(found).length === 0 ? {} : { Privileges: found };
}

const SECCOMP = 'seccomp:';

/** A file's text stands where its name was: load.ts has read it. */
function seccompOf(text: string): object {
  if (text === 'unconfined') return { Mode: text };
  return { Mode: 'custom', Profile: Buffer.from(text).toString('base64') };
}

/** 'label:type:box_t' */
function labelOf(option: string): Readonly<Record<string, string | boolean>> {
  if (option === 'label:disable') return { Disable: true };
  const [, part = '', text = ''] = /^label:(\w+):(.*)$/.exec(option) ?? [];
  return part === '' ? {} : { [`${part.charAt(0).toUpperCase()}${part.slice(1)}`]: text };
}

function copy<T>(list: readonly T[] | undefined): T[] | undefined {
  return list === undefined ? undefined : [...list];
}

function environment(service: StackService): string[] | undefined {
  if (service.environment === undefined) return undefined;
  return Object.entries(service.environment)
    .map(([name, value]) => (value === null ? name : `${name}=${value}`))
    .sort(byText);
}

function ulimits(service: StackService): ContainerSpecJson['Ulimits'] {
  if (service.ulimits === undefined) return undefined;
  return Object.entries(service.ulimits)
    .map(([Name, limit]) => ({ Name, Hard: limit.hard, Soft: limit.soft }))
    .sort((left, right) => byText(left.Name, right.Name));
}

/** What is added is not dropped too. */
function capabilities(service: StackService): ContainerSpecJson | object {
  const canonical = (names: readonly string[] | undefined): string[] =>
    [...new Set((names ?? []).map(canonicalCapability))].sort(byText);
  const all = canonical(service.cap_add);
  const add = all.includes('ALL') ? ['ALL'] : all;
  const dropped = canonical(service.cap_drop);
  const drop = dropped.includes('ALL') ? ['ALL'] : dropped.filter((name) => !add.includes(name));
  return {
    ...(add.length === 0 ? {} : { CapabilityAdd: add }),
    ...(drop.length === 0 ? {} : { CapabilityDrop: drop }),
  };
}

function convertHealth(health: StackHealth | undefined): HealthJson | undefined {
  if (health === undefined) return undefined;
  if (health.disable === true) return { Test: ['NONE'] };
  return defined({
    Test: copy(health.test),
    Interval: nanoseconds(health.interval),
    Timeout: nanoseconds(health.timeout),
    StartPeriod: nanoseconds(health.start_period),
    StartInterval: nanoseconds(health.start_interval),
    Retries: health.retries,
  });
}

function convertMount(
  stack: string,
  file: StackFile,
  mount: StackMount,
  service: string,
  at: number,
): MountJson {
  const base: MountJson = {
    Type: mount.type,
    ...(mount.source === undefined ? {} : { Source: mount.source }),
    Target: mount.target,
    ...(mount.read_only === true ? { ReadOnly: true } : {}),
  };
  if (mount.type === 'bind') {
    const propagation = mount.bind?.propagation;
    const isMade = mount.bind?.create_host_path === true;
    if (propagation === undefined && !isMade) return base;
    return {
      ...base,
      BindOptions: defined({
        Propagation: propagation,
        CreateMountpoint: isMade ? true : undefined,
      }),
    };
  }
  if (mount.type === 'tmpfs') {
    const { size, mode } = mount.tmpfs ?? {};
    if (size === undefined && mode === undefined) return base;
    return { ...base, TmpfsOptions: defined({ SizeBytes: size, Mode: mode }) };
  }
  if (mount.source === undefined) return base;
  if (!Object.hasOwn(file.volumes, mount.source)) {
    const path = `${service}.volumes[${at}]`;
    throw wrong(path, `"${mount.source}" is not among the volumes of the file`);
  }
  const volume = file.volumes[mount.source];
  const own = defined({ NoCopy: mount.volume?.nocopy, Subpath: mount.volume?.subpath });
  if (volume.external === true) {
    return { ...base, Source: volume.name ?? mount.source, VolumeOptions: own };
  }
  return {
    ...base,
    Source: named(stack, mount.source, volume),
    VolumeOptions: {
      ...own,
      Labels: stackLabels(stack, volume.labels),
      ...(volume.driver === undefined && volume.driver_opts === undefined
        ? {}
        : {
            DriverConfig: {
              ...defined({ Name: volume.driver }),
              ...defined({
                Options: volume.driver_opts === undefined ? undefined : { ...volume.driver_opts },
              }),
            },
          }),
    },
  };
}
